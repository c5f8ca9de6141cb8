//! Journeys through listeners, connections and authentication, over real sockets.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use api::server::ServeError;
use bytes::Bytes;
use efgs_client::{Connection, Protocol};
use http::{HeaderName, HeaderValue, Method};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use support::{Gateway, TODAY, forwarded, get, signed_upload, thumbprint};

const PROTOBUF: &str = "Accept: application/protobuf; version=1.0\r\n";
const CAPABILITIES: &str = "OPTIONS /diagnosiskeys HTTP/1.1\r\nHost: gateway\r\n\r\n";

fn download_path() -> String {
    format!("/diagnosiskeys/download/{TODAY}")
}

/// Repeats a request until the response has this status; fails after 30 seconds.
async fn await_status(raw: &mut support::Raw, request: &str, status: u16) -> support::RawAnswer {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = raw.get(request).await;
        if answer.status() == status {
            return answer;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn preserves_response_header_case_on_http1() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.proxy().await;
    let upload = signed_upload("DE", 0..3);
    let stored = raw
        .ask(&upload.head("DE", "2021-Ab+/==-1"), &upload.body)
        .await;
    assert_eq!(stored.status(), 201, "{stored:?}");
    assert_eq!(stored.header("batchTag"), Some("2021-Ab+/==-1"));
    assert_eq!(stored.header("Content-Length"), Some("0"));
    assert!(stored.header("Date").is_some(), "{stored:?}");

    let request = get(&download_path(), "IT", PROTOBUF);
    let found = await_status(&mut raw, &request, 200).await;
    for (name, value) in [
        ("batchTag", "20210601-1"),
        ("nextBatchTag", "null"),
        ("Content-Type", "application/protobuf;version=1.0"),
        ("X-Protobuf-Schema", "Efgs.proto"),
        ("X-Protobuf-Message", "eu.interop.DiagnosisKeyBatch"),
    ] {
        assert_eq!(found.header(name), Some(value), "{found:?}");
    }
    assert_eq!(found.body, upload.body);
}

#[tokio::test]
async fn gives_the_uploader_an_empty_body_and_head_none() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.proxy().await;
    let upload = signed_upload("DE", 0..3);
    raw.ask(&upload.head("DE", "t"), &upload.body).await;
    let own = await_status(&mut raw, &get(&download_path(), "DE", ""), 200).await;
    assert_eq!(
        (own.header("Content-Length"), own.body.len()),
        (Some("0"), 0)
    );
    let head = get(&download_path(), "ES", PROTOBUF).replacen("GET", "HEAD", 1);
    raw.write(head).await;
    let answer = raw.answer(true).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("batchTag"), Some("20210601-1"));
    let length = upload.body.len().to_string();
    assert_eq!(answer.header("Content-Length"), Some(length.as_str()));
    // No body was sent: the next response begins where it should.
    assert_eq!(raw.get(CAPABILITIES).await.status(), 200);
}

#[tokio::test]
async fn routes_with_and_without_a_trailing_slash() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.proxy().await;
    for (method, path, status, allow) in [
        ("OPTIONS", "/diagnosiskeys", 200, Some("POST,GET,OPTIONS")),
        ("OPTIONS", "/diagnosiskeys/", 200, Some("POST,GET,OPTIONS")),
        ("GET", "/diagnosiskeys", 405, Some("OPTIONS")),
        (
            "OPTIONS",
            "/diagnosiskeys/upload",
            200,
            Some("POST,OPTIONS"),
        ),
        ("GET", "/diagnosiskeys/upload/", 405, Some("POST,OPTIONS")),
        (
            "OPTIONS",
            "/diagnosiskeys/download/2021-06-01/",
            200,
            Some("GET,HEAD,OPTIONS"),
        ),
        (
            "DELETE",
            "/diagnosiskeys/download/2021-06-01",
            405,
            Some("GET,HEAD,OPTIONS"),
        ),
        (
            "OPTIONS",
            "/diagnosiskeys/audit/download/2021-06-01/20210601-1",
            200,
            None,
        ),
        ("GET", "/", 404, None),
        ("GET", "/diagnosiskeys/download", 404, None),
        ("GET", "/diagnosiskeys/uploads", 404, None),
        ("GET", "/metrics", 404, None),
    ] {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\n");
        let answer = raw.ask(&head, b"").await;
        assert_eq!(answer.status(), status, "{method} {path}");
        if allow.is_some() {
            assert_eq!(answer.header("Allow"), allow, "{method} {path}");
        }
        if status >= 400 {
            assert_eq!(answer.header("Content-Type"), Some("application/json"));
            assert!(answer.json()["message"].is_string(), "{answer:?}");
        }
    }
    let upload = signed_upload("DE", 0..1);
    let head = upload.head("DE", "fi").replacen("/upload ", "/upload/ ", 1);
    assert_eq!(raw.ask(&head, &upload.body).await.status(), 201);
}

#[tokio::test]
async fn refuses_invalid_downloads_with_legacy_texts() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.proxy().await;
    let base = "/diagnosiskeys/download";
    let audit = "/diagnosiskeys/audit/download";
    for (path, more, status, message) in [
        (
            format!("{base}/2021-06-01"),
            "",
            404,
            "Could not find any batches for given date",
        ),
        (
            format!("{base}/2021-06-01"),
            "batchTag: 20210601-9\r\n",
            404,
            "Could not find batch with given BatchTag",
        ),
        (
            format!("{base}/2021-06-01"),
            "batchTag: null\r\n",
            404,
            "Could not find any batches for given date",
        ),
        (
            format!("{base}/2021-06-01"),
            "batchTag:\r\n",
            404,
            "Could not find any batches for given date",
        ),
        (
            format!("{base}/2021-05-01"),
            "",
            410,
            "Requested date is too old!",
        ),
        (
            format!("{base}/01-06-2021"),
            "",
            400,
            "Failed to convert 'date' with value: '01-06-2021'",
        ),
        (
            format!("{base}/%ff"),
            "",
            400,
            "Failed to convert 'date' with value: ''",
        ),
        (
            format!("{base}/2021-06-01"),
            "Accept: application/protobuf; version=2.0\r\n",
            406,
            "Protocol version is not compatible!",
        ),
        (
            format!("{audit}/2021-06-01/20210601-9"),
            "Accept: application/octet-stream, */*\r\n",
            404,
            "Could not find batch with given BatchTag",
        ),
        (
            format!("{audit}/2021-05-01/20210501-1"),
            "",
            410,
            "Requested date is too old!",
        ),
    ] {
        let answer = raw.get(&get(&path, "DE", more)).await;
        assert_eq!(
            (answer.status(), answer.json()["message"].as_str()),
            (status, Some(message))
        );
        assert_eq!(answer.header("batchTag"), None);
    }
}

#[tokio::test]
async fn audits_with_ten_members_and_the_own_upload_last() {
    let gateway = Gateway::start_with(|settings, _| {
        // Cut when both uploads are stored, and not before.
        settings.bundle.max_delay = Duration::from_secs(3600);
        settings.bundle.keys_max = 4;
        settings.upload.keys_max = 4;
    })
    .await;
    let mut raw = gateway.proxy().await;
    for code in ["DE", "IT"] {
        let upload = signed_upload(code, 0..2);
        let stored = raw.ask(&upload.head(code, "t"), &upload.body).await;
        assert_eq!(stored.status(), 201, "{stored:?}");
    }
    await_status(&mut raw, &get(&download_path(), "ES", ""), 200).await;
    let path = format!("/diagnosiskeys/audit/download/{TODAY}/20210601-1");
    let accept = "Accept: application/json; version=1.0\r\n";
    let answer = raw.get(&get(&path, "DE", accept)).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(
        answer.header("Content-Type"),
        Some("application/json;version=1.0")
    );
    let entries = answer.json();
    let countries: Vec<_> = (0..2)
        .map(|index| entries[index]["country"].clone())
        .collect();
    assert_eq!(countries, ["IT", "DE"]);
    let members = entries[0].as_object().unwrap();
    assert_eq!(members.len(), 10);
    assert!(
        members
            .values()
            .all(|value| value.as_str() != Some("") && !value.is_null())
    );
    assert_eq!(members["uploadedTime"], "2021-06-01T12:00:00.000Z");
    assert_eq!(members["uploaderThumbprint"], thumbprint("IT"));
}

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

#[tokio::test]
async fn throttles_a_participant_that_takes_more_than_its_share() {
    let gateway =
        Gateway::start_with(|settings, _| settings.upload.batches_in_flight_max = 8).await;
    let upload = signed_upload("DE", 0..3);
    let mut held = Vec::new();
    // A quarter of 8 is 2: two bodies in transit fill the share.
    let refused = loop {
        let mut raw = gateway.proxy().await;
        raw.write(format!(
            "{}Expect: 100-continue\r\n\r\n",
            upload.head("DE", "t")
        ))
        .await;
        let answer = raw.answer(true).await;
        if answer.status() != 100 {
            break answer;
        }
        held.push(raw);
        assert!(held.len() < 8, "nothing is refused");
    };
    assert_eq!((refused.status(), held.len()), (429, 2), "{refused:?}");
    let date = refused.header("Retry-After").unwrap();
    assert!(date.starts_with("Tue, 01 Jun 2021 12:00:"), "{date}");
    assert_eq!(refused.header("Connection"), Some("close"));
    let mut other = gateway.proxy().await;
    let upload = signed_upload("IT", 0..3);
    assert_eq!(
        other
            .ask(&upload.head("IT", "t"), &upload.body)
            .await
            .status(),
        201
    );
}

#[tokio::test]
async fn holds_a_permit_for_the_received_bytes_of_a_body_of_unknown_length() {
    let gateway = Gateway::start().await;
    let lock = gateway.lock_database();
    let mut waiting = Vec::new();
    // Two of the largest bodies are a participant's share.
    let mut bytes = 0;
    for index in 0..4 {
        let upload = signed_upload("DE", index * 3..index * 3 + 3);
        let mut raw = gateway.proxy().await;
        raw.write(upload.chunked("DE", &format!("t-{index}"))).await;
        waiting.push(raw);
        bytes += upload.body.len();
        let deadline = Instant::now() + Duration::from_secs(2);
        while gateway.engine.admission().bytes_in_flight() != bytes {
            let held = gateway.engine.admission().bytes_in_flight();
            assert!(Instant::now() < deadline, "upload {index}: {held} bytes");
            tokio::task::yield_now().await;
        }
    }
    drop(lock);
    for raw in &mut waiting {
        let answer = raw.answer(false).await;
        assert_eq!(answer.status(), 201, "{answer:?}");
    }
    assert_eq!(gateway.engine.admission().bytes_in_flight(), 0);
}

#[tokio::test]
async fn finishes_requests_in_flight_before_shutdown() {
    let gateway = Gateway::start().await;
    let upload = signed_upload("DE", 0..3);
    let mut raw = gateway.proxy().await;
    raw.write(format!(
        "{}Expect: 100-continue\r\n\r\n",
        upload.head("DE", "t")
    ))
    .await;
    assert_eq!(raw.answer(true).await.status(), 100);
    let mut resting = gateway.proxy().await;
    assert_eq!(resting.get(CAPABILITIES).await.status(), 200);
    let address = gateway.addresses.proxy.unwrap();
    let running = gateway.stop();
    resting.until_closed().await;
    raw.write(&upload.body).await;
    assert_eq!(raw.answer(false).await.status(), 201);
    raw.until_closed().await;
    running.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn serves_health_status_and_metrics_to_operators() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.operations().await;
    let mut ask = async |path: &str| {
        raw.get(&format!("GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n"))
            .await
    };
    assert_eq!(ask("/health").await.json()["status"], "up");
    assert_eq!(ask("/ready").await.json()["ready"], true);
    assert_eq!(ask("/status").await.json()["databaseAvailable"], true);
    let page = ask("/").await;
    assert_eq!(
        page.header("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    let metrics = String::from_utf8(ask("/metrics").await.body).unwrap();
    assert!(metrics.contains("efgs_connections_open"), "{metrics}");
    assert_eq!(ask("/diagnosiskeys/upload").await.status(), 404);
}

#[tokio::test]
async fn names_the_port_that_is_in_use() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = Gateway::try_start(|_, server| server.operations_listen = Some(address)).await;
    let error = error.err().unwrap();
    assert!(
        matches!(
            error,
            ServeError::PortInUse {
                role: "operations",
                ..
            }
        ),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("[operations] listen") && !text.contains('\n'),
        "{text}"
    );
}

#[tokio::test]
async fn refuses_to_trust_any_peer_as_a_proxy() {
    let open = "0.0.0.0:0".parse().unwrap();
    let error = Gateway::try_start(|_, server| {
        server.proxy.as_mut().unwrap().listen = open;
    })
    .await;
    let error = error.err().unwrap();
    assert!(matches!(error, ServeError::AnyoneTrusted(_)), "{error}");
    let gateway = Gateway::start_with(|_, server| {
        let proxy = server.proxy.as_mut().unwrap();
        proxy.trusted_peers = vec!["192.0.2.0/24".parse().unwrap()];
    })
    .await;
    let answer = gateway
        .proxy()
        .await
        .get(&get(&download_path(), "DE", ""))
        .await;
    assert_eq!(
        (answer.status(), answer.json()["code"].as_str()),
        (403, Some("untrusted_peer"))
    );
}
