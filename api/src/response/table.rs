//! The table of refusals: status, stable code, legacy message.

use std::time::Duration;

use engine::bundle::{DownloadError, DownloadRefusal};
use engine::callbacks::CallbackError;
use engine::validate::KeyRule;
use engine::verify::SignatureError;
use engine::wire::MalformedBatch;
use engine::{Failure, Overload, OverloadBound, Rejection, UploadError};
use http::StatusCode;

use super::advice::{body_advice, mistake_advice, signature_advice};
use super::error_response::{ErrorHeader, ErrorResponse};
use super::refusal::{CallbackRefusal, Refusal, RequestError, RouteError};
use crate::delivery::UrlError;
use crate::message::MessageError;
use crate::negotiate::{NegotiationError, Offer, VersionError};
use crate::participant::AuthenticationError;

/// The error response for a refusal.
pub(super) fn error_response(refusal: &Refusal) -> ErrorResponse {
    match refusal {
        Refusal::Message(error) => message_response(*error),
        Refusal::Route(error) => route_response(*error),
        Refusal::Authentication(error) => authentication_response(*error),
        Refusal::Negotiation(error) => negotiation_response(*error),
        Refusal::Request(error) => request_response(error),
        Refusal::Upload(UploadError::Rejection(rejection)) => rejection_response(*rejection),
        Refusal::Upload(UploadError::ContentMismatch { error, content }) => {
            rejection_response(Rejection::Signature(*error))
                .with_computed(content)
                .advising(content.mistake.map(mistake_advice))
        }
        Refusal::Upload(UploadError::Overload(overload)) => overload_response(*overload),
        Refusal::Upload(UploadError::Failure(failure)) => failure_response(failure),
        Refusal::Download(DownloadError::Refused(refusal)) => download_response(*refusal),
        Refusal::Download(DownloadError::Overload(overload)) => overload_response(*overload),
        Refusal::Download(DownloadError::Failure(failure)) => failure_response(failure),
        Refusal::Callback(refusal) => callback_response(refusal),
    }
}

/// Closes the connection: where such a message ends is ambiguous (request smuggling).
fn message_response(error: MessageError) -> ErrorResponse {
    let bad =
        |code, message: &'static str| ErrorResponse::new(StatusCode::BAD_REQUEST, code, message);
    let response = match error {
        MessageError::TransferCoding => ErrorResponse::new(
            StatusCode::NOT_IMPLEMENTED,
            "unsupported_transfer_coding",
            "The only supported transfer coding is chunked.",
        ),
        MessageError::RepeatedChunked => {
            bad("repeated_chunked", "A body must be chunked only once.")
        }
        MessageError::NoHost => bad("host_missing", "Required header 'Host' is not present."),
        MessageError::RepeatedHost => bad("host_repeated", "There must be one header 'Host'."),
        MessageError::InvalidHost => bad("host_invalid", "The header 'Host' is not a host."),
    };
    response.with(ErrorHeader::Close)
}

fn route_response(error: RouteError) -> ErrorResponse {
    match error {
        RouteError::NotFound => ErrorResponse::new(StatusCode::NOT_FOUND, "not_found", "Not Found"),
        RouteError::MethodNotAllowed { allow } => {
            let message = "Method Not Allowed";
            ErrorResponse::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                message,
            )
            .with(ErrorHeader::Allow(allow))
        }
    }
}

/// Wire §4.
fn authentication_response(error: AuthenticationError) -> ErrorResponse {
    let forbidden =
        |code, message: &'static str| ErrorResponse::new(StatusCode::FORBIDDEN, code, message);
    let unauthorized = "Client is not authorized to access the service";
    match error {
        AuthenticationError::NoClientCertificate => {
            forbidden("no_client_certificate", "").without_message()
        }
        AuthenticationError::NoForwardedIdentity => {
            forbidden("no_forwarded_identity", "").without_message()
        }
        AuthenticationError::UntrustedPeer => forbidden("untrusted_peer", unauthorized),
        AuthenticationError::RepeatedIdentityHeader => {
            forbidden("repeated_identity_header", unauthorized)
        }
        AuthenticationError::NameTooLong => forbidden("subject_name_too_long", unauthorized),
        AuthenticationError::NoCountry => ErrorResponse::new(
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

/// Wire §5.
fn negotiation_response(error: NegotiationError) -> ErrorResponse {
    match error {
        NegotiationError::ContentType => ErrorResponse::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_content_type",
            "Content-Type must be application/protobuf or application/json",
        )
        .with(ErrorHeader::Accept(
            "application/protobuf, application/json",
        )),
        NegotiationError::ContentEncoding => ErrorResponse::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_content_encoding",
            "The body must not be encoded",
        )
        .with(ErrorHeader::AcceptEncoding),
        NegotiationError::ContentTypeVersion(error) => {
            let status = match error {
                VersionError::Incompatible => StatusCode::NOT_ACCEPTABLE,
                VersionError::Missing | VersionError::Shape | VersionError::Number => {
                    StatusCode::BAD_REQUEST
                }
            };
            version_response(status, error)
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
            ErrorResponse::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message)
                .with(ErrorHeader::Accept(types))
        }
        // The reference gives 415 after all side effects; its documents promise 406.
        NegotiationError::AcceptVersion(error) => {
            version_response(StatusCode::NOT_ACCEPTABLE, error)
        }
    }
}

fn version_response(status: StatusCode, error: VersionError) -> ErrorResponse {
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
    ErrorResponse::new(status, code, message)
}

fn request_response(error: &RequestError) -> ErrorResponse {
    let bad =
        |code, message: &'static str| ErrorResponse::new(StatusCode::BAD_REQUEST, code, message);
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
        RequestError::InvalidDryRun => bad("dry_run_invalid", "dryRun must be true or false."),
        RequestError::InvalidDate(sent) => ErrorResponse::new(
            StatusCode::BAD_REQUEST,
            "date_invalid",
            format!("Failed to convert 'date' with value: '{sent}'"),
        ),
        RequestError::EmptyJson => bad("body_empty", UNREADABLE),
        RequestError::BodyTooLarge { bytes_max } => ErrorResponse::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("The body must not be larger than {bytes_max} bytes."),
        )
        .with(ErrorHeader::Close),
        RequestError::BodyStalled => ErrorResponse::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_stalled",
            "The body was not received in time.",
        )
        .with(ErrorHeader::Close),
        RequestError::BodyUnreadable => bad("body_unreadable", UNREADABLE).with(ErrorHeader::Close),
    }
}

/// The reference's text for any body that it cannot parse.
const UNREADABLE: &str = "Failed to read request";

/// Wire §11.
fn rejection_response(rejection: Rejection) -> ErrorResponse {
    let bad =
        |code, message: &'static str| ErrorResponse::new(StatusCode::BAD_REQUEST, code, message);
    match rejection {
        Rejection::MalformedBatch(error) => malformed_response(error),
        Rejection::TooManyKeys { .. } => {
            let message = "Too many diagnosis keys";
            ErrorResponse::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_keys", message)
        }
        Rejection::InvalidKey { index, rule } => {
            let message = format!(
                "uploadDiagnosisKeys.body: Validation of diagnosis key failed: {rule}, \
                 uploadDiagnosisKeys.body: One or more diagnosis keys are not valid"
            );
            ErrorResponse::new(StatusCode::BAD_REQUEST, "invalid_key", message)
                .at_key(index)
                .because(rule_code(rule))
        }
        Rejection::Signature(error) => {
            let response = bad("invalid_signature", "Invalid signature")
                .because(error.code())
                .advising(signature_advice(error));
            if let SignatureError::ForeignOrigin { index, .. } = error {
                return response.at_key(index);
            }
            response
        }
        Rejection::OriginMismatch(mismatch) => {
            let message = "One or more keys are not originated from uploader country";
            bad("origin_mismatch", message).at_key(mismatch.index)
        }
        Rejection::UploadTagTaken { .. } => ErrorResponse::new(
            StatusCode::CONFLICT,
            "batch_tag_taken",
            "BatchTag already exists.",
        ),
    }
}

fn malformed_response(error: MalformedBatch) -> ErrorResponse {
    let (message, reason) = match error {
        MalformedBatch::Truncated => (UNREADABLE, "truncated"),
        MalformedBatch::Field => (UNREADABLE, "field"),
        MalformedBatch::NotUtf8 => (UNREADABLE, "not_utf8"),
        MalformedBatch::Json => (UNREADABLE, "json"),
        MalformedBatch::Base64 => ("Invalid Base64 in JSON object", "base64"),
        MalformedBatch::JsonAsProtobuf => (UNREADABLE, "json_as_protobuf"),
        MalformedBatch::ProtobufAsJson => (UNREADABLE, "protobuf_as_json"),
    };
    ErrorResponse::new(StatusCode::BAD_REQUEST, "malformed_batch", message)
        .because(reason)
        .advising(body_advice(error))
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

/// 429 for a participant above its own share; 503 for everyone when the gateway is full.
fn overload_response(overload: Overload) -> ErrorResponse {
    let full = |code| {
        let message = "The gateway is at its limit, try again later.";
        ErrorResponse::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
            .with(ErrorHeader::RetryAfterSeconds(overload.retry_after))
    };
    match overload.bound {
        OverloadBound::Batches => full("overloaded_batches"),
        OverloadBound::Bytes => full("overloaded_bytes"),
        OverloadBound::ColdReads => full("overloaded_reads"),
        OverloadBound::Answers => full("overloaded_answers"),
        OverloadBound::Callbacks => full("overloaded_callbacks"),
        OverloadBound::Memory => {
            let message =
                "The gateway's memory for stored keys is used up: its operator has to see to it.";
            ErrorResponse::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded_memory",
                message,
            )
            .with(ErrorHeader::RetryAfterSeconds(overload.retry_after))
        }
        OverloadBound::KeysPerDay => {
            let message = "The keys of this upload exceed the participant's quota of today, try again tomorrow (UTC).";
            ErrorResponse::new(StatusCode::TOO_MANY_REQUESTS, "quota_keys_per_day", message)
                .with(ErrorHeader::RetryAfterDate(overload.retry_after))
        }
        OverloadBound::ParticipantShare | OverloadBound::AnswerShare => {
            let message = "Too many requests of this participant are in progress.";
            ErrorResponse::new(StatusCode::TOO_MANY_REQUESTS, "participant_share", message)
                .with(ErrorHeader::RetryAfterDate(overload.retry_after))
        }
    }
}

/// A plain 503 or 500, never a 207 full of failures (wire §12).
fn failure_response(failure: &Failure) -> ErrorResponse {
    let unavailable = |code, message: &'static str, wait| {
        ErrorResponse::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
            .with(ErrorHeader::RetryAfterSeconds(wait))
    };
    match failure {
        Failure::Database(_) => {
            let message = "The gateway cannot reach its database, try again later.";
            unavailable("database_unavailable", message, Duration::from_secs(5))
        }
        Failure::StorageRefused(_) => {
            let message = "The gateway cannot store uploads at the moment, try again later.";
            unavailable("storage_refused", message, Duration::from_secs(5))
        }
        Failure::NoOutcome => {
            let message = "It is not known yet whether the upload is stored, send it again later.";
            unavailable("no_outcome", message, Duration::from_secs(5))
        }
        Failure::DatabaseWentBack => {
            let message = "The gateway waits for its operator, try again later.";
            unavailable("database_went_back", message, Duration::from_secs(60))
        }
        Failure::StateFile => {
            let message = "The gateway cannot confirm what it stored, try again later.";
            unavailable("state_file_unwritable", message, Duration::from_secs(5))
        }
        Failure::ShuttingDown => {
            let message = "The gateway is shutting down, try again later.";
            unavailable("shutting_down", message, Duration::from_secs(1))
        }
        Failure::Panicked | Failure::Unseal(_) => ErrorResponse::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "Internal Server Error.",
        ),
    }
}

/// Wire §14 and §15.
fn download_response(refusal: DownloadRefusal) -> ErrorResponse {
    match refusal {
        DownloadRefusal::DateTooOld => ErrorResponse::new(
            StatusCode::GONE,
            "date_too_old",
            "Requested date is too old!",
        ),
        DownloadRefusal::NoBatchOnDate => ErrorResponse::new(
            StatusCode::NOT_FOUND,
            "no_batch_on_date",
            // DK and NO compare this text literally.
            "Could not find any batches for given date",
        ),
        DownloadRefusal::UnknownBatchTag => ErrorResponse::new(
            StatusCode::NOT_FOUND,
            "unknown_batch_tag",
            "Could not find batch with given BatchTag",
        ),
        DownloadRefusal::BatchBeforeDate => ErrorResponse::new(
            StatusCode::BAD_REQUEST,
            "batch_before_date",
            "Given date does is not after or equals the requested batchTag",
        ),
        DownloadRefusal::OtherDay => ErrorResponse::new(
            StatusCode::NOT_FOUND,
            "batch_of_other_day",
            "Given date does not match the requested batch",
        ),
        DownloadRefusal::NoEntries => {
            ErrorResponse::new(StatusCode::NOT_FOUND, "no_entries", "Batchtag not found")
        }
    }
}

/// Wire §16.1.
fn callback_response(refusal: &CallbackRefusal) -> ErrorResponse {
    let bad =
        |code, message: &'static str| ErrorResponse::new(StatusCode::BAD_REQUEST, code, message);
    match refusal {
        CallbackRefusal::InvalidId => bad(
            "callback_id_invalid",
            "The callbackId must have 1 to 32 characters: ASCII letters, digits and -_.:",
        ),
        CallbackRefusal::MissingUrl => bad(
            "callback_url_missing",
            "Required parameter 'url' is not present.",
        ),
        CallbackRefusal::Url(error) => {
            bad("callback_url_invalid", "Callback URL is invalid").because(url_code(*error))
        }
        CallbackRefusal::Unknown => ErrorResponse::new(
            StatusCode::NOT_FOUND,
            "unknown_callback",
            "Could not find any callback subscription for the given callbackId.",
        ),
        CallbackRefusal::TooMany => ErrorResponse::new(
            StatusCode::CONFLICT,
            "too_many_callbacks",
            "There are too many callback subscriptions, delete one first.",
        ),
        CallbackRefusal::Error(CallbackError::Overload(overload)) => overload_response(*overload),
        CallbackRefusal::Error(CallbackError::Failure(failure)) => failure_response(failure),
    }
}

const fn url_code(error: UrlError) -> &'static str {
    match error {
        UrlError::TooLong => "too_long",
        UrlError::Unreadable => "unreadable",
        UrlError::NotHttps => "not_https",
        UrlError::HasQuery => "has_query",
        UrlError::HasUserInfo => "has_user_info",
        // One reason for both, so that a participant cannot probe which names exist in the internal
        // network. The log distinguishes them.
        UrlError::Unresolvable | UrlError::NotPublic => "host_refused",
    }
}
