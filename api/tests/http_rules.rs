//! Rules of HTTP that decide whether a message is taken at all, byte for byte, and when its sender
//! may still be answered.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, RootCertStore};
use support::{Gateway, Raw, RawAnswer, TODAY, get, signed_upload, thumbprint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sends bytes on a connection of their own.
async fn send(mut raw: Raw, bytes: impl AsRef<[u8]>) -> RawAnswer {
    raw.write(bytes).await;
    raw.answer(false).await
}

fn check(answer: &RawAnswer, status: u16, code: &str) {
    assert_eq!(answer.status(), status, "{answer:?}");
    assert_eq!(answer.json()["code"], code, "{answer:?}");
    assert_eq!(answer.header("Connection"), Some("close"), "{answer:?}");
}

/// RFC 9112 §6.1.
#[tokio::test]
async fn takes_one_chunked_and_no_other_transfer_coding() {
    let gateway = Gateway::start().await;
    let upload = signed_upload("DE", 0..3);
    let chunked = b"Transfer-Encoding: chunked";
    for (coding, status, code) in [
        ("gzip, chunked", 501, "unsupported_transfer_coding"),
        (
            "gzip\r\nTransfer-Encoding: chunked",
            501,
            "unsupported_transfer_coding",
        ),
        ("chunked, chunked", 400, "repeated_chunked"),
        (
            "chunked\r\nTransfer-Encoding: chunked",
            400,
            "repeated_chunked",
        ),
    ] {
        let request = upload.chunked("DE", "t");
        let at = request
            .windows(chunked.len())
            .position(|part| part == chunked);
        let (head, body) = request.split_at(at.unwrap());
        let coding = format!("Transfer-Encoding: {coding}");
        let request = [head, coding.as_bytes(), &body[chunked.len()..]].concat();
        check(&send(gateway.proxy().await, request).await, status, code);
    }
    let request = upload.chunked("DE", "t");
    let stored = send(gateway.proxy().await, request).await;
    assert_eq!(stored.status(), 201, "{stored:?}");
}

/// RFC 9112 §3.2.
#[tokio::test]
async fn wants_one_valid_host() {
    let gateway = Gateway::start().await;
    for (hosts, code) in [
        ("", "host_missing"),
        ("Host: gateway\r\nHost: gateway\r\n", "host_repeated"),
        ("Host: gateway\r\nhost: other\r\n", "host_repeated"),
        ("Host: a b\r\n", "host_invalid"),
        ("Host: gateway/x\r\n", "host_invalid"),
        ("Host: user@gateway\r\n", "host_invalid"),
        ("Host: gateway:x\r\n", "host_invalid"),
    ] {
        let path = format!("/diagnosiskeys/download/{TODAY}");
        let request = get(&path, "DE", "").replace("Host: gateway\r\n", hosts);
        check(&send(gateway.proxy().await, request).await, 400, code);
        let request = format!("GET /health HTTP/1.1\r\n{hosts}\r\n");
        check(&send(gateway.operations().await, request).await, 400, code);
    }
    for request in [
        "GET /health HTTP/1.0\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: [::1]:8090\r\n\r\n",
    ] {
        let answer = send(gateway.operations().await, request).await;
        assert_eq!(answer.status(), 200, "{request:?} {answer:?}");
    }
}

#[tokio::test]
async fn answers_a_client_that_has_closed_its_sending_side() {
    let gateway = Gateway::start().await;
    let upload = signed_upload("DE", 0..3);
    let mut raw = gateway.proxy().await;
    let head = upload.head("DE", "half-closed");
    // The request is still waiting for its commit when the other side ends.
    let lock = gateway.lock_database();
    raw.write([head.as_bytes(), b"\r\n", &upload.body].concat())
        .await;
    raw.close_sending_side().await;
    let admitted = || gateway.engine.admission().batches_in_flight();
    let deadline = Instant::now() + Duration::from_secs(30);
    while admitted() == 0 {
        assert!(Instant::now() < deadline, "it was not admitted");
        tokio::task::yield_now().await;
    }
    drop(lock);
    let stored = raw.answer(false).await;
    assert_eq!(stored.status(), 201, "{stored:?}");
    raw.until_closed().await;
}

/// A revoked certificate must not upload what it began to send before.
#[tokio::test]
async fn authenticates_again_when_a_body_is_complete() {
    let gateway = Gateway::start().await;
    let upload = signed_upload("ES", 0..3);
    let mut raw = gateway.proxy().await;
    let (first, rest) = upload.body.split_at(10);
    let head = upload.head("ES", "slow");
    raw.write([head.as_bytes(), b"\r\n", first].concat()).await;
    gateway.revoke(&thumbprint("ES"));
    let mut other = gateway.proxy().await;
    let request = get("/diagnosiskeys/callback", "ES", "");
    let deadline = Instant::now() + Duration::from_secs(30);
    while other.get(&request).await.status() != 403 {
        assert!(Instant::now() < deadline, "it stays valid");
        tokio::task::yield_now().await;
    }
    raw.write(rest).await;
    let refused = raw.answer(false).await;
    assert_eq!(refused.status(), 403, "{refused:?}");
    assert_eq!(refused.json()["code"], "certificate_revoked");
}

/// A header must not cost what a batch costs.
#[tokio::test]
async fn reads_no_keys_for_a_head() {
    let gateway = Gateway::start_with(|settings, _| settings.bundle.cache_bytes_max = 0).await;
    let upload = signed_upload("DE", 0..3);
    let mut raw = gateway.proxy().await;
    raw.ask(&upload.head("DE", "t"), &upload.body).await;
    let path = format!("/diagnosiskeys/download/{TODAY}");
    // Nothing but this asks for the batch, so that nobody else has its keys read.
    let deadline = Instant::now() + Duration::from_secs(30);
    let head = loop {
        let request = get(&path, "ES", "").replacen("GET", "HEAD", 1);
        raw.write(request).await;
        let head = raw.answer(true).await;
        if head.status() == 200 {
            break head;
        }
        assert!(Instant::now() < deadline, "no batch");
        tokio::task::yield_now().await;
    };
    assert_eq!(head.header("batchTag"), Some("20210601-1"));
    assert_eq!(head.header("Content-Length"), None, "it was read: {head:?}");
    let whole = raw.get(&get(&path, "ES", "")).await;
    assert_eq!((whole.status(), whole.body), (200, upload.body));
}

/// A client's first message for `localhost`, with another name of the same length.
fn client_hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let localhost = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), localhost).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    let mut windows = bytes.windows(9);
    let at = windows.position(|part| part == b"localhost").unwrap();
    bytes[at..at + 9].copy_from_slice(name.as_bytes());
    bytes
}

/// No name chooses anything here. One that is no host name is refused by rustls, as RFC 6066 §3 allows:
/// an IPv6 address in brackets, a name with a port. The day it can be served, it should be.
#[tokio::test]
async fn serves_every_server_name_that_the_tls_library_reads() {
    const ALERT: u8 = 21;
    const HANDSHAKE: u8 = 22;
    let gateway = Gateway::start().await;
    for (name, record) in [
        ("elsewhere", HANDSHAKE),
        ("192.0.2.1", HANDSHAKE),
        ("[2001::1]", ALERT),
        ("host:8443", ALERT),
        ("*.example", ALERT),
    ] {
        let public = gateway.addresses.public.unwrap();
        let mut stream = TcpStream::connect(public).await.unwrap();
        stream.write_all(&client_hello(name)).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), record, "{name}");
    }
}
