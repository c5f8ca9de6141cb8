//! The only file with status codes: what each outcome looks like on the wire.
//!
//! Every error is `application/json` with the legacy `message` (null where the reference gives no
//! reason) and a stable `code`; what exactly was wrong follows in further members. Only who is
//! authenticated gets that far: authentication is the first check. Errors never carry a
//! `batchTag` header (PL takes its absence for "no data").

#![deny(clippy::wildcard_enum_match_arm)]

pub(crate) mod catalog;

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use bytes::Bytes;
use engine::bundle::{DownloadError, DownloadRefusal};
use engine::callbacks::CallbackError;
use engine::decode::MalformedBatch;
use engine::domain::{BatchTag, Format, UnixMillis, UploadTag};
use engine::upload::Receipt;
use engine::validate::KeyRule;
use engine::verify::SignatureError;
use engine::{Failure, Overload, OverloadBound, Rejection, UploadError};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::delivery::UrlError;
use crate::negotiate::{self, NegotiationError, Offer, VersionError};
use crate::participant::AuthenticationError;

/// `batchTag`; [`crate::header_case`] spells it so on HTTP/1.1.
pub(crate) const BATCH_TAG: HeaderName = HeaderName::from_static("batchtag");
/// `nextBatchTag`.
pub(crate) const NEXT_BATCH_TAG: HeaderName = HeaderName::from_static("nextbatchtag");
/// `batchSignature`.
pub(crate) const BATCH_SIGNATURE: HeaderName = HeaderName::from_static("batchsignature");

/// Anything that is not the answer that was asked for.
#[derive(Debug)]
pub(crate) enum Refusal {
    Route(RouteError),
    Authentication(AuthenticationError),
    Negotiation(NegotiationError),
    Request(RequestError),
    Upload(UploadError),
    Download(DownloadError),
    Callback(CallbackRefusal),
}

/// There is nothing at this path, or not with this method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteError {
    NotFound,
    MethodNotAllowed { allow: &'static str },
}

/// A header, the path or the body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestError {
    MissingBatchTag,
    MissingBatchSignature,
    InvalidUploadTag,
    /// With what stood in the path, shortened.
    InvalidDate(Box<str>),
    EmptyJson,
    BodyTooLarge {
        bytes_max: usize,
    },
    /// The body came too slowly.
    BodyStalled,
    /// The body broke off.
    BodyUnreadable,
}

/// A subscription cannot be as wished.
#[derive(Debug)]
pub(crate) enum CallbackRefusal {
    InvalidId,
    MissingUrl,
    Url(UrlError),
    Unknown,
    TooMany,
    Error(CallbackError),
}

impl From<UrlError> for CallbackRefusal {
    fn from(error: UrlError) -> Self {
        Self::Url(error)
    }
}

impl From<Overload> for CallbackRefusal {
    fn from(overload: Overload) -> Self {
        Self::Error(overload.into())
    }
}

impl From<CallbackRefusal> for Refusal {
    fn from(refusal: CallbackRefusal) -> Self {
        Self::Callback(refusal)
    }
}

impl From<UrlError> for Refusal {
    fn from(error: UrlError) -> Self {
        Self::Callback(error.into())
    }
}

impl From<AuthenticationError> for Refusal {
    fn from(error: AuthenticationError) -> Self {
        Self::Authentication(error)
    }
}

impl From<NegotiationError> for Refusal {
    fn from(error: NegotiationError) -> Self {
        Self::Negotiation(error)
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl From<UploadError> for Refusal {
    fn from(error: UploadError) -> Self {
        Self::Upload(error)
    }
}

impl From<DownloadError> for Refusal {
    fn from(error: DownloadError) -> Self {
        Self::Download(error)
    }
}

impl From<Overload> for Refusal {
    fn from(overload: Overload) -> Self {
        Self::Upload(UploadError::Overload(overload))
    }
}

/// The answer to a refusal; counts it under its code.
pub(crate) fn refuse(refusal: &Refusal, now: UnixMillis) -> Response<Body> {
    let verdict = verdict(refusal);
    metrics::counter!("efgs_refusals_total", "code" => verdict.body.code).increment(1);
    let mut response = json(verdict.status, negotiate::PLAIN_JSON, &verdict.body);
    if let Some((name, value)) = verdict.extra.header(now) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The answer to who asks for what is not there, or in a way that it cannot be asked for.
pub(crate) fn no_route(error: RouteError) -> Response<Body> {
    // No header of these answers tells a time.
    refuse(&Refusal::Route(error), UnixMillis(0))
}

/// The stable code of a refusal, for the log.
pub(crate) fn code(refusal: &Refusal) -> &'static str {
    verdict(refusal).body.code
}

/// 201, or 207 with the three arrays (wire behaviour §11, row 15, and §12).
pub(crate) fn receipt(
    receipt: &Receipt,
    tag: &UploadTag,
    json_type: &'static str,
) -> Response<Body> {
    match receipt {
        // Never 200: DK and NO read it as an outage. ES needs the header.
        Receipt::Stored { .. } => {
            let mut response = plain(StatusCode::CREATED, Body::empty());
            let tag = HeaderValue::from_str(tag.as_str()).expect("an upload tag is visible ASCII");
            response.headers_mut().insert(BATCH_TAG, tag);
            response
        }
        Receipt::Refused {
            key_count,
            duplicates,
        } => json(
            StatusCode::MULTI_STATUS,
            json_type,
            &KeyOutcomes::new(*key_count, duplicates),
        ),
    }
}

/// 200 with a bundle (wire behaviour §14).
pub(crate) fn bundle(
    tag: BatchTag,
    next: Option<BatchTag>,
    format: Format,
    body: Body,
) -> Response<Body> {
    let mut response = plain(StatusCode::OK, body);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        from_static(negotiate::content_type(format)),
    );
    headers.insert(BATCH_TAG, tag_value(&tag));
    let next = next.as_ref().map_or_else(|| from_static("null"), tag_value);
    headers.insert(NEXT_BATCH_TAG, next);
    headers.insert("x-protobuf-schema", from_static("Efgs.proto"));
    headers.insert(
        "x-protobuf-message",
        from_static("eu.interop.DiagnosisKeyBatch"),
    );
    response
}

/// 200 with JSON.
pub(crate) fn found<T: Serialize>(json_type: &'static str, value: &T) -> Response<Body> {
    json(StatusCode::OK, json_type, value)
}

/// 200 without a body.
pub(crate) fn done() -> Response<Body> {
    plain(StatusCode::OK, Body::empty())
}

/// 503 with JSON: the gateway is not ready.
pub(crate) fn not_ready<T: Serialize>(value: &T) -> Response<Body> {
    json(
        StatusCode::SERVICE_UNAVAILABLE,
        negotiate::PLAIN_JSON,
        value,
    )
}

/// 200 with text of another kind.
pub(crate) fn text(content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = plain(StatusCode::OK, body.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, from_static(content_type));
    response
}

/// 200 to OPTIONS: which methods a path knows.
pub(crate) fn options(allow: &'static str) -> Response<Body> {
    let mut response = plain(StatusCode::OK, Body::empty());
    response
        .headers_mut()
        .insert(header::ALLOW, from_static(allow));
    response
}

/// 200 to `OPTIONS /diagnosiskeys` (wire behaviour §1.1): also says which uploads are understood.
pub(crate) fn capabilities() -> Response<Body> {
    let mut response = options("POST,GET,OPTIONS");
    let accepted = "application/json; version=1.0, application/protobuf; version=1.0";
    response
        .headers_mut()
        .insert(header::ACCEPT, from_static(accepted));
    response
}

/// Whether a response is an error; its connection need not be kept when the body was not asked
/// for.
pub(crate) fn is_error(response: &Response<Body>) -> bool {
    response.status().is_client_error() || response.status().is_server_error()
}

/// The body of a 207: positions in the request by what became of each key.
#[derive(Serialize)]
struct KeyOutcomes<'a> {
    #[serde(rename = "500")]
    failed: [u32; 0],
    #[serde(rename = "201")]
    creatable: Vec<u32>,
    #[serde(rename = "409")]
    duplicates: &'a [u32],
}

impl<'a> KeyOutcomes<'a> {
    fn new(key_count: u32, duplicates: &'a [u32]) -> Self {
        let mut ahead = duplicates.iter().copied().peekable();
        let creatable = (0..key_count).filter(|index| ahead.next_if_eq(index).is_none());
        Self {
            failed: [],
            creatable: creatable.collect(),
            duplicates,
        }
    }
}

/// A refusal as it goes out.
struct Verdict {
    status: StatusCode,
    body: ErrorBody,
    extra: Extra,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody {
    message: Option<Cow<'static, str>>,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_index: Option<u32>,
    /// Which rule or which problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// The header that goes with an error.
enum Extra {
    None,
    Allow(&'static str),
    Accept(&'static str),
    RetryAfterSeconds(Duration),
    RetryAfterDate(Duration),
    Close,
}

impl Extra {
    fn header(&self, now: UnixMillis) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::None => None,
            Self::Allow(methods) => Some((header::ALLOW, from_static(methods))),
            Self::Accept(types) => Some((header::ACCEPT, from_static(types))),
            Self::Close => Some((header::CONNECTION, from_static("close"))),
            Self::RetryAfterSeconds(wait) => {
                Some((header::RETRY_AFTER, HeaderValue::from(whole_seconds(*wait))))
            }
            // CZ understands this form (compatibility checklist, row 21).
            Self::RetryAfterDate(wait) => {
                let at = UNIX_EPOCH + Duration::from_secs(now.seconds() + whole_seconds(*wait));
                let date = HeaderValue::try_from(httpdate::fmt_http_date(at));
                date.ok().map(|date| (header::RETRY_AFTER, date))
            }
        }
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).clamp(1, 86_400) as u64
}

impl Verdict {
    fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let message = Some(message.into());
        let body = ErrorBody {
            message,
            code,
            key_index: None,
            reason: None,
        };
        Self {
            status,
            body,
            extra: Extra::None,
        }
    }

    fn without_message(mut self) -> Self {
        self.body.message = None;
        self
    }

    fn because(mut self, reason: &'static str) -> Self {
        self.body.reason = Some(reason);
        self
    }

    fn at_key(mut self, index: u32) -> Self {
        self.body.key_index = Some(index);
        self
    }

    fn with(mut self, extra: Extra) -> Self {
        self.extra = extra;
        self
    }
}

fn verdict(refusal: &Refusal) -> Verdict {
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
            let verdict = bad("invalid_signature", "Invalid signature").because(error.code());
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

fn json<T: Serialize>(status: StatusCode, content_type: &'static str, value: &T) -> Response<Body> {
    let bytes = serde_json::to_vec(value).expect("our own types have string keys only");
    let mut response = plain(status, Body::from(Bytes::from(bytes)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, from_static(content_type));
    response
}

fn plain(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = HeaderMap::with_capacity(8);
    response
}

const fn from_static(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

fn tag_value(tag: &BatchTag) -> HeaderValue {
    HeaderValue::try_from(tag.to_string()).expect("a batch tag is digits and a dash")
}

#[cfg(test)]
mod tests;
