//! Every response on the wire; the only place with status codes.
//!
//! Every error is `application/json` with the legacy `message` (null where the reference gives no
//! reason) and a stable `code`; further members give the details, to authenticated callers only,
//! since authentication is the first check. Errors never carry a `batchTag` header (PL takes its
//! absence for "no data").

#![deny(clippy::wildcard_enum_match_arm)]

mod advice;
pub(crate) mod catalog;
mod error_response;
mod refusal;
mod table;

use axum::body::Body;
use bytes::Bytes;
use engine::domain::{BatchTag, Country, Format, UnixMillis, UploadTag};
use engine::upload::Receipt;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::message::MessageError;
use crate::negotiate;

pub(crate) use refusal::{CallbackRefusal, Refusal, RequestError, RouteError};
use table::error_response;

/// `batchTag`; [`crate::header_case`] restores its case on HTTP/1.1.
pub(crate) const BATCH_TAG: HeaderName = HeaderName::from_static("batchtag");
/// `nextBatchTag`.
pub(crate) const NEXT_BATCH_TAG: HeaderName = HeaderName::from_static("nextbatchtag");
/// The mark of answers to dry runs.
pub(crate) const DRY_RUN: HeaderName = HeaderName::from_static("dry-run");
const PROTOBUF_SCHEMA: HeaderName = HeaderName::from_static("x-protobuf-schema");
const PROTOBUF_MESSAGE: HeaderName = HeaderName::from_static("x-protobuf-message");
/// `batchSignature`.
pub(crate) const BATCH_SIGNATURE: HeaderName = HeaderName::from_static("batchsignature");

/// The error response for a refusal; counts it under its code, and for the participant if it is known.
pub(crate) fn refuse(
    refusal: &Refusal,
    country: Option<Country>,
    now: UnixMillis,
) -> Response<Body> {
    let error = error_response(refusal);
    let code = error.body.code;
    metrics::counter!("efgs_refusals_total", "code" => code).increment(1);
    if let Some(country) = country {
        let labels = [("country", country.to_string()), ("code", code.to_owned())];
        metrics::counter!("efgs_participant_refusals_total", &labels).increment(1);
    }
    let mut response = json(error.status, negotiate::PLAIN_JSON, &error.body);
    if let Some((name, value)) = error.header.to_header(now) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The error response for a request that is not proper HTTP.
pub(crate) fn not_http(error: MessageError) -> Response<Body> {
    // None of these responses has a header with a time.
    refuse(&error.into(), None, UnixMillis(0))
}

/// The error response for an unknown path, or a method that the path does not support.
pub(crate) fn no_route(error: RouteError) -> Response<Body> {
    // None of these responses has a header with a time.
    refuse(&Refusal::Route(error), None, UnixMillis(0))
}

/// The stable code of a refusal, for the log.
pub(crate) fn code(refusal: &Refusal) -> &'static str {
    error_response(refusal).body.code
}

/// 201, or 207 with the three arrays, whose type has no version (wire §11.15 and §12).
pub(crate) fn receipt(receipt: &Receipt, tag: &UploadTag) -> Response<Body> {
    match receipt {
        // Never 200: DK and NO treat it as an outage. ES needs the header.
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
            negotiate::PLAIN_JSON,
            &KeyOutcomes::new(*key_count, duplicates),
        ),
    }
}

/// The answer to a dry run: what the upload would be answered, with a mark, as it stored nothing.
pub(crate) fn marked_as_dry_run(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(DRY_RUN, from_static("true"));
    response
}

/// 200 with a bundle (wire §14).
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
    headers.insert(PROTOBUF_SCHEMA, from_static("Efgs.proto"));
    headers.insert(
        PROTOBUF_MESSAGE,
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

/// 421: the request is under a name that the port does not have.
pub(crate) fn wrong_host(text: &'static str) -> Response<Body> {
    plain(StatusCode::MISDIRECTED_REQUEST, Body::from(text))
}

/// Only the status of a response.
pub(crate) fn without_body(response: Response<Body>) -> Response<Body> {
    plain(response.status(), Body::empty())
}

/// 200 with a body of another media type.
pub(crate) fn text(content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = plain(StatusCode::OK, body.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, from_static(content_type));
    response
}

/// 200 to OPTIONS: the methods that a path supports.
pub(crate) fn options(allow: &'static str) -> Response<Body> {
    let mut response = plain(StatusCode::OK, Body::empty());
    response
        .headers_mut()
        .insert(header::ALLOW, from_static(allow));
    response
}

/// 200 to `OPTIONS /diagnosiskeys` (wire §1.1): also lists the media types of uploads.
pub(crate) fn capabilities() -> Response<Body> {
    let mut response = options("POST,GET,OPTIONS");
    let accepted = "application/json; version=1.0, application/protobuf; version=1.0";
    response
        .headers_mut()
        .insert(header::ACCEPT, from_static(accepted));
    response
}

/// Whether a response is an error.
pub(crate) fn is_error(response: &Response<Body>) -> bool {
    response.status().is_client_error() || response.status().is_server_error()
}

/// The body of a 207: the positions of the keys in the request, by outcome.
#[derive(Serialize)]
struct KeyOutcomes<'a> {
    #[serde(rename = "500")]
    failed: [u32; 0],
    #[serde(rename = "201")]
    accepted: Vec<u32>,
    #[serde(rename = "409")]
    duplicates: &'a [u32],
}

impl<'a> KeyOutcomes<'a> {
    fn new(key_count: u32, duplicates: &'a [u32]) -> Self {
        let mut ahead = duplicates.iter().copied().peekable();
        let accepted = (0..key_count).filter(|index| ahead.next_if_eq(index).is_none());
        Self {
            failed: [],
            accepted: accepted.collect(),
            duplicates,
        }
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
