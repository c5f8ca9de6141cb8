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

    /// The same with another time to come back.
    #[must_use]
    pub(crate) const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = wait;
        self
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
    /// Bundles and audits in memory, while all of them are being sent.
    Answers,
    /// One participant's share of the bytes of answers under way.
    AnswerShare,
    /// Requests about callbacks waiting for the database, or for the addresses of a URL's host.
    Callbacks,
    /// One participant's keys of a day.
    KeysPerDay,
    /// Memory for what is stored.
    Memory,
}

impl OverloadBound {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Batches,
        Self::Bytes,
        Self::ParticipantShare,
        Self::ColdReads,
        Self::Answers,
        Self::AnswerShare,
        Self::Callbacks,
        Self::KeysPerDay,
        Self::Memory,
    ];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batches => "batches",
            Self::Bytes => "bytes",
            Self::ParticipantShare => "participant_share",
            Self::ColdReads => "cold_reads",
            Self::Answers => "answers",
            Self::AnswerShare => "answer_share",
            Self::Callbacks => "callbacks",
            Self::KeysPerDay => "keys_per_day",
            Self::Memory => "memory",
        }
    }
}
