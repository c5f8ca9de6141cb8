//! The repositories: what is stored, in SQL that both databases share, one file per table or task.
//! Only [`mod@reference`], which an import reads with, is MySQL's alone.

mod cached;
mod callbacks;
mod certificates;
mod columns;
mod download_batches;
mod epoch;
mod import;
mod leases;
mod log;
mod log_mark;
mod migrate;
mod reference;
mod retention;
mod session;
mod statistics;

pub(crate) use cached::CachedStore;
pub(crate) use callbacks::{ClaimTerms, DueDelivery, ImportedSubscription};
pub use callbacks::{LastFailure, Subscribed, Subscription, SubscriptionState, Summary};
pub(crate) use download_batches::{Cut, CutOutcome, DownloadBatchRow, NewDownloadBatch};
pub(crate) use epoch::Epoch;
pub(crate) use import::ImportState;
pub(crate) use leases::{Lease, LeaseToken};
pub use log::AuditEntry;
pub(crate) use log::{Appended, FORMAT_VERSION, LogEntry, LogTail, UploadMeta, UploadRow};
pub(crate) use log_mark::LogMark;
pub(crate) use migrate::{known_version, migrate};
pub(crate) use reference::{
    KeysOf, PAYLOAD, Reference, ReferenceBatch, ReferenceCertificate, ReferenceKey,
    ReferenceSubscription, ReferenceUpload, UploadName, UploadPlace,
};
pub(crate) use retention::Step;
pub(crate) use session::Store;
pub use statistics::{Cleanup, CountryDay, Statistics};
pub(crate) use statistics::{DownloadCount, DownloadPlace};

#[cfg(test)]
mod tests;
