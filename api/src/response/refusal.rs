//! Refusals: every error that a request can get, in one type.

use engine::bundle::DownloadError;
use engine::callbacks::CallbackError;
use engine::{Overload, UploadError};

use crate::delivery::UrlError;
use crate::message::MessageError;
use crate::negotiate::NegotiationError;
use crate::participant::AuthenticationError;

/// Why a request is not answered as asked.
#[derive(Debug)]
pub(crate) enum Refusal {
    Message(MessageError),
    Route(RouteError),
    Authentication(AuthenticationError),
    Negotiation(NegotiationError),
    Request(RequestError),
    Upload(UploadError),
    Download(DownloadError),
    Callback(CallbackRefusal),
}

/// An unknown path, or a method that it does not support.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteError {
    NotFound,
    MethodNotAllowed { allow: &'static str },
}

/// A header, the path or the body is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestError {
    MissingBatchTag,
    MissingBatchSignature,
    InvalidUploadTag,
    InvalidDryRun,
    /// With the invalid text, shortened.
    InvalidDate(Box<str>),
    EmptyJson,
    BodyTooLarge {
        bytes_max: usize,
    },
    /// The body arrived too slowly.
    BodyStalled,
    /// The body broke off.
    BodyUnreadable,
}

/// Why a subscription request is refused.
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

impl From<MessageError> for Refusal {
    fn from(error: MessageError) -> Self {
        Self::Message(error)
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
