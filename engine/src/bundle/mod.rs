//! Bundle and serve (stub, being built).

use std::sync::Arc;

use bytes::Bytes;

use crate::domain::{BatchTag, Country, Day, Format, Seq, Thumbprint};

/// An upload as a part of a download batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundledUpload {
    /// Its position in the log.
    pub seq: Seq,
    /// The uploader.
    pub country: Country,
    /// How many keys it has.
    pub key_count: u32,
}

/// A numbered download batch: a range of the log, for ever the same.
#[derive(Debug)]
pub struct DownloadBatch {
    /// Its name.
    pub tag: BatchTag,
    /// Its uploads in commit order, those without keys left out.
    pub uploads: Vec<BundledUpload>,
}

/// The answer to a download request.
#[derive(Debug, Clone)]
pub struct Download {
    /// The batch asked for.
    pub batch: Arc<DownloadBatch>,
    /// The name of the batch after it, if it exists yet.
    pub next: Option<BatchTag>,
    /// Its encoded segments, one per upload of `batch.uploads`.
    pub bundle: Arc<Bundle>,
    /// Who asks.
    pub reader: Country,
}

impl Download {
    /// The bytes for the reader, in order: all segments but its own. For JSON this includes the
    /// brackets and commas around them. No allocation; `Bytes` are shared.
    pub fn chunks(&self) -> impl Iterator<Item = Bytes> + use<> {
        std::iter::empty()
    }

    /// How many chunks there are at the most, for an iterator by index.
    pub fn chunk_count(&self) -> usize {
        0
    }

    /// The chunk at a position below [`Self::chunk_count`]; empty when the reader does not get it.
    pub fn chunk(&self, _index: usize) -> Bytes {
        Bytes::new()
    }

    /// Sum of the chunks' lengths.
    pub fn body_bytes(&self) -> u64 {
        0
    }

    /// Number of keys in the body.
    pub fn key_count(&self) -> u32 {
        0
    }
}

/// The encoded bytes of a download batch, in one format.
#[derive(Debug)]
pub struct Bundle {
    /// One segment per upload, in order.
    pub segments: Box<[Bytes]>,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct DownloadRequest {
    /// Who asks.
    pub country: Country,
    /// The date in the path.
    pub date: Day,
    /// The `batchTag` header, if sent: any text.
    pub tag: Option<Box<str>>,
    /// The wanted media type.
    pub format: Format,
}

/// Why there is nothing to download (wire behaviour §14 and §15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DownloadRefusal {
    /// 410 `Requested date is too old!`
    #[error("requested date is too old")]
    DateTooOld,
    /// 404 `Could not find any batches for given date`
    #[error("no batch on that date or later")]
    NoBatchOnDate,
    /// 404 `Could not find batch with given BatchTag`
    #[error("unknown batch tag")]
    UnknownBatchTag,
    /// 400 `Given date does is not after or equals the requested batchTag`
    #[error("the batch is older than the date")]
    BatchBeforeDate,
    /// 404 `Given date does not match the requested batch` (audit only)
    #[error("the batch is of another day")]
    OtherDay,
    /// 404 `Batchtag not found` (audit only)
    #[error("the batch has no entries")]
    NoEntries,
}

/// Why a download or an audit was not answered.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// There is nothing to give.
    #[error("{0}")]
    Refused(#[from] DownloadRefusal),
    /// Not now.
    #[error("{0}")]
    Overload(#[from] crate::Overload),
    /// Ours and unexpected.
    #[error("{0}")]
    Failure(#[from] crate::Failure),
}

/// One upload of a download batch as the audit shows it (wire behaviour §15).
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// Uploader country.
    pub country: Country,
    /// When the upload was stored.
    pub uploaded_at: crate::domain::UnixMillis,
    /// The authentication certificate it was uploaded with.
    pub uploader: Thumbprint,
    /// The certificate it was signed with.
    pub signer: Thumbprint,
    /// Number of keys.
    pub key_count: u32,
    /// The batch signature as received.
    pub batch_signature: Box<str>,
}
