//! Which refusal looks how: status, stable code, legacy message.

use std::time::Duration;

use engine::bundle::{DownloadError, DownloadRefusal};
use engine::callbacks::CallbackError;
use engine::validate::KeyRule;
use engine::verify::SignatureError;
use engine::wire::MalformedBatch;
use engine::{Failure, Overload, OverloadBound, Rejection, UploadError};
use http::StatusCode;

use super::verdict::{Extra, Verdict};
use super::{CallbackRefusal, Refusal, RequestError, RouteError};
use crate::delivery::UrlError;
use crate::negotiate::{NegotiationError, Offer, VersionError};
use crate::participant::AuthenticationError;

/// What a refusal looks like on the wire.
pub(super) fn verdict(refusal: &Refusal) -> Verdict {
    match refusal {
        Refusal::Route(error) => route_verdict(*error),
        Refusal::Authentication(error) => authentication_verdict(*error),
        Refusal::Negotiation(error) => negotiation_verdict(*error),
        Refusal::Request(error) => request_verdict(error),
        Refusal::Upload(UploadError::Rejection(rejection)) => rejection_verdict(*rejection),
        Refusal::Upload(UploadError::Overload(overload)) => overload_verdict(*overload),
        Refusal::Upload(UploadError::Failure(failure)) => failure_verdict(failure),
        Refusal::Download(DownloadError::Refused(refusal)) => download_verdict(*refusal),
        Refusal::Download(DownloadError::Overload(overload)) => overload_verdict(*overload),
        Refusal::Download(DownloadError::Failure(failure)) => failure_verdict(failure),
        Refusal::Callback(refusal) => callback_verdict(refusal),
    }
}

fn route_verdict(error: RouteError) -> Verdict {
    match error {
        RouteError::NotFound => Verdict::new(StatusCode::NOT_FOUND, "not_found", "Not Found"),
        RouteError::MethodNotAllowed { allow } => {
            let message = "Method Not Allowed";
            Verdict::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                message,
            )
            .with(Extra::Allow(allow))
        }
    }
}

/// Wire behaviour §4.
fn authentication_verdict(error: AuthenticationError) -> Verdict {
    let forbidden =
        |code, message: &'static str| Verdict::new(StatusCode::FORBIDDEN, code, message);
    let unauthorized = "Client is not authorized to access the service";
    match error {
        AuthenticationError::NoClientCertificate => {
            forbidden("no_client_certificate", "").without_message()
        }
        AuthenticationError::NoForwardedIdentity => {
            forbidden("no_forwarded_identity", "").without_message()
        }
        AuthenticationError::UntrustedPeer => forbidden("untrusted_peer", unauthorized),
        AuthenticationError::NoCountry => Verdict::new(
            StatusCode::BAD_REQUEST,
            "no_country",
            "Client Certificate must contain country property",
        ),
        AuthenticationError::UnknownCertificate => forbidden("unknown_certificate", unauthorized),
        AuthenticationError::RevokedCertificate => {
            forbidden("certificate_revoked", "Client certificate is revoked")
        }
        AuthenticationError::NotYetValid => forbidden(
            "certificate_not_yet_valid",
            "Client certificate is not valid yet",
        ),
        AuthenticationError::Expired => {
            forbidden("certificate_expired", "Client certificate has expired")
        }
    }
}

/// Wire behaviour §5.
fn negotiation_verdict(error: NegotiationError) -> Verdict {
    match error {
        NegotiationError::ContentType => Verdict::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_content_type",
            "Content-Type must be application/protobuf or application/json",
        )
        .with(Extra::Accept("application/protobuf, application/json")),
        NegotiationError::ContentTypeVersion(error) => {
            let status = match error {
                VersionError::Incompatible => StatusCode::NOT_ACCEPTABLE,
                VersionError::Missing | VersionError::Shape | VersionError::Number => {
                    StatusCode::BAD_REQUEST
                }
            };
            version_verdict(status, error)
        }
        NegotiationError::Accept(offer) => {
            let (message, types) = match offer {
                Offer::Json => (
                    "Acceptable representations: [application/json].",
                    "application/json",
                ),
                Offer::ProtobufOrJson => (
                    "Acceptable representations: [application/protobuf, application/json].",
                    "application/protobuf, application/json",
                ),
            };
            Verdict::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message)
                .with(Extra::Accept(types))
        }
        // The reference gives 415 after all side effects; its documents promise 406.
        NegotiationError::AcceptVersion(error) => {
            version_verdict(StatusCode::NOT_ACCEPTABLE, error)
        }
    }
}

fn version_verdict(status: StatusCode, error: VersionError) -> Verdict {
    let (code, message) = match error {
        VersionError::Missing => (
            "version_missing",
            "Version parameter of Content-Type is required!",
        ),
        VersionError::Shape => (
            "version_malformed",
            "Version can just contain a major and minor version splitted by a dot!",
        ),
        VersionError::Number => (
            "version_malformed",
            "Given version string has an invalid number format!",
        ),
        VersionError::Incompatible => (
            "version_incompatible",
            "Protocol version is not compatible!",
        ),
    };
    Verdict::new(status, code, message)
}

fn request_verdict(error: &RequestError) -> Verdict {
    let bad = |code, message: &'static str| Verdict::new(StatusCode::BAD_REQUEST, code, message);
    match error {
        RequestError::MissingBatchTag => bad(
            "batch_tag_missing",
            "Required header 'batchTag' is not present.",
        ),
        RequestError::MissingBatchSignature => bad(
            "batch_signature_missing",
            "Required header 'batchSignature' is not present.",
        ),
        RequestError::InvalidUploadTag => bad(
            "batch_tag_invalid",
            "The batchTag must have 1 to 64 visible ASCII characters.",
        ),
        RequestError::InvalidDate(sent) => Verdict::new(
            StatusCode::BAD_REQUEST,
            "date_invalid",
            format!("Failed to convert 'date' with value: '{sent}'"),
        ),
        RequestError::EmptyJson => bad("body_empty", UNREADABLE),
        RequestError::BodyTooLarge { bytes_max } => Verdict::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("The body must not be larger than {bytes_max} bytes."),
        )
        .with(Extra::Close),
        RequestError::BodyStalled => Verdict::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_stalled",
            "The body was not received in time.",
        )
        .with(Extra::Close),
        RequestError::BodyUnreadable => bad("body_unreadable", UNREADABLE).with(Extra::Close),
    }
}

/// The reference's text for any body that it cannot read.
const UNREADABLE: &str = "Failed to read request";

/// Wire behaviour §11.
fn rejection_verdict(rejection: Rejection) -> Verdict {
    let bad = |code, message: &'static str| Verdict::new(StatusCode::BAD_REQUEST, code, message);
    match rejection {
        Rejection::MalformedBatch(error) => malformed_verdict(error),
        Rejection::TooManyKeys { .. } => {
            let message = "Too many diagnosis keys";
            Verdict::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_keys", message)
        }
        Rejection::InvalidKey { index, rule } => {
            let message = format!(
                "uploadDiagnosisKeys.body: Validation of diagnosis key failed: {rule}, \
                 uploadDiagnosisKeys.body: One or more diagnosis keys are not valid"
            );
            Verdict::new(StatusCode::BAD_REQUEST, "invalid_key", message)
                .at_key(index)
                .because(rule_code(rule))
        }
        Rejection::Signature(error) => {
            let message = signature_message(error);
            let verdict = bad("invalid_signature", message).because(error.code());
            if let SignatureError::ForeignOrigin { index } = error {
                return verdict.at_key(index);
            }
            verdict
        }
        Rejection::OriginMismatch(mismatch) => {
            let message = "One or more keys are not originated from uploader country";
            bad("origin_mismatch", message).at_key(mismatch.index)
        }
        Rejection::UploadTagTaken { .. } => Verdict::new(
            StatusCode::CONFLICT,
            "batch_tag_taken",
            "BatchTag already exists.",
        ),
    }
}

/// The reference's text, and who can help.
fn signature_message(error: SignatureError) -> &'static str {
    if error == SignatureError::WeakDigest {
        "Invalid signature: MD5 is never accepted, SHA-1 only if the gateway's operator allows it \
         for the participant ([signatures] legacy_sha1)"
    } else if error == SignatureError::PssNotAllowed {
        "Invalid signature: RSA-PSS is only accepted if the gateway's operator allows it for the \
         participant ([signatures] pss)"
    } else {
        "Invalid signature"
    }
}

fn malformed_verdict(error: MalformedBatch) -> Verdict {
    let (message, reason) = match error {
        MalformedBatch::Truncated => (UNREADABLE, "truncated"),
        MalformedBatch::Field => (UNREADABLE, "field"),
        MalformedBatch::NotUtf8 => (UNREADABLE, "not_utf8"),
        MalformedBatch::Json => (UNREADABLE, "json"),
        MalformedBatch::Base64 => ("Invalid Base64 in JSON object", "base64"),
    };
    Verdict::new(StatusCode::BAD_REQUEST, "malformed_batch", message).because(reason)
}

const fn rule_code(rule: KeyRule) -> &'static str {
    match rule {
        KeyRule::KeyDataPresent => "key_data_present",
        KeyRule::KeyDataLength => "key_data_length",
        KeyRule::RollingStart => "rolling_start",
        KeyRule::RollingPeriod => "rolling_period",
        KeyRule::RiskLevel => "risk_level",
        KeyRule::ReportType => "report_type",
        KeyRule::CountryText => "country_text",
        KeyRule::CountriesLength => "countries_length",
    }
}

/// A participant over its own share is throttled; everybody else meets a full gateway.
fn overload_verdict(overload: Overload) -> Verdict {
    let full = |code| {
        let message = "The gateway is at its limit, try again later.";
        Verdict::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
            .with(Extra::RetryAfterSeconds(overload.retry_after))
    };
    match overload.bound {
        OverloadBound::Batches => full("overloaded_batches"),
        OverloadBound::Bytes => full("overloaded_bytes"),
        OverloadBound::ColdReads => full("overloaded_reads"),
        OverloadBound::Callbacks => full("overloaded_callbacks"),
        OverloadBound::ParticipantShare => {
            let message = "Too many requests of this participant are in progress.";
            Verdict::new(StatusCode::TOO_MANY_REQUESTS, "participant_share", message)
                .with(Extra::RetryAfterDate(overload.retry_after))
        }
    }
}

/// A plain 503 or 500, never a 207 full of failures (wire behaviour §12).
fn failure_verdict(failure: &Failure) -> Verdict {
    let unavailable = |code, message: &'static str, wait| {
        Verdict::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
            .with(Extra::RetryAfterSeconds(wait))
    };
    match failure {
        Failure::Database(_) => {
            let message = "The gateway cannot reach its database, try again later.";
            unavailable("database_unavailable", message, Duration::from_secs(5))
        }
        Failure::ShuttingDown => {
            let message = "The gateway is shutting down, try again later.";
            unavailable("shutting_down", message, Duration::from_secs(1))
        }
        Failure::Panicked | Failure::Unseal(_) => Verdict::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "Internal Server Error.",
        ),
    }
}

/// Wire behaviour §14 and §15.
fn download_verdict(refusal: DownloadRefusal) -> Verdict {
    match refusal {
        DownloadRefusal::DateTooOld => Verdict::new(
            StatusCode::GONE,
            "date_too_old",
            "Requested date is too old!",
        ),
        DownloadRefusal::NoBatchOnDate => Verdict::new(
            StatusCode::NOT_FOUND,
            "no_batch_on_date",
            // DK and NO compare this text literally.
            "Could not find any batches for given date",
        ),
        DownloadRefusal::UnknownBatchTag => Verdict::new(
            StatusCode::NOT_FOUND,
            "unknown_batch_tag",
            "Could not find batch with given BatchTag",
        ),
        DownloadRefusal::BatchBeforeDate => Verdict::new(
            StatusCode::BAD_REQUEST,
            "batch_before_date",
            "Given date does is not after or equals the requested batchTag",
        ),
        DownloadRefusal::OtherDay => Verdict::new(
            StatusCode::NOT_FOUND,
            "batch_of_other_day",
            "Given date does not match the requested batch",
        ),
        DownloadRefusal::NoEntries => {
            Verdict::new(StatusCode::NOT_FOUND, "no_entries", "Batchtag not found")
        }
    }
}

/// Wire behaviour §16.1.
fn callback_verdict(refusal: &CallbackRefusal) -> Verdict {
    let bad = |code, message: &'static str| Verdict::new(StatusCode::BAD_REQUEST, code, message);
    match refusal {
        CallbackRefusal::InvalidId => bad(
            "callback_id_invalid",
            "The callbackId must have 1 to 32 characters.",
        ),
        CallbackRefusal::MissingUrl => bad(
            "callback_url_missing",
            "Required parameter 'url' is not present.",
        ),
        CallbackRefusal::Url(error) => {
            bad("callback_url_invalid", "Callback URL is invalid").because(url_code(*error))
        }
        CallbackRefusal::Unknown => Verdict::new(
            StatusCode::NOT_FOUND,
            "unknown_callback",
            "Could not find any callback subscription for the given callbackId.",
        ),
        CallbackRefusal::TooMany => Verdict::new(
            StatusCode::CONFLICT,
            "too_many_callbacks",
            "There are too many callback subscriptions, delete one first.",
        ),
        CallbackRefusal::Error(CallbackError::Overload(overload)) => overload_verdict(*overload),
        CallbackRefusal::Error(CallbackError::Failure(failure)) => failure_verdict(failure),
    }
}

const fn url_code(error: UrlError) -> &'static str {
    match error {
        UrlError::TooLong => "too_long",
        UrlError::Unreadable => "unreadable",
        UrlError::NotHttps => "not_https",
        UrlError::HasQuery => "has_query",
        UrlError::HasUserInfo => "has_user_info",
        UrlError::Unresolvable => "unresolvable",
        UrlError::NotPublic => "not_public",
    }
}
