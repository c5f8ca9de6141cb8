//! The repositories: what is stored, in SQL that both databases share, one file per table or task.
//! Only [`mod@reference`], from which an import reads, is for MySQL alone.

mod cached;
mod callbacks;
mod certificates;
mod chain;
mod columns;
mod days;
mod download_batches;
mod epoch;
mod gateways;
mod hours;
mod import;
mod leases;
mod log;
mod log_mark;
mod migrate;
mod reference;
mod retention;
mod schema;
mod session;
mod statistics;
mod verification;
mod withdrawals;

pub(crate) use cached::CachedStore;
pub(crate) use callbacks::{ClaimTerms, DueDelivery, ImportedSubscription};
pub use callbacks::{LastFailure, Subscribed, Subscription, SubscriptionState, Summary};
pub(crate) use certificates::ListError;
pub(crate) use chain::Forgotten;
pub(crate) use days::KnownDays;
pub(crate) use download_batches::{Cut, CutOutcome, DownloadBatchRow};
pub(crate) use epoch::Epoch;
pub use gateways::{AnnouncedGateway, Announcement};
pub use hours::CountryHour;
pub(crate) use hours::HOUR_MS;
pub(crate) use import::ImportState;
pub(crate) use leases::{Lease, LeaseToken};
pub(crate) use log::AuditEntry;
pub(crate) use log::{
    Appended, LogEntry, LogTail, SealedUpload, UncutUpload, UploadMeta, UploadRow,
};
pub(crate) use log_mark::LogMark;
pub(crate) use migrate::{known_version, migrate};
pub(crate) use reference::{
    KeysOf, PAYLOAD, Reference, ReferenceBatch, ReferenceCertificate, ReferenceKey,
    ReferenceSubscription, ReferenceUpload, UploadName, UploadPlace,
};
pub(crate) use retention::{Expiry, Step};
pub use schema::SchemaFault;
pub(crate) use schema::list as list_faults;
pub(crate) use session::{CLUSTER, IDENTITY_KEY, SealingKeyRow, Store, sealing_key_name};
pub use statistics::{Cleanup, CountryDay, Statistics};
pub(crate) use statistics::{DownloadCount, DownloadPlace};
pub(crate) use verification::WholeRow;
pub use withdrawals::Withdrawal;
pub(crate) use withdrawals::{WithdrawalError, WithdrawalRequest};

#[cfg(test)]
mod tests;
