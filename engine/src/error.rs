//! What can go wrong with an upload or a download, by whose doing it is. Stages define their own
//! errors beside their code; this file only gathers them.

use std::time::Duration;

use crate::decode::MalformedBatch;
use crate::validate::{KeyRule, OriginMismatch};
use crate::verify::SignatureError;

/// Why an upload was not stored.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The participant's doing; never retried unchanged.
    #[error("{0}")]
    Rejection(#[from] Rejection),
    /// Ours and passing; nothing was done.
    #[error("the gateway is at its limit")]
    Overload(#[from] Overload),
    /// Ours and unexpected.
    #[error("{0}")]
    Failure(#[from] Failure),
}

/// The participant's doing. The text is for logs of the operator; `api` maps each variant to a
/// status, a legacy message and a stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The body is no batch of diagnosis keys.
    #[error("malformed batch: {0}")]
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
    #[error("signature: {0}")]
    Signature(#[from] SignatureError),
    /// A key originates elsewhere than in the uploader's country (wire §11.12).
    #[error("{0}")]
    OriginMismatch(#[from] OriginMismatch),
    /// The country has used this tag for other content (wire §11.10).
    #[error("upload tag is taken")]
    UploadTagTaken {
        /// How many keys the upload had.
        key_count: u32,
    },
}

/// Not now: some bound is reached. Nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at the limit of {bound:?}")]
#[non_exhaustive]
pub struct Overload {
    /// Which bound.
    pub bound: OverloadBound,
    /// When to come back.
    pub retry_after: Duration,
}

/// When a refused participant may come back. What is bounded is in flight for milliseconds; this
/// spreads the retries of a herd and is the least that `Retry-After` can say.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Overload {
    /// Refuses work at a bound: counts it, too.
    pub fn at(bound: OverloadBound) -> Self {
        metrics::counter!("efgs_admission_refused_total", "bound" => bound.name()).increment(1);
        Self::of(bound)
    }

    /// What a refusal at a bound says, for descriptions: nothing is refused.
    pub const fn of(bound: OverloadBound) -> Self {
        Self {
            bound,
            retry_after: RETRY_AFTER,
        }
    }
}

/// A bound that can refuse work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverloadBound {
    /// Batches in flight, over all participants.
    Batches,
    /// Body bytes in flight, over all participants.
    Bytes,
    /// One participant's share of either.
    ParticipantShare,
    /// Cold bundles waiting to be read.
    ColdReads,
    /// Requests about callbacks waiting for the database, or for the addresses of a URL's host.
    Callbacks,
}

impl OverloadBound {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Batches,
        Self::Bytes,
        Self::ParticipantShare,
        Self::ColdReads,
        Self::Callbacks,
    ];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batches => "batches",
            Self::Bytes => "bytes",
            Self::ParticipantShare => "participant_share",
            Self::ColdReads => "cold_reads",
            Self::Callbacks => "callbacks",
        }
    }
}

/// Ours and unexpected. The text is one plain sentence; the source goes to the log.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The database did not answer or answered with an error. Nothing of the upload is stored, unless
    /// the database went away in the middle of its commit and is not back yet: then it is stored
    /// whole or not at all, and who sends it again learns which (a replay is answered as stored).
    #[error("the database is not available")]
    Database(#[source] DatabaseError),
    /// The gateway stopped before the outcome was known to it.
    #[error("the gateway is shutting down")]
    ShuttingDown,
    /// A stage panicked; the batch was dropped.
    #[error("an internal error occurred")]
    Panicked,
    /// Stored key data could not be opened.
    #[error("stored key data cannot be read: {0}")]
    Unseal(#[from] crate::seal::UnsealError),
}

/// An error of the database, with what was being done.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct DatabaseError {
    /// What was being done, as a gerund clause ("reading the log").
    pub doing: &'static str,
    /// The driver's error.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why the engine does not start (or an admin command does not run). The text is one sentence
/// that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be reached or refuses us.
    #[error(
        "cannot open the database {database}: {source}; check [database] url and that the server runs"
    )]
    Unreachable {
        /// The database, without its password.
        database: String,
        /// The driver's error.
        #[source]
        source: DatabaseError,
    },
    /// The database is set up in a way that we cannot work with.
    #[error("{0}")]
    Unsuitable(String),
    /// The schema is newer than this program.
    #[error(
        "the database has schema version {found}, this program knows {known}: install a newer efgs"
    )]
    NewerSchema {
        /// Version found.
        found: u32,
        /// Newest version known.
        known: u32,
    },
    /// The database was set up with other keys.
    #[error("{0}")]
    WrongKeys(String),
    /// A setting cannot be used.
    #[error("{0}")]
    Setting(String),
    /// A thread or pool cannot be started.
    #[error("cannot start a thread: {0}")]
    Threads(#[source] std::io::Error),
}
