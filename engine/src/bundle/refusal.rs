//! Why there is nothing to download.

/// Why there is nothing to download (wire §14 and §15).
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
    /// There is nothing to download.
    #[error(transparent)]
    Refused(#[from] DownloadRefusal),
    /// Overload.
    #[error(transparent)]
    Overload(#[from] crate::overload::Overload),
    /// An unexpected failure.
    #[error(transparent)]
    Failure(#[from] crate::failure::Failure),
}
