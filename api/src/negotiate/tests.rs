use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use NegotiationError::{Accept, AcceptVersion, ContentType, ContentTypeVersion};
use VersionError::{Incompatible, Missing, Number, Shape};

fn headers(name: header::HeaderName, values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(&name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn check_upload(content_type: &str, expected: Result<Format, NegotiationError>) {
    let headers = headers(header::CONTENT_TYPE, &[content_type]);
    assert_eq!(upload_format(&headers), expected, "{content_type:?}");
}

fn check_download(accept: &[&str], expected: Result<Format, NegotiationError>) {
    let headers = headers(header::ACCEPT, accept);
    assert_eq!(download_format(&headers), expected, "{accept:?}");
}

fn check_json(accept: &[&str], expected: Result<&str, NegotiationError>) {
    let headers = headers(header::ACCEPT, accept);
    assert_eq!(json_answer(&headers), expected, "{accept:?}");
}

/// Wire §5.1, and what each client sends (clients §1.1).
#[test]
fn accepts_the_content_types_of_all_clients() {
    for sent in [
        "application/protobuf; version=1.0",
        "application/protobuf;version=1.0",
        "application/protobuf; version=\"1.0\"",
        "APPLICATION/Protobuf ; Version = 1.0 ; charset=UTF-8",
        "application/protobuf; version=01.0",
        "application/protobuf; version=+1.0",
    ] {
        check_upload(sent, Ok(Format::Protobuf));
    }
    check_upload("application/json; version=1.0", Ok(Format::Json));
    check_upload("application / json; version = 1.0", Ok(Format::Json));
}

#[test]
fn refuses_other_content_types_before_looking_at_the_version() {
    assert_eq!(upload_format(&HeaderMap::new()), Err(ContentType));
    for sent in [
        "",
        "text/plain",
        "application/octet-stream",
        "application/x-protobuf; version=1.0",
        "application/*; version=1.0",
        "application/json, application/protobuf",
        "nonsense",
    ] {
        check_upload(sent, Err(ContentType));
    }
    let mut odd = HeaderMap::new();
    let value = HeaderValue::from_bytes(b"application/json\xff").unwrap();
    odd.insert(header::CONTENT_TYPE, value);
    assert_eq!(upload_format(&odd), Err(ContentType));
}

#[test]
fn checks_the_version_of_a_content_type() {
    for (version, error) in [
        ("1", Shape),
        ("1.0.0", Shape),
        ("", Shape),
        ("1.x", Number),
        ("1.", Number),
        (".1", Number),
        ("1.99999999999", Number),
        ("1.1", Incompatible),
        ("0.1", Incompatible),
        ("2.0", Incompatible),
        ("-1.0", Incompatible),
    ] {
        let sent = format!("application/protobuf; version={version}");
        check_upload(&sent, Err(ContentTypeVersion(error)));
    }
    check_upload("application/protobuf", Err(ContentTypeVersion(Missing)));
    check_upload(
        "application/json; charset=utf-8",
        Err(ContentTypeVersion(Missing)),
    );
}

/// Wire §5.2; clients (a).4.
#[test]
fn gives_json_whenever_it_is_acceptable() {
    check_json(&[], Ok(PLAIN_JSON));
    for accept in [
        "",
        "*/*",
        "application/*",
        "application/json",
        "application/json; version=2.0",
        "application/json; charset=utf-8",
        "text/plain, */*",
        "application/json, text/plain, */*",
        "application/octet-stream, */*",
        "application/octet-stream, application/*+json, application/json, */*",
    ] {
        check_json(&[accept], Ok(PLAIN_JSON));
    }
    for accept in [
        "application/json;version=1.0",
        "application / json; version = 1.0",
        "*/*, application/json; version=\"1.0\"",
    ] {
        check_json(&[accept], Ok("application/json;version=1.0"));
    }
}

#[test]
fn refuses_when_json_is_not_acceptable() {
    for accept in [
        "text/html",
        "application/protobuf; version=1.0",
        "application/json;q=0",
        "application/json;q=0, */*",
        "nonsense",
        ",",
    ] {
        check_json(&[accept], Err(Accept(Offer::Json)));
    }
}

/// Wire §5.2, the table of downloads.
#[test]
fn chooses_the_format_of_a_download() {
    let (protobuf, json) = (Ok(Format::Protobuf), Ok(Format::Json));
    for accept in [
        "application/protobuf; version=1.0",
        "application/protobuf",
        "*/*",
        "application/*;version=1.0",
        "",
        "text/html, */*",
        "application/json;q=0, */*",
        "application/protobuf, application/json",
        "application/json;q=0.1, application/protobuf",
        "application/json;version=2.0, application/protobuf;version=1.0",
        "application/json;version=2.0, */*",
    ] {
        check_download(&[accept], protobuf);
    }
    check_download(&[], protobuf);
    for accept in [
        "application/json; version=1.0",
        "application / json; version = 1.0",
        "application/json",
        "application/json, text/plain, */*",
        "application/json;q=0.2, */*",
        "application/protobuf;q=0, */*",
        "application/json, application/protobuf",
        "application/protobuf;q=0.5, application/json",
        "application/protobuf;version=1.1, application/json;version=1.0",
    ] {
        check_download(&[accept], json);
    }
    check_download(&["text/html", "application/json; version=1.0"], json);
}

#[test]
fn refuses_other_versions_and_types_of_a_download() {
    for (accept, error) in [
        (
            "application/protobuf; version=2.0",
            AcceptVersion(Incompatible),
        ),
        ("application/json; version=1.1", AcceptVersion(Incompatible)),
        ("application/*; version=1.1", AcceptVersion(Incompatible)),
        ("application/protobuf; version=1", AcceptVersion(Shape)),
        ("application/protobuf; version=1.x", AcceptVersion(Number)),
        ("text/html", Accept(Offer::ProtobufOrJson)),
        (
            "text/html, application/xhtml+xml",
            Accept(Offer::ProtobufOrJson),
        ),
        ("application/protobuf;q=0", Accept(Offer::ProtobufOrJson)),
        ("nonsense", Accept(Offer::ProtobufOrJson)),
    ] {
        check_download(&[accept], Err(error));
    }
}

proptest! {
    #[test]
    fn survives_any_header(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.clone());
            headers.insert(header::ACCEPT, value);
            let _ = upload_format(&headers);
            let _ = download_format(&headers);
            let _ = json_answer(&headers);
        }
    }
}
