//! Work for the reader threads, and who waits for it.

use std::sync::Arc;

use super::audit::Audit;
use super::catalog::Found;
use super::download::{Download, DownloadHead, DownloadRequest};
use super::download_batch::DownloadBatch;
use super::refusal::DownloadError;
use crate::domain::{Country, Day, Format};
use crate::trust::Trust;

/// Waiter for keys.
pub(crate) type KeysReply = Box<dyn FnOnce(Result<Download, DownloadError>) + Send>;
/// Waiter for the head of a download.
pub(crate) type HeadReply = Box<dyn FnOnce(Result<DownloadHead, DownloadError>) + Send>;

/// Waiter for a download, and for how much of it.
pub(crate) enum DownloadReply {
    Keys(KeysReply),
    Head(HeadReply),
}

impl DownloadReply {
    pub(super) fn refuse(self, error: DownloadError) {
        match self {
            Self::Keys(reply) => reply(Err(error)),
            Self::Head(reply) => reply(Err(error)),
        }
    }
}

/// Waiter for an audit.
pub(crate) type AuditReply = Box<dyn FnOnce(Result<Audit, DownloadError>) + Send>;

/// The ordinal of a download batch, and a format of its bytes.
pub(super) type BundleKey = (u64, Format);

/// A request for an audit of a batch, and the certificate list that it is to show.
pub(crate) struct AuditRequest {
    pub(crate) country: Country,
    pub(crate) trust: Arc<Trust>,
    pub(crate) reply: AuditReply,
}

/// Who waits for a cold bundle.
pub(super) struct Waiter {
    pub(super) found: Found,
    pub(super) request: DownloadRequest,
    pub(super) reply: KeysReply,
}

impl Waiter {
    pub(super) fn key(&self) -> BundleKey {
        (self.found.batch.ordinal, self.request.format)
    }
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiter")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// Work for a reader thread.
pub(super) enum Job {
    /// Look for download batches that this gateway does not know yet, then answer.
    Refresh(DownloadRequest, DownloadReply),
    RefreshAudit {
        date: Day,
        tag: Box<str>,
        request: AuditRequest,
    },
    Read(Waiter),
    /// Look whether a download batch is still there, then answer without its keys.
    Head(Found, DownloadRequest, HeadReply),
    Audit {
        batch: Arc<DownloadBatch>,
        request: AuditRequest,
    },
}

impl Job {
    /// The bundle that is to be read, for which others may be waiting.
    pub(super) fn reading(&self) -> Option<BundleKey> {
        match self {
            Self::Read(waiter) => Some(waiter.key()),
            Self::Refresh(..) | Self::RefreshAudit { .. } | Self::Head(..) | Self::Audit { .. } => {
                None
            }
        }
    }

    /// Whose queue it waits in.
    pub(super) const fn country(&self) -> Country {
        match self {
            Self::Refresh(DownloadRequest { country, .. }, _)
            | Self::Head(_, DownloadRequest { country, .. }, _) => *country,
            Self::RefreshAudit { request, .. } | Self::Audit { request, .. } => request.country,
            Self::Read(waiter) => waiter.request.country,
        }
    }

    /// Answers its own caller with an error. Callers that joined a running read are in `Reading`.
    pub(super) fn refuse(self, error: DownloadError) {
        match self {
            Self::Refresh(_, reply) => reply.refuse(error),
            Self::RefreshAudit { request, .. } | Self::Audit { request, .. } => {
                (request.reply)(Err(error));
            }
            Self::Read(waiter) => (waiter.reply)(Err(error)),
            Self::Head(.., reply) => reply(Err(error)),
        }
    }
}
