use std::time::Duration;

use engine::DatabaseError;
use engine::bundle::{DownloadError, DownloadRefusal};
use engine::validate::{KeyRule, OriginMismatch};
use engine::verify::SignatureError;
use engine::wire::MalformedBatch;
use engine::{Failure, Overload, OverloadBound, Rejection};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::*;
use crate::negotiate::{NegotiationError, Offer, VersionError};
use crate::participant::AuthenticationError;

/// `date -u -d @1602000000`: Tue Oct 6 16:00:00 UTC 2020.
const NOW: UnixMillis = UnixMillis(1_602_000_000_250);

async fn body_of(response: Response<Body>) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

async fn check(refusal: impl Into<Refusal>, status: u16, body: Value) {
    let refusal = refusal.into();
    let response = refuse(&refusal, None, NOW);
    assert_eq!(response.status().as_u16(), status, "{refusal:?}");
    assert_eq!(
        response.headers()["content-type"],
        "application/json",
        "{refusal:?}"
    );
    assert!(!response.headers().contains_key("batchtag"), "{refusal:?}");
    assert_eq!(body_of(response).await, body, "{refusal:?}");
}

fn header(refusal: impl Into<Refusal>, name: &str) -> Option<String> {
    let response = refuse(&refusal.into(), None, NOW);
    let value = response.headers().get(name)?;
    Some(value.to_str().unwrap().to_owned())
}

/// Wire §4.0.2 to §4.0.6.
#[tokio::test]
async fn answers_authentication_errors_as_the_reference_does() {
    use AuthenticationError as Error;
    for (error, status, message, code) in [
        (
            Error::NoClientCertificate,
            403,
            Value::Null,
            "no_client_certificate",
        ),
        (
            Error::NoForwardedIdentity,
            403,
            Value::Null,
            "no_forwarded_identity",
        ),
        (
            Error::NoCountry,
            400,
            json!("Client Certificate must contain country property"),
            "no_country",
        ),
        (
            Error::UnknownCertificate,
            403,
            json!("Client is not authorized to access the service"),
            "unknown_certificate",
        ),
        (
            Error::UntrustedPeer,
            403,
            json!("Client is not authorized to access the service"),
            "untrusted_peer",
        ),
        (
            Error::RepeatedIdentityHeader,
            403,
            json!("Client is not authorized to access the service"),
            "repeated_identity_header",
        ),
        (
            Error::NameTooLong,
            403,
            json!("Client is not authorized to access the service"),
            "subject_name_too_long",
        ),
        (
            Error::RevokedCertificate,
            403,
            json!("Client certificate is revoked"),
            "certificate_revoked",
        ),
        (
            Error::Expired,
            403,
            json!("Client certificate has expired"),
            "certificate_expired",
        ),
        (
            Error::NotYetValid,
            403,
            json!("Client certificate is not valid yet"),
            "certificate_not_yet_valid",
        ),
    ] {
        check(error, status, json!({"message": message, "code": code})).await;
    }
}

/// Wire §5.1 and §5.2.
#[tokio::test]
async fn answers_negotiation_errors_as_the_reference_does() {
    use NegotiationError as Error;
    let missing = "Version parameter of Content-Type is required!";
    let shape = "Version can just contain a major and minor version splitted by a dot!";
    let number = "Given version string has an invalid number format!";
    let incompatible = "Protocol version is not compatible!";
    for (error, of_content_type, of_accept, message, code) in [
        (VersionError::Missing, 400, 406, missing, "version_missing"),
        (VersionError::Shape, 400, 406, shape, "version_malformed"),
        (VersionError::Number, 400, 406, number, "version_malformed"),
        (
            VersionError::Incompatible,
            406,
            406,
            incompatible,
            "version_incompatible",
        ),
    ] {
        let body = json!({"message": message, "code": code});
        check(
            Error::ContentTypeVersion(error),
            of_content_type,
            body.clone(),
        )
        .await;
        check(Error::AcceptVersion(error), of_accept, body).await;
    }
    let message = "Content-Type must be application/protobuf or application/json";
    let body = json!({"message": message, "code": "unsupported_content_type"});
    check(Error::ContentType, 415, body).await;
    let message = "Acceptable representations: [application/json].";
    let body = json!({"message": message, "code": "not_acceptable"});
    check(Error::Accept(Offer::Json), 406, body).await;
    assert_eq!(
        header(Error::Accept(Offer::ProtobufOrJson), "accept").as_deref(),
        Some("application/protobuf, application/json")
    );
}

/// Wire §8 and §11.
#[tokio::test]
async fn answers_rejected_uploads_as_the_reference_does() {
    let upload = |rejection: Rejection| Refusal::Upload(rejection.into());
    check(
        upload(Rejection::InvalidKey {
            index: 17,
            rule: KeyRule::RollingPeriod,
        }),
        400,
        json!({
            "message": "uploadDiagnosisKeys.body: Validation of diagnosis key failed: \
                        Invalid rolling period., \
                        uploadDiagnosisKeys.body: One or more diagnosis keys are not valid",
            "code": "invalid_key",
            "keyIndex": 17,
            "reason": "rolling_period",
        }),
    )
    .await;
    check(
        upload(Rejection::TooManyKeys { max: 5000 }),
        413,
        json!({"message": "Too many diagnosis keys", "code": "too_many_keys"}),
    )
    .await;
    check(
        upload(Rejection::UploadTagTaken { key_count: 2 }),
        409,
        json!({"message": "BatchTag already exists.", "code": "batch_tag_taken"}),
    )
    .await;
    check(
        upload(Rejection::Signature(SignatureError::Wrong)),
        400,
        json!({"message": "Invalid signature", "code": "invalid_signature", "reason": "signature_invalid"}),
    )
    .await;
    let mismatch = OriginMismatch {
        index: 3,
        expected: Country::parse("DE").unwrap(),
        key_count: 4,
    };
    check(
        upload(mismatch.into()),
        400,
        json!({
            "message": "One or more keys are not originated from uploader country",
            "code": "origin_mismatch",
            "keyIndex": 3,
        }),
    )
    .await;
    check(
        upload(MalformedBatch::Base64.into()),
        400,
        json!({
            "message": "Invalid Base64 in JSON object",
            "code": "malformed_batch",
            "reason": "base64",
        }),
    )
    .await;
}

#[tokio::test]
async fn answers_unreadable_requests() {
    for (error, status, message, code) in [
        (
            RequestError::MissingBatchTag,
            400,
            "Required header 'batchTag' is not present.",
            "batch_tag_missing",
        ),
        (
            RequestError::MissingBatchSignature,
            400,
            "Required header 'batchSignature' is not present.",
            "batch_signature_missing",
        ),
        (
            RequestError::InvalidDate("2020-1-1".into()),
            400,
            "Failed to convert 'date' with value: '2020-1-1'",
            "date_invalid",
        ),
        (
            RequestError::EmptyJson,
            400,
            "Failed to read request",
            "body_empty",
        ),
        (
            RequestError::BodyTooLarge { bytes_max: 8 },
            413,
            "The body must not be larger than 8 bytes.",
            "body_too_large",
        ),
        (
            RequestError::BodyStalled,
            408,
            "The body was not received in time.",
            "body_stalled",
        ),
        (
            RequestError::BodyUnreadable,
            400,
            "Failed to read request",
            "body_unreadable",
        ),
        (
            RequestError::InvalidUploadTag,
            400,
            "The batchTag must have 1 to 64 visible ASCII characters.",
            "batch_tag_invalid",
        ),
    ] {
        check(error, status, json!({"message": message, "code": code})).await;
    }
    let stalled = header(RequestError::BodyStalled, "connection");
    assert_eq!(stalled.as_deref(), Some("close"));
}

/// Wire §14 and §15.
#[tokio::test]
async fn answers_refused_downloads_with_the_exact_texts() {
    use DownloadRefusal as Error;
    for (error, status, message, code) in [
        (
            Error::DateTooOld,
            410,
            "Requested date is too old!",
            "date_too_old",
        ),
        (
            Error::NoBatchOnDate,
            404,
            "Could not find any batches for given date",
            "no_batch_on_date",
        ),
        (
            Error::UnknownBatchTag,
            404,
            "Could not find batch with given BatchTag",
            "unknown_batch_tag",
        ),
        (
            Error::BatchBeforeDate,
            400,
            "Given date does is not after or equals the requested batchTag",
            "batch_before_date",
        ),
        (
            Error::OtherDay,
            404,
            "Given date does not match the requested batch",
            "batch_of_other_day",
        ),
        (Error::NoEntries, 404, "Batchtag not found", "no_entries"),
    ] {
        let body = json!({"message": message, "code": code});
        check(DownloadError::from(error), status, body).await;
    }
}

#[tokio::test]
async fn sets_retry_after() {
    let overload = |bound| {
        let mut overload = Overload::of(bound);
        overload.retry_after = Duration::from_millis(1200);
        overload
    };
    let batches = overload(OverloadBound::Batches);
    assert_eq!(refuse(&batches.into(), None, NOW).status(), 503);
    assert_eq!(header(batches, "retry-after").as_deref(), Some("2"));
    let share = overload(OverloadBound::ParticipantShare);
    assert_eq!(refuse(&share.into(), None, NOW).status(), 429);
    assert_eq!(
        header(share, "retry-after").as_deref(),
        Some("Tue, 06 Oct 2020 16:00:02 GMT")
    );
}

#[tokio::test]
async fn hides_the_source_of_a_failure() {
    let source = Box::from("password s3cret refused");
    let failure = Failure::Database(DatabaseError {
        doing: "storing",
        source,
    });
    let refusal = Refusal::Upload(failure.into());
    let response = refuse(&refusal, None, NOW);
    assert_eq!(response.status(), 503);
    assert!(!body_of(response).await.to_string().contains("s3cret"));
    let refusal = Refusal::Upload(Failure::Panicked.into());
    let body = json!({"message": "Internal Server Error.", "code": "internal_error"});
    check(refusal, 500, body).await;
}

#[tokio::test]
async fn lists_every_position_of_a_refused_upload_once() {
    let tag = UploadTag::parse("t").unwrap();
    let outcome = Receipt::Refused {
        key_count: 5,
        duplicates: vec![0, 3],
    };
    let response = receipt(&outcome, &tag);
    assert_eq!(response.status(), 207);
    assert!(!response.headers().contains_key("batchtag"));
    let expected = json!({"500": [], "201": [1, 2, 4], "409": [0, 3]});
    assert_eq!(body_of(response).await, expected);
}

#[tokio::test]
async fn answers_a_stored_upload_with_its_tag_and_no_body() {
    let tag = UploadTag::parse("2020-10-5-Ab+/==-1").unwrap();
    let response = receipt(
        &Receipt::Stored {
            key_count: 3,
            replayed: false,
        },
        &tag,
    );
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["batchtag"], "2020-10-5-Ab+/==-1");
    assert!(
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );
}

#[test]
fn names_the_next_bundle_or_null() {
    let first = BatchTag::parse("20201006-1").unwrap();
    let second = BatchTag::parse("20201007-1").unwrap();
    let last = bundle(second, None, Format::Json, Body::empty());
    assert_eq!(last.headers()["nextbatchtag"], "null");
    assert_eq!(
        last.headers()["content-type"],
        "application/json;version=1.0"
    );
    let response = bundle(first, Some(second), Format::Protobuf, Body::empty());
    assert_eq!(response.status(), 200);
    for (name, value) in [
        ("batchtag", "20201006-1"),
        ("nextbatchtag", "20201007-1"),
        ("content-type", "application/protobuf;version=1.0"),
        ("x-protobuf-schema", "Efgs.proto"),
        ("x-protobuf-message", "eu.interop.DiagnosisKeyBatch"),
    ] {
        assert_eq!(response.headers()[name], value);
    }
}

#[test]
fn lists_the_media_types_of_uploads() {
    let response = capabilities();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["allow"], "POST,GET,OPTIONS");
    assert_eq!(
        response.headers()["accept"],
        "application/json; version=1.0, application/protobuf; version=1.0"
    );
}
