//! Connections that stall or idle.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Gateway, get, signed_upload, thumbprint};
use crate::{CAPABILITIES, await_status, download_path, support};

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

/// An HTTP/2 connection through the proxy port whose peer takes `window_bytes` of each answer and
/// never more.
struct ClosedWindows(SendRequest<Empty<Bytes>>);

impl ClosedWindows {
    async fn open(gateway: &Gateway, window_bytes: u32) -> Self {
        let address = gateway.addresses.proxy.unwrap();
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let mut builder = Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window_bytes);
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn ask(&mut self, method: &str, path: &str) -> hyper::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://gateway{path}"))
            .header("X-SSL-Client-SHA256", thumbprint("ES"))
            .header("X-SSL-Client-DN", "C=ES")
            .body(Empty::new())
            .unwrap();
        self.0.ready().await?;
        self.0.send_request(request).await
    }

    /// A request whose answer has no body, and so is complete.
    async fn ask_for_little(&mut self) -> hyper::Result<Response<Incoming>> {
        self.ask("OPTIONS", "/diagnosiskeys").await
    }
}

/// A gateway with short timeouts and one download batch of so many keys of DE's.
async fn with_download_batch(key_count: u64) -> Gateway {
    let gateway = Gateway::start_with(|settings, server| {
        server.stall_timeout = Duration::from_millis(500);
        settings.upload.keys_max = 1000;
        settings.bundle.keys_max = 1000;
    })
    .await;
    let upload = signed_upload("DE", 0..key_count);
    let mut raw = gateway.proxy().await;
    let stored = raw.ask(&upload.head("DE", "t"), &upload.body).await;
    assert_eq!(stored.status(), 201, "{stored:?}");
    await_status(&mut raw, &get(&download_path(), "ES", ""), 200).await;
    gateway
}

/// RFC 9113 §6.9: the window of a stream is the peer's to open.
#[tokio::test]
async fn resets_a_stream_whose_answer_nobody_takes_whatever_else_the_connection_does() {
    let gateway = with_download_batch(1000).await;
    let mut peer = ClosedWindows::open(&gateway, 0).await;
    let answer = peer.ask("GET", &download_path()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let mut reset = tokio::spawn(async move { answer.into_body().frame().await });
    let begun = Instant::now();
    let frame = loop {
        tokio::select! {
            frame = &mut reset => break frame.unwrap().unwrap(),
            answer = peer.ask_for_little() => assert_eq!(answer.unwrap().status(), StatusCode::OK),
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "it still waits");
    };
    assert!(frame.is_err(), "{frame:?}");
    let after = peer.ask_for_little().await;
    assert_eq!(
        after.unwrap().status(),
        StatusCode::OK,
        "the connection stays"
    );
}

#[tokio::test]
async fn closes_a_connection_whose_peer_does_not_take_the_last_part_of_an_answer() {
    // All of the answer fits in one part, and the window is open for one byte of it.
    let gateway = with_download_batch(3).await;
    let mut peer = ClosedWindows::open(&gateway, 1).await;
    let _not_read = peer.ask("GET", &download_path()).await.unwrap();
    let begun = Instant::now();
    while peer.ask_for_little().await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(5), "it stays open");
    }
}
