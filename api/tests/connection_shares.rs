//! Connections are shared: anyone who opens all they can closes their own, and locks out nobody.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cli_support;
mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use api::settings::ConnectionSettings;
use cli_support::Installation;
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use support::{Gateway, Raw, TODAY, get, read};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const FEW: ConnectionSettings = ConnectionSettings {
    per_port_max: 8,
    per_participant_max: 4,
    unidentified_max: 4,
    operations_max: 4,
};

async fn start() -> Gateway {
    Gateway::start_with(|_, server| {
        server.connections = FEW;
        // Not what closes a connection here.
        server.stall_timeout = Duration::from_secs(300);
    })
    .await
}

/// A participant's connection, over mutual TLS.
struct Secure(TlsStream<TcpStream>);

impl Secure {
    async fn connect(gateway: &Gateway, code: &str) -> Self {
        let pem = read(&format!("pki/{code}/{code}-authentication.pem"));
        let key = read(&format!("keys/TEST-ONLY-{code}-authentication.key.pem"));
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
        let shown = CertifiedKey::new(chain, key);
        Self(gateway.tls_showing(&TLS13, Some(shown)).await.unwrap())
    }

    /// Whether a request is answered on it.
    async fn answers(&mut self) -> bool {
        let request = format!("GET /diagnosiskeys/download/{TODAY} HTTP/1.1\r\nHost: g\r\n\r\n");
        if self.0.write_all(request.as_bytes()).await.is_err() {
            return false;
        }
        let mut answer = vec![0; 4096];
        let read = self.0.read(&mut answer).await.unwrap_or(0);
        let is_answer = answer[..read].starts_with(b"HTTP/1.1 404 ");
        assert!(is_answer || read == 0, "{:?}", String::from_utf8(answer));
        is_answer
    }
}

/// The value of a metric.
async fn metric(gateway: &Gateway, line: &str) -> u64 {
    let mut raw = gateway.operations().await;
    let answer = raw.get("GET /metrics HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let text = String::from_utf8(answer.body).unwrap();
    let mut lines = text.lines();
    let value = lines.find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[tokio::test]
async fn closes_a_participants_own_connections_beyond_its_share() {
    let gateway = start().await;
    let mut it = Secure::connect(&gateway, "IT").await;
    assert!(it.answers().await);
    let mut de = Vec::new();
    for _ in 0..12 {
        let mut connection = Secure::connect(&gateway, "DE").await;
        assert!(connection.answers().await, "a new one always gets a place");
        de.push(connection);
    }
    let mut open = 0;
    for (at, connection) in de.iter_mut().enumerate() {
        let answers = connection.answers().await;
        assert_eq!(answers, at >= 8, "the {at}th");
        open += usize::from(answers);
    }
    assert_eq!(open, 4);
    assert!(it.answers().await, "the others keep theirs");
    let mut es = Secure::connect(&gateway, "ES").await;
    assert!(es.answers().await);
    let displaced = "efgs_connections_displaced_total{bound=\"participant\"}";
    assert!(metric(&gateway, displaced).await >= 8);
}

#[tokio::test]
async fn gives_peers_without_a_certificate_a_small_share() {
    let gateway = start().await;
    let mut it = Secure::connect(&gateway, "IT").await;
    assert!(it.answers().await);
    let public = gateway.addresses.public.unwrap();
    // In the handshake, and after it.
    let mut handshakes = Vec::new();
    for _ in 0..30 {
        handshakes.push(Raw::connect(public).await);
    }
    let mut strangers = Vec::new();
    for _ in 0..6 {
        strangers.push(gateway.tls_without_certificate(&TLS13).await);
    }
    for handshake in &mut handshakes {
        handshake.until_closed().await;
    }
    let mut de = Secure::connect(&gateway, "DE").await;
    assert!(de.answers().await, "strangers lock out nobody");
    assert!(it.answers().await, "nor close what a participant has");
    let displaced = "efgs_connections_displaced_total{bound=\"unidentified\"}";
    assert!(metric(&gateway, displaced).await >= 30);
}

/// A header of the PROXY protocol for a client (section 2.2), of version 2.
fn forwarded_for(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(client);
    header.extend([10, 0, 0, 1, 0x30, 0x39, 0x20, 0xfb]);
    header
}

/// A client of a load balancer, without a certificate, after its handshake.
async fn forwarded(gateway: &Gateway, client: [u8; 4]) -> TlsStream<TcpStream> {
    let mut tcp = TcpStream::connect(gateway.addresses.public.unwrap())
        .await
        .unwrap();
    tcp.write_all(&forwarded_for(client)).await.unwrap();
    gateway.tls_over(tcp, &TLS13, None).await.unwrap()
}

async fn is_answered(tls: &mut TlsStream<TcpStream>) -> bool {
    let request = b"GET / HTTP/1.1\r\nHost: g\r\n\r\n";
    let mut answer = [0; 4096];
    tls.write_all(request).await.is_ok() && tls.read(&mut answer).await.unwrap_or(0) > 0
}

async fn start_behind(balancer: &str) -> Gateway {
    Gateway::start_with(|_, server| {
        server.connections = FEW;
        server.stall_timeout = Duration::from_secs(300);
        server.proxy_protocol_from = vec![balancer.parse().unwrap()];
    })
    .await
}

#[tokio::test]
async fn counts_the_clients_of_a_load_balancer_by_their_own_addresses() {
    let gateway = start_behind("127.0.0.0/8").await;
    let mut quiet = forwarded(&gateway, [192, 0, 2, 1]).await;
    let mut flood = Vec::new();
    for _ in 0..20 {
        flood.push(forwarded(&gateway, [192, 0, 2, 2]).await);
    }
    // The flood closes its own, and not the one that has been idle longest.
    assert!(is_answered(&mut quiet).await);
    let mut open = 0;
    for tls in &mut flood {
        open += usize::from(is_answered(tls).await);
    }
    assert_eq!(open, 3);
}

#[tokio::test]
async fn takes_the_word_of_listed_load_balancers_only_and_nothing_less() {
    let refused = "efgs_proxy_protocol_headers_refused_total";
    let gateway = start_behind("127.0.0.1").await;
    let before = metric(&gateway, refused).await;
    assert!(gateway.tls_showing(&TLS13, None).await.is_err());
    assert_eq!(metric(&gateway, refused).await, before + 1);

    let gateway = start_behind("192.0.2.1").await;
    assert!(gateway.tls_showing(&TLS13, None).await.is_ok());
    let mut raw = Raw::connect(gateway.addresses.public.unwrap()).await;
    raw.write(forwarded_for([192, 0, 2, 1])).await;
    raw.until_closed().await;
    assert_eq!(metric(&gateway, refused).await, before + 1);
}

#[tokio::test]
async fn makes_room_behind_a_proxy() {
    let gateway = start().await;
    let request = get(&format!("/diagnosiskeys/download/{TODAY}"), "DE", "");
    let mut idle = Vec::new();
    for _ in 0..9 {
        let mut raw = gateway.proxy().await;
        assert_eq!(raw.get(&request).await.status(), 404);
        idle.push(raw);
    }
    idle[0].until_closed().await;
    for raw in &mut idle[1..] {
        assert_eq!(raw.get(&request).await.status(), 404);
    }
}

#[tokio::test]
async fn answers_health_whatever_rests_on_the_operations_port() {
    let gateway = start().await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut raw = gateway.operations().await;
        // Half of a request.
        raw.write("GET /status HTTP/1.1\r\n").await;
        idle.push(raw);
    }
    let mut raw = gateway.operations().await;
    let health = raw.get("GET /health HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(health.status(), 200);
    idle[0].until_closed().await;
}

/// Sends the same request so many times at once; returns how long it took until all were answered.
async fn ask_at_once(stream: &mut TlsStream<TcpStream>, request: &str, count: usize) -> Duration {
    let (begun, mut text) = (Instant::now(), Vec::new());
    let requests = request.repeat(count);
    stream.write_all(requests.as_bytes()).await.unwrap();
    while text.windows(9).filter(|part| part == b"HTTP/1.1 ").count() < count {
        let mut part = [0; 16 << 10];
        let read = stream.read(&mut part).await.unwrap();
        assert!(read > 0, "closed: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&part[..read]);
    }
    begun.elapsed()
}

#[tokio::test]
async fn answers_peers_without_a_certificate_no_faster_than_they_need() {
    const DELAYED: u32 = 5;
    let gateway = start().await;
    let request = format!("GET /diagnosiskeys/download/{TODAY} HTTP/1.1\r\nHost: g\r\n\r\n");
    // 20 at once, and then one per 200 ms.
    let count = 20 + DELAYED as usize;
    let mut stranger = gateway.tls_without_certificate(&TLS13).await;
    let took = ask_at_once(&mut stranger, &request, count).await;
    assert!(took >= Duration::from_millis(200) * DELAYED, "{took:?}");
    let name = "efgs_unidentified_requests_delayed_total";
    let delayed = metric(&gateway, name).await;
    assert!((1..=u64::from(DELAYED)).contains(&delayed), "{delayed}");
    let mut de = Secure::connect(&gateway, "DE").await;
    ask_at_once(&mut de.0, &request, count).await;
    assert_eq!(metric(&gateway, name).await, delayed, "not a participant's");
}

/// `efgs serve` under a limit on open files, set by the shell.
fn limited(ours: &Installation, limit: &str) -> Command {
    let serve = ours.serve();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limit} && exec \"$0\" \"$@\"")]);
    command.arg(serve.get_program()).args(serve.get_args());
    for (name, value) in serve.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::null());
    command
}

#[test]
fn divides_the_limit_on_open_files_and_says_so() {
    let ours = Installation::new("DE");
    for (limit, open_files, per_port, reduced) in [
        ("ulimit -Sn 64 && ulimit -Hn 4096", 4096, 1024, false),
        ("ulimit -n 400", 400, 80, true),
    ] {
        let (gateway, _) = cli_support::Gateway::start(&mut limited(&ours, limit));
        let log = String::from_utf8(gateway.stop("TERM").stderr).unwrap();
        let said = format!("open_files={open_files} per_port={per_port} ");
        assert!(log.contains(&said), "{log}");
        assert_eq!(log.contains("reduces the connections"), reduced, "{log}");
    }
    let mut starved = limited(&ours, "ulimit -n 200");
    let output = starved.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("at most 200 files may be open"), "{errors}");
    assert_eq!(output.status.code(), Some(1));
}
