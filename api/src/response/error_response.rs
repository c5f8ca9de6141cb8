//! An error response: a status, a body, perhaps a header.

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use engine::domain::UnixMillis;
use engine::verify::ContentSummary;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

/// An error response.
pub(super) struct ErrorResponse {
    pub(super) status: StatusCode,
    pub(super) body: ErrorBody,
    pub(super) header: ErrorHeader,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorBody {
    pub(super) message: Option<Cow<'static, str>>,
    pub(super) code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_index: Option<u32>,
    /// Which rule was broken, or which problem it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    /// Who can do what about it, where `message` is the reference's and does not say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<&'static str>,
    /// What the gateway computed from the keys of an upload whose signature covers something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) computed: Option<Computed>,
}

/// What a signature would have to cover, for a participant that looks for its mistake. Only the
/// uploader gets it: the texts hold key data.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Computed {
    /// SHA-256 over the canonical texts in signing order, in hexadecimal.
    sha256: String,
    key_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_text: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_text: Option<Box<str>>,
}

/// The header of an error response.
pub(super) enum ErrorHeader {
    None,
    Allow(&'static str),
    Accept(&'static str),
    /// Bodies as they are.
    AcceptEncoding,
    RetryAfterSeconds(Duration),
    RetryAfterDate(Duration),
    Close,
}

impl ErrorHeader {
    pub(super) fn to_header(&self, now: UnixMillis) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::None => None,
            Self::Allow(methods) => Some((header::ALLOW, HeaderValue::from_static(methods))),
            Self::Accept(types) => Some((header::ACCEPT, HeaderValue::from_static(types))),
            Self::AcceptEncoding => {
                let as_it_is = HeaderValue::from_static("identity");
                Some((header::ACCEPT_ENCODING, as_it_is))
            }
            Self::Close => Some((header::CONNECTION, HeaderValue::from_static("close"))),
            Self::RetryAfterSeconds(wait) => {
                Some((header::RETRY_AFTER, HeaderValue::from(whole_seconds(*wait))))
            }
            // CZ understands this form (clients (a).21).
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

impl ErrorResponse {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let message = Some(message.into());
        let body = ErrorBody {
            message,
            code,
            key_index: None,
            reason: None,
            advice: None,
            computed: None,
        };
        Self {
            status,
            body,
            header: ErrorHeader::None,
        }
    }

    pub(super) fn without_message(mut self) -> Self {
        self.body.message = None;
        self
    }

    pub(super) fn because(mut self, reason: &'static str) -> Self {
        self.body.reason = Some(reason);
        self
    }

    pub(super) fn advising(mut self, advice: Option<&'static str>) -> Self {
        self.body.advice = advice;
        self
    }

    pub(super) fn with_computed(mut self, content: &ContentSummary) -> Self {
        self.body.computed = Some(Computed {
            sha256: content.sha256.to_hex(),
            key_count: content.key_count,
            first_text: content.first_text.clone(),
            last_text: content.last_text.clone(),
        });
        self
    }

    pub(super) fn at_key(mut self, index: u32) -> Self {
        self.body.key_index = Some(index);
        self
    }

    pub(super) fn with(mut self, header: ErrorHeader) -> Self {
        self.header = header;
        self
    }
}
