//! Log lines as an operator reads them: the events of the reference (wire §18.3) with
//! their attributes, and values that cannot inject lines or pairs.

#![allow(clippy::unwrap_used, reason = "tests")]

mod log_sink;
mod support;

use std::time::{Duration, Instant};

use api::settings::LogFormat;
use log_sink::LogSink;
use serde_json::{Value, json};
use support::{Gateway, Raw, TODAY, Upload, forwarded, get, signed_upload, thumbprint, vector};

/// What these tests look at.
const LEVEL: &str = "info,api=debug,engine=debug";

/// A gateway, a connection of its proxy, and its log as JSON.
struct LoggedGateway {
    gateway: Gateway,
    raw: Raw,
    log: LogSink,
}

impl LoggedGateway {
    async fn begin() -> Self {
        let log = LogSink::default();
        // For all threads, including the engine's.
        tracing::subscriber::set_global_default(log.subscriber(LogFormat::Json, LEVEL)).unwrap();
        let gateway = Gateway::start().await;
        let raw = gateway.proxy().await;
        Self { gateway, raw, log }
    }

    /// The events that a request causes, correlated by their trace id.
    async fn logged(&mut self, head: &str, body: &[u8]) -> Vec<Value> {
        self.log.take();
        self.raw.ask(head, body).await;
        let text = self.log.take();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &Value| line["traceId"] != "").collect()
    }

    async fn check(&mut self, head: &str, body: &[u8], message: &str, attributes: Value) {
        let lines = self.logged(head, body).await;
        let trace = &lines
            .first()
            .unwrap_or_else(|| panic!("{message}: no line"))["traceId"];
        assert_eq!(trace.as_str().unwrap().len(), 32, "{lines:?}");
        assert!(
            lines.iter().all(|line| line["traceId"] == *trace),
            "{lines:?}"
        );
        let line = lines.iter().find(|line| line["message"] == message);
        let line = line.unwrap_or_else(|| panic!("no {message:?} in {lines:#?}"));
        for (name, value) in attributes.as_object().unwrap() {
            assert_eq!(line[name], *value, "{name} of {line}");
        }
    }

    async fn upload(&mut self, upload: &Upload, code: &str, message: &str, attributes: Value) {
        let head = upload.head(code, "tag-1");
        self.check(&head, &upload.body, message, attributes).await;
    }

    async fn get(&mut self, path: &str, more: &str, message: &str, attributes: Value) {
        let request = get(&format!("/diagnosiskeys{path}"), "DE", more);
        let head = request.strip_suffix("\r\n").unwrap();
        self.check(head, b"", message, attributes).await;
    }
}

#[tokio::test]
async fn logs_the_events_of_the_reference() {
    let mut gateway = LoggedGateway::begin().await;
    authentication(&mut gateway).await;
    negotiation(&mut gateway).await;
    uploads(&mut gateway).await;
    signatures(&mut gateway).await;
    downloads(&mut gateway).await;
    callbacks(&mut gateway).await;
    revocations(&mut gateway).await;
    bounds(&gateway).await;
}

async fn authentication(gateway: &mut LoggedGateway) {
    let path = format!("GET /diagnosiskeys/download/{TODAY} HTTP/1.1\r\nHost: gateway\r\n");
    let hash = format!("X-SSL-Client-SHA256: {}\r\n", thumbprint("DE"));
    for (headers, message, attributes) in [
        (
            String::new(),
            "No thumbprint or distinguish name",
            json!({"dnString": "", "thumbprint": "", "level": "INFO"}),
        ),
        (
            "X-SSL-Client-SHA256: (null)\r\nX-SSL-Client-DN: C=DE\r\n".to_owned(),
            "Could not normalize certificate hash.",
            json!({"dnString": "C=DE", "thumbprint": "(null)"}),
        ),
        (
            format!("{hash}X-SSL-Client-DN: C=DE\r\nX-SSL-Client-DN: C=IT\r\n"),
            "Repeated identity header",
            json!({"dnString": "C=DE, C=IT", "thumbprint": thumbprint("DE")}),
        ),
        (
            format!("{hash}X-SSL-Client-DN: O=x\r\n"),
            "Country property is missing",
            json!({"dnString": "O=x", "thumbprint": thumbprint("DE")}),
        ),
        (
            format!("{hash}X-SSL-Client-DN: C=FR\r\n"),
            "Unknown client certificate",
            json!({
                "dnString": "C=FR",
                "thumbprint": thumbprint("DE"),
                "level": "WARN",
                // That of the certificate, not what is said beside it.
                "country": "DE",
                "reason": "unknown_certificate",
            }),
        ),
        (
            forwarded("DE"),
            "Successful Authentication",
            json!({"dnString": "C=DE", "thumbprint": thumbprint("DE"), "country": "DE"}),
        ),
    ] {
        let head = format!("{path}{headers}");
        gateway.check(&head, b"", message, attributes).await;
    }
}

async fn negotiation(gateway: &mut LoggedGateway) {
    let download = format!("/download/{TODAY}");
    let accept = "Accept: application/protobuf; version=2.0\r\n";
    let message = "Serialization: Protocol version is not compatible";
    let asked = json!({"requestedMediaType": "application/protobuf; version=2.0"});
    gateway.get(&download, accept, message, asked).await;
    let accept = "Accept: text/html\r\nAccept: image/png\r\n";
    let message = "Accepted Content-Type is not compatible";
    let asked = json!({"requestedMediaType": "text/html, image/png", "country": "DE"});
    gateway.get(&download, accept, message, asked).await;

    let upload = signed_upload("DE", 0..1);
    let good = "application/protobuf; version=1.0";
    for (sent, message, reason) in [
        (
            "text/plain",
            "Content-Type is not compatible",
            "unsupported_content_type",
        ),
        (
            "application/json",
            "Version parameter of Content-Type is required",
            "version_missing",
        ),
        (
            "application/json; version=1.1",
            "Deserialization: Protocol version is not compatible",
            "version_incompatible",
        ),
    ] {
        let head = upload.head("DE", "t").replace(good, sent);
        let asked = json!({
            "requestedMediaType": sent,
            "country": "DE",
            "batchTag": "t",
            "level": "WARN",
            "reason": reason,
        });
        gateway.check(&head, &upload.body, message, asked).await;
    }
}

async fn uploads(gateway: &mut LoggedGateway) {
    let upload = signed_upload("DE", 0..1);
    for (tag, reason) in [
        ("x".repeat(65), "batch_tag_invalid"),
        (String::new(), "batch_tag_invalid"),
    ] {
        let attributes =
            json!({"country": "DE", "batchTag": tag, "reason": reason, "level": "WARN"});
        let head = upload.head("DE", &tag);
        let message = "upload refused";
        gateway
            .check(&head, &upload.body, message, attributes)
            .await;
    }
    let many = signed_upload("DE", 100..131);
    let attributes = json!({"batchTag": "tag-1", "maxKeys": 30, "numKeys": 31, "level": "WARN"});
    gateway
        .upload(&many, "DE", "too many diagnosis keys", attributes)
        .await;
    let foreign = signed_upload("IT", 200..202);
    let attributes = json!({"batchTag": "tag-1", "numKeys": 2, "index": 0, "level": "WARN"});
    gateway
        .upload(&foreign, "DE", "invalid uploader country", attributes)
        .await;

    let upload = signed_upload("DE", 0..3);
    let parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    let head = upload.head("DE", "tag-1") + parent;
    let lines = gateway.logged(&head, &upload.body).await;
    // The stages run on other threads, but their events belong to the request.
    for (message, attributes) in [
        (
            "Successful validation of diagnosis keys",
            json!({"stage": "validate"}),
        ),
        (
            "verified batch signature",
            json!({
                "stage": "verify",
                // DE-signing in the vectors' registry.json.
                "certThumbprint": "5de1809c416802b51df9e57fb38adba9f1408d807e2ede3c5d4d8bd8ffaa28aa",
            }),
        ),
        (
            "successfull batch upload",
            json!({"replayed": false, "level": "INFO"}),
        ),
    ] {
        let line = lines.iter().find(|line| line["message"] == message);
        let line = line.unwrap_or_else(|| panic!("no {message:?} in {lines:#?}"));
        let common = json!({"batchTag": "tag-1", "numKeys": 3, "country": "DE"});
        let trace = json!({"traceId": "4bf92f3577b34da6a3ce929d0e0e4736"});
        for expected in [&common, &trace, &attributes] {
            for (name, value) in expected.as_object().unwrap() {
                assert_eq!(line[name], *value, "{name} of {line}");
            }
        }
    }
    let again = json!({"batchTag": "tag-1", "numKeys": 3, "replayed": true});
    gateway
        .upload(&upload, "DE", "successfull batch upload", again)
        .await;
    let other = signed_upload("DE", 3..5);
    let attributes = json!({
        "batchTag": "tag-1",
        "numKeys": 2,
        "level": "WARN",
        "country": "DE",
        "reason": "batch_tag_taken",
    });
    gateway
        .upload(&other, "DE", "batchTag already exists", attributes)
        .await;
    let overlapping = signed_upload("DE", 2..5);
    let counts = json!({
        "batchTag": "tag-2",
        "insertedKeyCount": 0,
        "conflictKeysCount": 1,
        "failedKeysCount": 0,
        "level": "INFO",
    });
    let head = overlapping.head("DE", "tag-2");
    gateway
        .check(&head, &overlapping.body, "error inserting keys", counts)
        .await;
}

async fn signatures(gateway: &mut LoggedGateway) {
    for (case, message, attributes) in [
        ("720-no-signer-infos", "no signer information", json!({})),
        (
            "701-certificate-missing",
            "no signer certificate",
            json!({}),
        ),
        (
            "601-expired",
            "signing certificate expired",
            // openssl x509 -in DE-expired.pem -noout -dates
            json!({"certNotBefore": "2020-01-01T00:00:00Z", "certNotAfter": "2021-05-31T23:59:59Z"}),
        ),
        (
            "640-unregistered",
            "unknown signing certificate",
            // `signer_thumbprint` of the case.
            json!({
                "certThumbprint": "25a0d45931f25ce05e0ac2262ec8dd0ce3fc9912f6385a1a586754e92936e5ce",
                "level": "WARN",
            }),
        ),
        (
            "621-one-foreign-key",
            "different origins",
            json!({"reason": "origin_mismatch"}),
        ),
        (
            "537-signed-with-another-key",
            "error verifying batch signature",
            json!({"reason": "signature_invalid", "exception": "the signature does not verify"}),
        ),
        (
            "590-sha1-attrs",
            "error verifying batch signature",
            json!({
                "reason": "weak_digest",
                "level": "WARN",
                "setting": "[signatures] legacy_sha1",
            }),
        ),
    ] {
        let mut attributes = attributes;
        attributes["batchTag"] = json!("s");
        let upload = vector(case);
        gateway
            .check(&upload.head("DE", "s"), &upload.body, message, attributes)
            .await;
    }
}

async fn downloads(gateway: &mut LoggedGateway) {
    let download = format!("/download/{TODAY}");
    let deadline = Instant::now() + Duration::from_secs(30);
    // As IT, so that of DE's lines none is suppressed, however often it asks.
    let request = get(&format!("/diagnosiskeys{download}"), "IT", "");
    while gateway.raw.get(&request).await.status() != 200 {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    // All keys are DE's own.
    let found = json!({"batchTag": "20210601-1", "numKeys": 0, "country": "DE", "level": "DEBUG"});
    gateway
        .get(&download, "", "Successful Batch Download", found)
        .await;
    let old = json!({"requestedDate": "2021-05-29"});
    gateway
        .get("/download/2021-05-29", "", "Requested date is too old", old)
        .await;
    let none = json!({"requestedDate": "2021-06-02"});
    let message = "Could not find any batches for given date";
    gateway.get("/download/2021-06-02", "", message, none).await;
    let unknown = json!({"batchTag": "20210601-9"});
    let message = "Could not find batch with given batchTag";
    let tag = "batchTag: 20210601-9\r\n";
    gateway.get(&download, tag, message, unknown).await;
    let early = json!({"batchTag": "20210601-1", "requestedDate": "2021-06-02"});
    let message = "Given date does is not after or equals the requested batchTag";
    let tag = "batchTag: 20210601-1\r\n";
    gateway
        .get("/download/2021-06-02", tag, message, early)
        .await;

    let audit = "/audit/download/2021-06-01/20210601";
    let asked = json!({"batchTag": "20210601-1"});
    let message = "Requested Audit Information";
    gateway
        .get(&format!("{audit}-1"), "", message, asked.clone())
        .await;
    let message = "BatchTag Could not found";
    gateway
        .get(
            &format!("{audit}-9"),
            "",
            message,
            json!({"batchTag": "20210601-9"}),
        )
        .await;
    let other_day = "/audit/download/2021-05-31/20210601-1";
    let message = "Requested date does not match the BatchTag creation date";
    gateway.get(other_day, "", message, asked).await;
}

async fn callbacks(gateway: &mut LoggedGateway) {
    for (url, host, message) in [
        ("nothing", "nothing", "Could not parse URL"),
        (
            "http://a.example/",
            "a.example",
            "Callback URL must use https",
        ),
        (
            "https://user:word@a.example/%3Fq=secret",
            "a.example",
            "URL must not contain any parameters",
        ),
        (
            "https://10.1.2.3/",
            "10.1.2.3",
            "IP Address of callback host is from private IP range.",
        ),
    ] {
        let path = format!("PUT /diagnosiskeys/callback/1?url={url}");
        let head = format!("{path} HTTP/1.1\r\nHost: gateway\r\n{}", forwarded("DE"));
        // Neither user information nor query is logged.
        let logged = url.replace("user:word@", "");
        let logged = logged.split("%3F").next().unwrap();
        let attributes = json!({"url": logged, "host": host});
        gateway.check(&head, b"", message, attributes).await;
    }
}

/// A revoked certificate is refused some time later.
async fn revocations(gateway: &mut LoggedGateway) {
    let signing = "5de1809c416802b51df9e57fb38adba9f1408d807e2ede3c5d4d8bd8ffaa28aa";
    gateway.gateway.revoke(signing);
    gateway.gateway.revoke(&thumbprint("ES"));
    let upload = signed_upload("DE", 50..51);
    let path = format!("/diagnosiskeys/download/{TODAY}");
    let deadline = Instant::now() + Duration::from_secs(30);
    while gateway.raw.get(&get(&path, "ES", "")).await.status() != 403 {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let request = get(&path, "ES", "");
    let head = request.strip_suffix("\r\n").unwrap();
    let attributes = json!({
        "dnString": "C=ES",
        "thumbprint": thumbprint("ES"),
        "level": "WARN",
        "country": "ES",
        "reason": "certificate_revoked",
    });
    gateway
        .check(head, b"", "Certificate is revoked", attributes)
        .await;
    let attributes = json!({"certThumbprint": signing});
    let head = upload.head("DE", "r");
    gateway
        .check(&head, &upload.body, "certificate is revoked", attributes)
        .await;
}

/// The fixed fields of a line, in this order.
const HEAD: [&str; 10] = [
    "timestamp",
    "level",
    "hostname",
    "pid",
    "traceId",
    "spanId",
    "thread",
    "class",
    "message",
    "exception",
];

const MEMORY_RUNS_OUT: &str = "memory for stored uploads is running out: uploads are refused when it is used up; \
                               raise [memory] stored_bytes_max if the machine has more memory";
const NEAR_THE_QUOTA: &str = "a participant is close to its daily quota of keys: beyond it, its uploads are refused \
                              until tomorrow (UTC); see [quota] keys_per_day";

/// Warns at 80 % of the memory for stored uploads and of a quota, not before, and not again and again.
async fn bounds(gateway: &LoggedGateway) {
    let LoggedGateway { gateway, log, .. } = gateway;
    let warnings = |message: &str| -> Vec<Value> {
        let lines = log.lines().into_iter();
        let warned = lines.filter(|line| line["level"] == "WARN" && line["message"] == *message);
        warned.collect()
    };
    let stored_bytes = gateway.engine.status().memory.bytes();
    for (bytes_max, expected) in [(stored_bytes * 2, 0), (stored_bytes * 5 / 4, 1)] {
        log.take();
        let another = gateway.another(|settings| settings.memory.stored_bytes_max = bytes_max);
        // Each look at it would be an occasion.
        another.await.engine.status();
        assert_eq!(warnings(MEMORY_RUNS_OUT).len(), expected, "{}", log.text());
    }
    let quota = "IT=10".parse().unwrap();
    let another = gateway.another(|settings| settings.quota.keys_per_day_of = vec![quota]);
    let another = another.await;
    let mut raw = another.proxy().await;
    for (keys, expected) in [(900..907, 0), (907..908, 1), (908..909, 1)] {
        let upload = signed_upload("IT", keys.clone());
        let head = upload.head("IT", &format!("near-{}", keys.start));
        assert_eq!(raw.ask(&head, &upload.body).await.status(), 201);
        let warned = warnings(NEAR_THE_QUOTA);
        assert_eq!(warned.len(), expected, "after {keys:?}");
        for line in warned {
            assert_eq!((&line["country"], &line["keys"]), (&json!("IT"), &json!(8)));
        }
    }
}

/// Parses a line of `key=value` pairs; panics when it is invalid.
fn pairs(line: &str) -> Vec<(String, String)> {
    let mut rest = line;
    let mut pairs = Vec::new();
    loop {
        let (name, after) = rest.split_once('=').unwrap_or_else(|| panic!("{line}"));
        assert!(
            name.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            "{line}"
        );
        let end = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut escaped = false;
                let end = quoted.char_indices().find(|(_, character)| {
                    let ends = !escaped && *character == '"';
                    escaped = !escaped && *character == '\\';
                    ends
                });
                end.unwrap_or_else(|| panic!("{line}")).0 + 2
            }
            None => after.find(' ').unwrap_or(after.len()),
        };
        let (value, after) = after.split_at(end);
        pairs.push((name.to_owned(), value.to_owned()));
        match after.strip_prefix(' ') {
            Some(next) => rest = next,
            None => {
                assert_eq!(after, "", "{line}");
                return pairs;
            }
        }
    }
}

/// Hostile values in headers and paths, of authenticated and unauthenticated requests.
async fn send_hostile_values(gateway: &Gateway) {
    // Path and query are decoded before they are logged.
    let forged =
        "%22%2C%20forged%3Dyes%0D%0Atimestamp%3D1%2C%20level%3DERROR%1B%5B31m%5C%E2%80%A8%C2%85";
    for request in [
        get(
            &format!("/diagnosiskeys/audit/download/{TODAY}/{forged}"),
            "DE",
            "",
        ),
        get(&format!("/diagnosiskeys/download/{forged}"), "DE", ""),
        get(
            &format!("/diagnosiskeys/callback/{forged}?url=https://{forged}"),
            "DE",
            "",
        )
        .replacen("GET", "PUT", 1),
        get(
            &format!("/diagnosiskeys/callback/1?url=https://{forged}"),
            "DE",
            "",
        )
        .replacen("GET", "PUT", 1),
    ] {
        gateway.proxy().await.get(&request).await;
    }
    // Headers cannot contain line breaks, but everything else.
    let forged = "x\", forged=yes, level=ERROR\\\t\u{2028}\u{85}";
    let path = format!("/diagnosiskeys/download/{TODAY}");
    for request in [
        get(&path, "DE", &format!("batchTag: {forged}\r\n")),
        get(&path, "DE", &format!("Accept: {forged}\r\n")),
        get(&path, "DE", &format!("traceparent: 00-{forged}-1-1\r\n")),
        get(&path, "DE", "").replace("C=DE", &format!("C=FR,O={forged}")),
        get(&path, "DE", "").replace(&thumbprint("DE"), forged),
    ] {
        gateway.proxy().await.get(&request).await;
    }
    let upload = signed_upload("DE", 0..1);
    for (from, to) in [
        ("application/protobuf; version=1.0", forged),
        ("batchTag: t", &format!("batchTag: {forged}")),
        ("batchSignature: ", &format!("batchSignature: {forged}")),
    ] {
        let head = upload.head("DE", "t").replace(from, to);
        gateway.proxy().await.ask(&head, &upload.body).await;
    }
}

#[tokio::test]
async fn prevents_log_injection() {
    let log = LogSink::default();
    // For this thread only, on which the gateway's tasks run.
    let guard = tracing::subscriber::set_default(log.subscriber(LogFormat::Text, LEVEL));
    let gateway = Gateway::start().await;
    log.take();
    send_hostile_values(&gateway).await;
    drop(guard);
    let text = log.take();
    let mut held = 0;
    for line in text.strip_suffix('\n').unwrap().split('\n') {
        assert!(
            !line.contains(|character: char| character.is_control()),
            "{line:?}"
        );
        assert!(!line.contains('\u{2028}'), "{line:?}");
        let pairs = pairs(line);
        let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..HEAD.len()], HEAD, "{line}");
        let more: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(more.len(), names.len(), "{line}");
        assert!(!names.contains(&"forged"), "{line}");
        let level = pairs[1].1.as_str();
        assert!(["WARN", "INFO", "DEBUG"].contains(&level), "{line}");
        held += u32::from(line.contains("forged=yes"));
    }
    // The values are logged, as values: tag, media types, names, thumbprint, URL.
    assert!(held >= 5, "{text}");
}

#[tokio::test]
async fn logs_no_secrets() {
    let log = LogSink::default();
    let guard = tracing::subscriber::set_default(log.subscriber(LogFormat::Json, LEVEL));
    let gateway = Gateway::start().await;
    let mut raw = gateway.proxy().await;
    let upload = signed_upload("DE", 0..3);
    let stored = raw.ask(&upload.head("DE", "t"), &upload.body).await;
    assert_eq!(stored.status(), 201);
    let mut wrong = signed_upload("DE", 3..5);
    wrong.signature = wrong.signature.replace('A', "B");
    raw.ask(&wrong.head("DE", "u"), &wrong.body).await;
    raw.get(&get(&format!("/diagnosiskeys/download/{TODAY}"), "IT", ""))
        .await;
    drop(guard);
    let text = log.take();
    assert!(text.contains("successfull batch upload"), "{text}");
    for signature in [&upload.signature, &wrong.signature] {
        assert!(!text.contains(&signature[..40]), "{text}");
    }
    // The key data of a test's key is its number and its country, in any encoding.
    for encoding in ["AAAAAAAAAABERQ", "00000000000000004445", "\\u0000"] {
        assert!(!text.contains(encoding), "{text}");
    }
}

/// Sends the same request so often on one connection.
async fn repeat(gateway: &Gateway, request: &str, count: u32) {
    let mut raw = gateway.proxy().await;
    for _ in 0..count {
        raw.get(request).await;
    }
}

#[tokio::test]
async fn suppresses_what_one_sender_repeats() {
    let log = LogSink::default();
    let guard = tracing::subscriber::set_default(log.subscriber(LogFormat::Json, LEVEL));
    let gateway = Gateway::start().await;
    let download = format!("/diagnosiskeys/download/{TODAY}");
    let unknown = get(&download, "DE", "").replace(&thumbprint("DE"), &"ab".repeat(32));
    let long = format!("Accept: {}\r\n", "\u{81}".repeat(1000));
    let negotiation = get(&download, "DE", &long);
    let missing = |code| get("/diagnosiskeys/audit/download/2021-06-01/x", code, "");
    let began = Instant::now();
    for request in [&unknown, &negotiation, &missing("DE")] {
        repeat(&gateway, request, 300).await;
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    // Those of others are not counted with them.
    repeat(&gateway, &missing("IT"), 1).await;
    // The next line of the cause has the count.
    let (mut text, mut asked, mut newest) = (log.take(), 300, String::new());
    while !newest.contains("suppressedLines") {
        assert!(began.elapsed() < Duration::from_secs(30), "{text}");
        repeat(&gateway, &missing("DE"), 1).await;
        asked += 1;
        newest = log.take();
        text += &newest;
    }
    drop(guard);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for message in [
        "Unknown client certificate",
        "Accepted Content-Type is not compatible",
    ] {
        let count = lines.iter().filter(|line| line["message"] == message);
        let count = count.count();
        assert!((10..=10 + seconds).contains(&count), "{message}: {count}");
    }
    let audits: Vec<&Value> = lines
        .iter()
        .filter(|line| line["country"] == "DE" && line["message"] == "BatchTag Could not found")
        .collect();
    let suppressed: u64 = audits
        .iter()
        .filter_map(|line| line["suppressedLines"].as_u64())
        .sum();
    assert_eq!(suppressed + audits.len() as u64, asked, "{audits:?}");
    assert!(audits.len() <= 11 + seconds + 1, "{audits:?}");
    let others = lines
        .iter()
        .filter(|line| line["country"] == "IT" && line["level"] == "INFO");
    assert_eq!(others.count(), 1);
}
