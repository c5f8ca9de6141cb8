//! The refusal of work at a bound.

use std::time::Duration;

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
