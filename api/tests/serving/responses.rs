//! Responses of the routes, byte for byte.

use std::time::Duration;

use crate::support::{Gateway, TODAY, get, signed_upload, thumbprint};
use crate::{CAPABILITIES, PROTOBUF, await_status, download_path};

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
    assert_eq!(members["uploadedTime"], "2021-06-01T12:00:00.00Z");
    assert_eq!(members["uploaderThumbprint"], thumbprint("IT"));
}
