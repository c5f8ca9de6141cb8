//! Uploads: the order of checks, and the limits of headers and bodies.

use crate::download_path;
use crate::support::{Gateway, forwarded, get, signed_upload};

#[tokio::test]
async fn answers_a_refused_upload_and_keeps_the_connection() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.proxy().await;
    let upload = signed_upload("DE", 0..3);
    let head = upload.head("DE", "");
    let answer = raw.ask(&head, &upload.body).await;
    assert_eq!(answer.json()["code"], "batch_tag_invalid");
    // The body was not asked for, and the next request is still understood.
    let big = vec![0; 2 << 20];
    let head = format!(
        "POST /diagnosiskeys/upload HTTP/1.1\r\nHost: gateway\r\n{}\
         Content-Type: text/plain\r\nContent-Length: {}\r\n",
        forwarded("DE"),
        big.len()
    );
    assert_eq!(raw.ask(&head, &big).await.status(), 415);
    assert_eq!(
        raw.ask(&upload.head("DE", "t"), &upload.body)
            .await
            .status(),
        201
    );
}

#[tokio::test]
async fn checks_an_upload_in_the_documented_order() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.proxy().await;
    let upload = signed_upload("DE", 0..3);
    let good = upload.head("DE", "t");
    let protobuf = "Content-Type: application/protobuf; version=1.0\r\n";
    for (from, to, status, code) in [
        ("C=DE", "O=x", 400, "no_country"),
        (protobuf, "", 415, "unsupported_content_type"),
        ("protobuf; version=1.0", "protobuf", 400, "version_missing"),
        (
            "protobuf; version=1.0",
            "protobuf; version=1.1",
            406,
            "version_incompatible",
        ),
        (
            protobuf,
            "Content-Type: application/protobuf; version=1.0\r\nAccept: text/html\r\n",
            406,
            "not_acceptable",
        ),
        ("batchTag: t\r\n", "", 400, "batch_tag_missing"),
        (
            "batchTag: t\r\n",
            "batchTag: a b\r\n",
            400,
            "batch_tag_invalid",
        ),
        (
            "batchSignature: ",
            "other: ",
            400,
            "batch_signature_missing",
        ),
        (
            "batchSignature: ",
            "batchSignature:\r\nother: ",
            400,
            "invalid_signature",
        ),
        (
            "protobuf; version=1.0",
            "json; version=1.0",
            400,
            "malformed_batch",
        ),
    ] {
        let head = good.replacen(from, to, 1);
        assert_ne!(head, good);
        let answer = raw.ask(&head, &upload.body).await;
        let found = (answer.status(), answer.json()["code"].clone());
        assert_eq!(found, (status, code.into()), "{from:?} {to:?}");
    }
    let empty_json = good
        .replacen("protobuf; version", "json; version", 1)
        .replacen(
            &format!("Content-Length: {}", upload.body.len()),
            "Content-Length: 0",
            1,
        );
    assert_eq!(raw.ask(&empty_json, b"").await.json()["code"], "body_empty");
    assert_eq!(raw.ask(&good, &upload.body).await.status(), 201);
    let again = raw.ask(&upload.head("DE", "other"), &upload.body).await;
    assert_eq!(again.status(), 207);
    assert_eq!(again.header("batchTag"), None);
    let expected = serde_json::json!({"201": [], "409": [0, 1, 2], "500": []});
    assert_eq!(again.json(), expected);
    let foreign = signed_upload("IT", 7..8);
    let answer = raw.ask(&foreign.head("DE", "x"), &foreign.body).await;
    assert_eq!(answer.status(), 400, "{answer:?}");
}

#[tokio::test]
async fn accepts_an_empty_protobuf_body_as_an_empty_batch() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.proxy().await;
    let empty = signed_upload("DE", 0..0);
    let answer = raw.ask(&empty.head("DE", "t"), b"").await;
    assert_eq!(answer.status(), 201, "{answer:?}");
}

#[tokio::test]
async fn refuses_bodies_above_the_bound_announced_or_not() {
    let gateway = Gateway::start_with(|_, server| server.body_bytes_max = 1000).await;
    let mut raw = gateway.proxy().await;
    let upload = signed_upload("DE", 0..30);
    let answer = raw.ask(&upload.head("DE", "t"), &upload.body).await;
    assert_eq!(
        (answer.status(), answer.header("Connection")),
        (413, Some("close"))
    );
    let mut raw = gateway.proxy().await;
    raw.write(upload.chunked("DE", "t")).await;
    let answer = raw.answer(false).await;
    assert_eq!(answer.json()["code"], "body_too_large");
}

#[tokio::test]
async fn accepts_headers_of_64_kilobytes_but_not_endless_ones() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.proxy().await;
    let long = format!("X-Filler: {}\r\n", "x".repeat(64 << 10));
    let answer = raw.get(&get(&download_path(), "DE", &long)).await;
    assert_eq!(answer.status(), 404);
    let endless = format!("X-Filler: {}\r\n", "x".repeat(1 << 20));
    let request = get(&download_path(), "DE", &endless);
    let mut raw = gateway.proxy().await;
    raw.write(&request.as_bytes()[..200 << 10]).await;
    assert_eq!(raw.answer(true).await.status(), 431);
}
