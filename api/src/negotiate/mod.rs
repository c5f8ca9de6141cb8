//! Content negotiation: the media type and version of a request body and of a response.
//!
//! - *In*: the `Content-Type` and `Accept` headers.
//! - *Out*: a [`Format`], or the `Content-Type` of a JSON response.
//! - *Refuses*: encoded bodies, other types and other versions ([`NegotiationError`]), before any side
//!   effect. The refusal is logged here, as the reference's event (wire §18.3).
//! - *Assumes*: the participant is authenticated (the reference negotiates first; wire
//!   §3 says why it should not).
//! - *Runs on*: a tokio thread; work is linear in the headers' length, which the listener bounds.

mod media_type;

use std::cmp::Reverse;

use engine::domain::{Country, Format};
use http::{HeaderMap, header};

use media_type::{MediaType, split_unquoted};

/// The one protocol version, for either format (`efgs.content-negotiation.*-version`).
const VERSION: (i32, i32) = (1, 0);

/// Why negotiation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NegotiationError {
    /// `Content-Type` is missing, invalid, or neither protobuf nor JSON.
    ContentType,
    /// The version in `Content-Type`.
    ContentTypeVersion(VersionError),
    /// The body is encoded.
    ContentEncoding,
    /// `Accept` allows nothing that this route offers.
    Accept(Offer),
    /// `Accept` names what the route offers, in another version.
    AcceptVersion(VersionError),
}

/// The formats of a route's responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// JSON only: upload, audit, list of callback subscriptions.
    Json,
    /// Protobuf or JSON: download.
    ProtobufOrJson,
}

/// What is wrong with a `version` parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionError {
    /// It is absent.
    Missing,
    /// It is not two parts joined by a dot.
    Shape,
    /// A part is not an integer.
    Number,
    /// It is another version than ours.
    Incompatible,
}

/// The format of an upload body (wire §5.1).
///
/// # Errors
/// In the reference's order: type, presence of a version, its shape, its value; then its encoding.
pub(crate) fn upload_format(headers: &HeaderMap) -> Result<Format, NegotiationError> {
    let sent = headers.get(header::CONTENT_TYPE);
    let media_type = sent
        .and_then(|value| value.to_str().ok())
        .and_then(MediaType::parse)
        .ok_or(NegotiationError::ContentType)?;
    let format = format_of(&media_type).ok_or(NegotiationError::ContentType)?;
    let version = media_type.parameter("version").ok_or(VersionError::Missing);
    version
        .and_then(check_version)
        .map_err(NegotiationError::ContentTypeVersion)?;
    if is_encoded(headers) {
        return Err(NegotiationError::ContentEncoding);
    }
    Ok(format)
}

/// Whether a body has a content coding. `identity` is none, though it should not be named.
fn is_encoded(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut codings = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    codings.any(|coding| {
        let coding = coding.trim_ascii();
        !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")
    })
}

/// The `Content-Type` of a JSON response to an upload or an audit (wire §5.2): the
/// version is not checked, but echoed when the accepted range names ours.
///
/// # Errors
/// When `Accept` does not allow JSON.
pub(crate) fn json_answer(headers: &HeaderMap) -> Result<&'static str, NegotiationError> {
    let ranges = accepted(headers);
    if ranges.is_empty() && accepts_anything(headers) {
        return Ok(PLAIN_JSON);
    }
    let suitable = ranges.iter().filter(|range| range.quality() > 0);
    let best = suitable
        .filter(|range| specificity(range, Format::Json).is_some())
        .max_by_key(|range| specificity(range, Format::Json))
        .filter(|_| !excluded(&ranges, Format::Json))
        .ok_or(NegotiationError::Accept(Offer::Json))?;
    let ours = best.parameter("version").map(check_version) == Some(Ok(()));
    Ok(if ours && best.sub == "json" {
        content_type(Format::Json)
    } else {
        PLAIN_JSON
    })
}

/// The format of a download (wire §5.2). Absent, `*/*` and unversioned mean version
/// 1.0, protobuf when both match equally; otherwise the client's order by specificity, then quality.
///
/// # Errors
/// When `Accept` allows neither format, or only other versions.
pub(crate) fn download_format(headers: &HeaderMap) -> Result<Format, NegotiationError> {
    let ranges = accepted(headers);
    if ranges.is_empty() && accepts_anything(headers) {
        return Ok(Format::Protobuf);
    }
    let mut found = Found::default();
    let formats = [Format::Protobuf, Format::Json].into_iter();
    for format in formats.filter(|format| !excluded(&ranges, *format)) {
        for (position, range) in ranges.iter().enumerate() {
            found.consider(range, position, format);
        }
    }
    match found {
        Found {
            best: Some((_, format)),
            ..
        } => Ok(format),
        Found {
            version_error: Some(error),
            ..
        } => Err(NegotiationError::AcceptVersion(error)),
        Found { .. } => Err(NegotiationError::Accept(Offer::ProtobufOrJson)),
    }
}

/// Logs the event of a request that is no upload.
pub(crate) fn log(error: NegotiationError, headers: &HeaderMap, country: Country) {
    let (message, requested) = event(error, headers);
    tracing::info!(%country, requestedMediaType = requested, "{message}");
}

/// The reference's event, or its counterpart for `Content-Type`, and what was asked for.
pub(crate) fn event(error: NegotiationError, headers: &HeaderMap) -> (&'static str, String) {
    let (header, message) = match error {
        NegotiationError::ContentType => (header::CONTENT_TYPE, "Content-Type is not compatible"),
        NegotiationError::ContentTypeVersion(VersionError::Missing) => (
            header::CONTENT_TYPE,
            "Version parameter of Content-Type is required",
        ),
        NegotiationError::ContentTypeVersion(_) => (
            header::CONTENT_TYPE,
            "Deserialization: Protocol version is not compatible",
        ),
        NegotiationError::ContentEncoding => (
            header::CONTENT_ENCODING,
            "Content-Encoding is not supported",
        ),
        NegotiationError::Accept(_) => (header::ACCEPT, "Accepted Content-Type is not compatible"),
        // Cannot happen while a missing version counts as ours.
        NegotiationError::AcceptVersion(VersionError::Missing) => (
            header::ACCEPT,
            "Version parameter of Accepted Content-Type is required",
        ),
        NegotiationError::AcceptVersion(_) => (
            header::ACCEPT,
            "Serialization: Protocol version is not compatible",
        ),
    };
    let values = headers.get_all(header).iter();
    let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
    (message, values.collect::<Vec<_>>().join(", "))
}

/// The `Content-Type` of a body, exactly as the reference writes it (no blank).
pub(crate) const fn content_type(format: Format) -> &'static str {
    match format {
        Format::Protobuf => "application/protobuf;version=1.0",
        Format::Json => "application/json;version=1.0",
    }
}

/// JSON without a version: for errors, and when the caller did not ask for a version.
pub(crate) const PLAIN_JSON: &str = "application/json";

/// Specificity, quality, and the position from the end: greater is better.
type Rank = (u8, u16, Reverse<usize>);

#[derive(Default)]
struct Found {
    best: Option<(Rank, Format)>,
    version_error: Option<VersionError>,
}

impl Found {
    fn consider(&mut self, range: &MediaType<'_>, position: usize, format: Format) {
        let Some(specificity) = specificity(range, format) else {
            return;
        };
        if range.quality() == 0 {
            return;
        }
        if let Some(Err(error)) = range.parameter("version").map(check_version) {
            self.version_error.get_or_insert(error);
            return;
        }
        let rank = (specificity, range.quality(), Reverse(position));
        if self.best.is_none_or(|(best, _)| rank > best) {
            self.best = Some((rank, format));
        }
    }
}

/// Whether `Accept` is absent or blank.
fn accepts_anything(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::ACCEPT).iter();
    values.all(|value| value.as_bytes().trim_ascii().is_empty())
}

/// All ranges of all `Accept` headers; invalid ones are ignored.
fn accepted(headers: &HeaderMap) -> Vec<MediaType<'_>> {
    let values = headers.get_all(header::ACCEPT).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| split_unquoted(value, b','))
        .filter_map(MediaType::parse)
        .collect()
}

fn format_of(media_type: &MediaType<'_>) -> Option<Format> {
    match (&*media_type.main, &*media_type.sub) {
        ("application", "protobuf") => Some(Format::Protobuf),
        ("application", "json") => Some(Format::Json),
        _ => None,
    }
}

/// How specifically a range matches a format; `None` when it does not.
fn specificity(range: &MediaType<'_>, format: Format) -> Option<u8> {
    if range.is("*", "*") {
        Some(0)
    } else if range.is("application", "*") {
        Some(1)
    } else {
        (format_of(range) == Some(format)).then_some(2)
    }
}

/// Whether a format is excluded by quality 0, which overrides wildcards.
fn excluded(ranges: &[MediaType<'_>], format: Format) -> bool {
    let mut named = ranges
        .iter()
        .filter(|range| format_of(range) == Some(format));
    named.any(|range| range.quality() == 0)
}

/// Checks `major.minor`. Only the same version is compatible (wire §5).
fn check_version(text: &str) -> Result<(), VersionError> {
    let mut parts = text.split('.');
    let (Some(major), Some(minor), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(VersionError::Shape);
    };
    let number = |part: &str| part.parse::<i32>().map_err(|_| VersionError::Number);
    let version = (number(major)?, number(minor)?);
    if version == VERSION {
        Ok(())
    } else {
        Err(VersionError::Incompatible)
    }
}

#[cfg(test)]
mod tests;
