//! Authentication by certificate and by identity headers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use efgs_client::{Connection, Protocol};
use http::{HeaderName, HeaderValue, Method};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Gateway, forwarded, get, signed_upload, thumbprint};
use crate::{await_status, download_path};

async fn download(connection: &mut Connection) -> efgs_client::Answer {
    ask_for_download(connection, Method::GET).await
}

async fn ask_for_download(connection: &mut Connection, method: Method) -> efgs_client::Answer {
    // Identity headers are ignored here: DE, ES, DK and NO always send them.
    let claim = |name: &'static str, value: &str| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    let headers = [
        claim("x-ssl-client-sha256", &thumbprint("IT")),
        claim("x-ssl-client-dn", "C=IT"),
    ];
    connection
        .send(method, &download_path(), &headers, Bytes::new())
        .await
        .unwrap()
}

async fn check_mutual_tls(protocol: Protocol) {
    let gateway = Gateway::start().await;
    let mut raw = gateway.proxy().await;
    let upload = signed_upload("IT", 0..30);
    raw.ask(&upload.head("IT", "t"), &upload.body).await;
    await_status(&mut raw, &get(&download_path(), "DE", ""), 200).await;

    let mut connection = gateway.mutual_tls("DE", protocol);
    let answer = download(&mut connection).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, upload.body);
    // On HTTP/2 only our own code suppresses the body.
    let head = ask_for_download(&mut connection, Method::HEAD).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(
        head.headers["content-length"],
        upload.body.len().to_string()
    );
    let mut unlisted = gateway.mutual_tls("NL", protocol);
    let answer = download(&mut unlisted).await;
    assert_eq!(answer.status, 403);
    let text = "Client is not authorized to access the service";
    assert_eq!(json(&answer.body)["message"], text);

    // A revocation reaches a connection that stays open.
    gateway.revoke(&thumbprint("DE"));
    let revoked = Instant::now();
    let answer = loop {
        let answer = download(&mut connection).await;
        if answer.status != 200 {
            break answer;
        }
        assert!(revoked.elapsed() < Duration::from_secs(5));
        tokio::task::yield_now().await;
    };
    assert_eq!(answer.status, 403);
    assert_eq!(
        json(&answer.body)["message"],
        "Client certificate is revoked"
    );
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap()
}

#[tokio::test]
async fn authenticates_by_the_certificate_of_the_handshake_on_http1() {
    check_mutual_tls(Protocol::Http1).await;
}

#[tokio::test]
async fn authenticates_by_the_certificate_of_the_handshake_on_http2() {
    check_mutual_tls(Protocol::Http2).await;
}

/// Over TLS 1.2 and 1.3; the handshake succeeds, so that the client can read the reason.
#[tokio::test]
async fn explains_a_missing_client_certificate() {
    let gateway = Gateway::start().await;
    for version in rustls::ALL_VERSIONS {
        let mut stream = gateway.tls_without_certificate(version).await;
        let path = download_path();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: gateway\r\n{}Connection: close\r\n\r\n",
            forwarded("DE")
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        let body = r#"{"message":null,"code":"no_client_certificate"}"#;
        assert!(answer.ends_with(body), "{answer}");
    }
}

#[tokio::test]
async fn refuses_expired_certificates() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.proxy().await;
    gateway.clock.advance_millis(100 * 366 * 86_400_000);
    let answer = raw.get(&get(&download_path(), "DE", "")).await;
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.json()["code"], "certificate_expired");
}

#[tokio::test]
async fn gives_no_reason_without_a_forwarded_identity() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.proxy().await;
    let head = "GET /diagnosiskeys/download/nonsense HTTP/1.1\r\nHost: gateway\r\n\
                Accept: text/html\r\n";
    let answer = raw.ask(head, b"").await;
    assert_eq!(answer.status(), 403);
    assert!(answer.json()["message"].is_null());
    let other = format!(
        "X-SSL-Client-SHA256: {}\r\nX-SSL-Client-DN: C=IT\r\n",
        thumbprint("DE")
    );
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: gateway\r\n{other}",
        download_path()
    );
    assert_eq!(
        raw.ask(&head, b"").await.json()["code"],
        "unknown_certificate"
    );
}
