//! Why an upload was not stored, grouped by fault. Each stage defines its own error; this file
//! collects them.

use crate::failure::Failure;
use crate::overload::Overload;
use crate::validate::{InvalidKey, KeyRule, OriginMismatch};
use crate::verify::{ContentSummary, SignatureError, VerifyError};
use crate::wire::{BodyError, MalformedBatch};

/// Why an upload was not stored.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The participant's doing; never retried unchanged.
    #[error(transparent)]
    Rejection(#[from] Rejection),
    /// The participant's doing: its signature is not over these keys.
    #[error("{error}")]
    ContentMismatch {
        /// [`SignatureError::DigestMismatch`] or [`SignatureError::Wrong`].
        error: SignatureError,
        /// What a signature would have to cover. Not for logs.
        content: Box<ContentSummary>,
    },
    /// Ours and passing; nothing was done.
    #[error("the gateway is at its limit")]
    Overload(#[from] Overload),
    /// Ours and unexpected.
    #[error(transparent)]
    Failure(#[from] Failure),
}

/// The participant's doing. The text is for the operator's logs; `api` maps each variant to a
/// status, a legacy message and a stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The body is no batch of diagnosis keys.
    #[error("malformed batch")]
    MalformedBatch(#[from] MalformedBatch),
    /// More keys than the configured maximum; found while reading, so how many more is unknown.
    #[error("more than {max} keys")]
    TooManyKeys {
        /// Most keys that an upload may have.
        max: u32,
    },
    /// A key breaks a rule of wire §8 (or of decision 14).
    #[error("key {index}: {rule}")]
    InvalidKey {
        /// Zero-based position in the request.
        index: u32,
        /// The first rule that it breaks.
        rule: KeyRule,
    },
    /// The batch signature is not acceptable.
    #[error("the batch signature is refused")]
    Signature(#[from] SignatureError),
    /// A key originates elsewhere than in the uploader's country (wire §11.12).
    #[error(transparent)]
    OriginMismatch(#[from] OriginMismatch),
    /// The country has used this tag for other content (wire §11.10).
    #[error("upload tag is taken")]
    UploadTagTaken {
        /// How many keys the upload had.
        key_count: u32,
    },
}

impl From<BodyError> for Rejection {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Malformed(malformed) => Self::MalformedBatch(malformed),
            BodyError::TooManyKeys { max } => Self::TooManyKeys { max },
        }
    }
}

impl From<InvalidKey> for Rejection {
    fn from(InvalidKey { index, rule }: InvalidKey) -> Self {
        Self::InvalidKey { index, rule }
    }
}

impl From<VerifyError> for Rejection {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Signature(error) => Self::Signature(error),
            VerifyError::OriginMismatch(mismatch) => Self::OriginMismatch(mismatch),
        }
    }
}

impl From<BodyError> for UploadError {
    fn from(error: BodyError) -> Self {
        Self::Rejection(error.into())
    }
}

impl From<InvalidKey> for UploadError {
    fn from(error: InvalidKey) -> Self {
        Self::Rejection(error.into())
    }
}

impl From<VerifyError> for UploadError {
    fn from(error: VerifyError) -> Self {
        Self::Rejection(error.into())
    }
}
