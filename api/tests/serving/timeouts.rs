//! Connections that stall or idle.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Gateway, get, signed_upload};
use crate::{CAPABILITIES, download_path, support};

/// A gateway with a stall timeout of half a second.
async fn short_timeouts() -> Gateway {
    Gateway::start_with(|_, server| server.stall_timeout = Duration::from_millis(500)).await
}

#[tokio::test]
async fn disconnects_stalled_headers_and_bodies() {
    let gateway = short_timeouts().await;
    let upload = signed_upload("DE", 0..3);
    let head = upload.head("DE", "t");
    for sent in ["", "P", "POST /diagnosiskeys/upl", head.as_str()] {
        let mut raw = gateway.proxy().await;
        raw.write(sent).await;
        let waited = raw.until_closed().await;
        assert!(waited < Duration::from_secs(5), "{sent:?} {waited:?}");
    }
    let mut raw = gateway.proxy().await;
    raw.write(format!("{head}\r\nab")).await;
    let answer = raw.answer(false).await;
    assert_eq!(
        (answer.status(), answer.header("Connection")),
        (408, Some("close"))
    );
    let waited = raw.until_closed().await;
    assert!(waited < Duration::from_secs(5), "{waited:?}");
}

#[tokio::test]
async fn disconnects_a_stalled_second_header_but_keeps_participants_alive() {
    let gateway = short_timeouts().await;
    let request = get(&download_path(), "DE", "");
    let mut raw = gateway.proxy().await;
    assert_eq!(raw.get(&request).await.status(), 404);
    // Another connection stalls and is closed meanwhile; this one is idle just as long.
    let mut stalling = gateway.proxy().await;
    stalling.write("GET ").await;
    stalling.until_closed().await;
    let mut stalling = gateway.proxy().await;
    stalling.write("GET ").await;
    stalling.until_closed().await;
    assert_eq!(raw.get(&request).await.status(), 404);
    raw.write("GET /dia").await;
    let waited = raw.until_closed().await;
    assert!(waited < Duration::from_secs(5), "{waited:?}");
}

#[tokio::test]
async fn closes_idle_unauthenticated_connections() {
    let gateway = short_timeouts().await;
    let unauthenticated = format!("GET {} HTTP/1.1\r\nHost: gateway\r\n\r\n", download_path());
    for (request, status) in [
        (CAPABILITIES, 200),
        ("GET / HTTP/1.1\r\nHost: gateway\r\n\r\n", 404),
        (unauthenticated.as_str(), 403),
    ] {
        let mut raw = gateway.proxy().await;
        assert_eq!(raw.get(request).await.status(), status, "{request}");
        let waited = raw.until_closed().await;
        assert!(waited < Duration::from_secs(5), "{request} {waited:?}");
    }
    let version = &rustls::version::TLS13;
    let mut tls = gateway.tls_without_certificate(version).await;
    tls.write_all(CAPABILITIES.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let closed = tls.read_to_end(&mut answer);
    let closed = tokio::time::timeout(Duration::from_secs(5), closed).await;
    closed.expect("the gateway closes").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{answer:?}");
}

#[tokio::test]
async fn disconnects_a_stalled_tls_handshake() {
    let gateway = short_timeouts().await;
    let mut raw = support::Raw::connect(gateway.addresses.public.unwrap()).await;
    raw.write([0x16, 3, 1]).await;
    let waited = raw.until_closed().await;
    assert!(waited < Duration::from_secs(5), "{waited:?}");
}

#[tokio::test]
async fn disconnects_a_client_that_stops_reading() {
    let gateway = short_timeouts().await;
    let mut raw = gateway.proxy().await;
    // More responses than the socket buffers of both sides hold, and none is read.
    let requests = get("/diagnosiskeys/download/bad", "DE", "").repeat(64);
    let mut closed = false;
    for _ in 0..2000 {
        let write = tokio::time::timeout(Duration::from_secs(20), raw.try_write(&requests));
        if write.await.expect("the gateway closes").is_err() {
            closed = true;
            break;
        }
    }
    assert!(closed, "the gateway kept answering");
}
