//! The client, by the bytes that it puts on the wire. The server is scripted: it reads requests and
//! sends the responses that the test specifies.

use std::sync::Arc;
use std::time::Duration;

use engine::domain::{Day, UnixMillis};
use loadgen::client::{Caller, Protocol, Target};
use loadgen::load::{RunOptions, RunReport, send_prepared};
use loadgen::participants::{read_identity, read_server_ca};
use loadgen::workload::Workload;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::{Key, Pki, country, openssl, pki};

const CREATED: &str = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
const NOT_NOW: &str =
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n";

/// What the scripted server does with a request.
#[derive(Clone, Copy)]
enum Act {
    Answer(&'static str),
    HangUp,
}

/// A received request: its head and its body.
struct Seen {
    connection: usize,
    head: String,
    body: Vec<u8>,
}

/// Reads one request; `None` when the connection ends.
pub(crate) async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

/// Serves one connection after the other until the script ends.
async fn play(listener: TcpListener, tls: Option<TlsAcceptor>, script: Vec<Act>) -> Vec<Seen> {
    let mut script = script.into_iter().peekable();
    let mut seen = Vec::new();
    let mut connection = 0;
    while script.peek().is_some() {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut stream: Box<dyn Duplex> = match &tls {
            Some(tls) => Box::new(tls.accept(tcp).await.unwrap()),
            None => Box::new(tcp),
        };
        while let Some((head, body)) = read_request(&mut stream).await {
            seen.push(Seen {
                connection,
                head,
                body,
            });
            match script.next() {
                Some(Act::Answer(answer)) => stream.write_all(answer.as_bytes()).await.unwrap(),
                Some(Act::HangUp) | None => break,
            }
        }
        connection += 1;
    }
    seen
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// TLS for localhost that demands the authentication certificate of DE.
fn acceptor(pki: &Pki) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(pki.participants[0].authentication.chain[0].clone())
        .unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    let server = read_identity(pki.folder.path(), "server").unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(server.chain, server.key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Two uploads of DE, on one connection, against a script.
async fn run(pki: &Pki, tls: bool, script: &[Act]) -> (RunReport, Vec<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tls.then(|| acceptor(pki));
    let server = tokio::spawn(play(listener, acceptor, script.to_vec()));
    let day = Day::parse_iso("2021-06-01").unwrap();
    let workload = Workload::new(5, 20, day, &[(country("DE"), 30)]);
    let uploads = workload
        .prepare(&pki.participants, UnixMillis(0), |_| ())
        .unwrap();
    let server_ca = read_server_ca(pki.folder.path()).unwrap();
    let caller = Caller::new(&pki.participants[0], &server_ca, Protocol::Http1).unwrap();
    let options = RunOptions {
        targets: vec![Target {
            tls,
            host: "127.0.0.1".to_owned(),
            port,
        }],
        connections: 1,
        timeout: Duration::from_secs(20),
        retry_for: Duration::from_secs(20),
    };
    let callers = [Arc::new(caller)];
    let report = send_prepared(&callers, uploads, &options, None);
    let report = report.await.unwrap();
    (report, server.await.unwrap())
}

#[tokio::test]
async fn writes_header_names_in_the_protocols_case_over_mutual_tls() {
    let pki = pki(&[("DE", Key::P256)]);
    let (report, seen) = run(&pki, true, &[Act::Answer(CREATED), Act::Answer(CREATED)]).await;
    assert_eq!((report.uploads_stored, report.keys_stored), (2, 30));
    let head = &seen[0].head;
    assert!(
        head.starts_with("POST /diagnosiskeys/upload HTTP/1.1\r\n"),
        "{head}"
    );
    for line in [
        "\r\nContent-Type: application/protobuf; version=1.0\r\n",
        "\r\nbatchTag: 20210601-5-1e-14-0\r\n",
        "\r\nbatchSignature: MII",
        "\r\nHost: 127.0.0.1:",
    ] {
        assert!(head.contains(line), "{line:?} in {head}");
    }
    assert!(
        !head.contains("X-SSL"),
        "identity headers are for proxies: {head}"
    );
    assert!(
        seen.iter().all(|seen| seen.connection == 0),
        "the connection is kept"
    );
}

#[tokio::test]
async fn retries_unchanged_after_503_and_after_a_broken_connection() {
    let pki = pki(&[("DE", Key::P256)]);
    let script = [
        Act::Answer(NOT_NOW),
        Act::Answer(CREATED),
        Act::HangUp,
        Act::Answer(CREATED),
    ];
    let (report, seen) = run(&pki, true, &script).await;
    assert_eq!((report.uploads_stored, report.uploads_failed), (2, 0));
    let statuses: Vec<_> = report.statuses.into_iter().collect();
    assert_eq!(statuses, [(None, 1), (Some(201), 2), (Some(503), 1)]);
    for (again, first) in [(1, 0), (3, 2)] {
        assert_eq!(seen[again].head, seen[first].head);
        assert_eq!(seen[again].body, seen[first].body);
    }
    assert_ne!(seen[2].body, seen[0].body);
    assert!(report.latency_micros.p50 > 0);
    let connections: Vec<_> = seen.iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 0, 0, 1]);
}

#[tokio::test]
async fn does_not_retry_a_refused_upload() {
    let pki = pki(&[("DE", Key::P256)]);
    let refused = "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}";
    let (report, seen) = run(&pki, true, &[Act::Answer(refused), Act::Answer(CREATED)]).await;
    assert_eq!(
        (report.uploads_stored, report.uploads_failed, seen.len()),
        (1, 1, 2)
    );
    let unexpected = &report.unexpected["run/uploads: upload answered 400"];
    assert_eq!((unexpected.count, unexpected.example.as_str()), (1, "{}"));
}

#[tokio::test]
async fn sends_identity_headers_behind_a_proxy_that_terminates_tls() {
    let pki = pki(&[("DE", Key::P256)]);
    let (_, seen) = run(&pki, false, &[Act::Answer(CREATED), Act::Answer(CREATED)]).await;
    let path = pki.folder.path().join("DE/authentication.pem");
    let path = path.to_str().unwrap();
    let output = openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", path]);
    let fingerprint = String::from_utf8(output.stdout).unwrap();
    let digits = fingerprint
        .trim()
        .rsplit('=')
        .next()
        .unwrap()
        .replace(':', "");
    let head = &seen[0].head;
    let expected = format!("\r\nX-SSL-Client-SHA256: {}\r\n", digits.to_lowercase());
    assert!(head.contains(&expected), "{expected:?} in {head}");
    assert!(head.contains("\r\nX-SSL-Client-DN: C=DE\r\n"), "{head}");
}
