//! The spine: one upload, stage after stage (stub, being built).

use bytes::Bytes;

use crate::domain::{Country, Format, Thumbprint, UploadTag};

/// An authenticated upload, as it came in.
#[derive(Debug)]
pub struct UploadRequest {
    /// The participant: the country of its certificate row.
    pub country: Country,
    /// Its authentication certificate.
    pub uploader: Thumbprint,
    /// The participant's own name for the upload.
    pub tag: UploadTag,
    /// Base64 of a detached CMS `SignedData`, as sent.
    pub batch_signature: Box<str>,
    /// The body.
    pub body: Bytes,
    /// The body's media type.
    pub format: Format,
}

/// The answer to an upload that broke no rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// Stored whole and durable: 201.
    Stored {
        /// The same content was stored under the same tag before; nothing was stored now.
        replayed: bool,
    },
    /// Nothing was stored, because some keys are known already or occur twice: 207.
    Refused {
        /// How many keys the upload had.
        key_count: u32,
        /// Zero-based positions in the request of the duplicates, ascending.
        duplicates: Vec<u32>,
    },
}
