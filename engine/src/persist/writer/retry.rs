//! When a group is tried again, and why it fails in the end.

use std::time::{Duration, Instant};

use crate::failure::DatabaseError;
use crate::limits;
use crate::persist::submission::StoreError;

/// The attempts to commit a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tries {
    pub(super) arrived: Instant,
    /// When the first attempt began since the log last grew.
    pub(super) begun: Instant,
    pub(super) lost_races: u32,
}

impl Tries {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            arrived: now,
            begun: now,
            lost_races: 0,
        }
    }
}

/// How an attempt to commit ended.
pub(super) enum Attempt {
    Done,
    /// Another gateway has appended at the position first.
    LostRace,
    /// Re-check: something has changed, or the outcome is unknown.
    Again,
    /// Trying again does not help.
    Failed(DatabaseError),
    /// The database is not the one that we know.
    WentBack,
}

/// Since when the database stores nothing, and what went wrong last.
#[derive(Debug)]
pub(super) struct RetryState {
    /// Since when no connection can be opened.
    pub(super) unavailable_since: Option<Instant>,
    /// Since when the database has answered and stored nothing.
    pub(super) refusing_since: Option<Instant>,
    pub(super) last_error: String,
    /// How long to retry before a group fails.
    pub(super) retry_for: Duration,
}

impl RetryState {
    /// The database is well, as far as is known.
    pub(super) const fn none() -> Self {
        Self {
            unavailable_since: None,
            refusing_since: None,
            last_error: String::new(),
            retry_for: limits::DATABASE_RETRY_MAX,
        }
    }

    /// Whether the database is unavailable, or answers and refuses.
    pub(super) const fn stores_nothing(&self) -> bool {
        self.unavailable_since.is_some() || self.refusing_since.is_some()
    }

    /// Whether to retry. What arrives while the database stores nothing waits no longer than what was
    /// there when it began.
    pub(super) fn may_retry(&self, tries: Tries) -> bool {
        let failing_since = [self.unavailable_since, self.refusing_since];
        let failing_since = failing_since.into_iter().flatten();
        failing_since.fold(tries.begun, Instant::min).elapsed() < self.retry_for
            && tries.arrived.elapsed() < limits::CONTENTION_RETRY_MAX
    }

    /// Why a group is not stored after its last attempt.
    pub(super) fn failure_of(&self, attempt: Attempt) -> StoreError {
        match attempt {
            Attempt::Failed(error) => StoreError {
                error,
                is_reachable: true,
            },
            _ => self.unavailable(),
        }
    }

    /// Why a group fails after its retries.
    pub(super) fn unavailable(&self) -> StoreError {
        let (within, error) = (self.retry_for, &self.last_error);
        let source = match error.is_empty() {
            true => format!("not stored within {within:?}"),
            false => format!("not stored within {within:?}, and the last error was: {error}"),
        };
        StoreError {
            error: DatabaseError {
                doing: "storing uploads",
                source: source.into(),
            },
            is_reachable: self.unavailable_since.is_none(),
        }
    }
}
