//! Pacing: limits how many partial download batches are cut.
//!
//! Real backends read a bounded number of download batches per day (ES: 500) and pay two requests
//! for each, so a busy day must not be cut into one batch per upload. Every download batch takes
//! one from a budget that refills by one per interval (300 s, as in the reference) and holds at
//! most 48. A full batch is cut at once, whatever the budget; a batch that is cut for age waits
//! while the budget is empty, but no longer than one interval since its oldest upload.
//!
//! So on a quiet day keys are available within `max_delay`, and on a busy day at most 48 + 288 =
//! 336 batches are cut for age: one that waits a whole interval on an empty budget uses what a full
//! batch has drawn meanwhile.
//!
//! The budget is shared by all gateways through the database: the transaction that cuts writes it.

use std::time::Duration;

use crate::domain::UnixMillis;
use crate::settings::Pacing;

/// The budget for batches that are cut for age.
///
/// Stored as one instant (the generic cell rate algorithm): when the budget will be full again. Each
/// batch moves it one interval ahead, and so no background refill is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CutBudget {
    /// When the budget is full again; in the past, it is full.
    full_at: UnixMillis,
}

impl Default for CutBudget {
    fn default() -> Self {
        Self::FULL
    }
}

impl CutBudget {
    /// A full budget.
    pub(crate) const FULL: Self = Self {
        full_at: UnixMillis(0),
    };

    /// An empty budget.
    pub(crate) const EMPTY: Self = Self::from_millis(u64::MAX);

    /// Restores what [`Self::as_millis`] returned.
    pub(crate) const fn from_millis(full_at_ms: u64) -> Self {
        Self {
            full_at: UnixMillis(full_at_ms),
        }
    }

    /// To be stored, in milliseconds since the Unix epoch.
    pub(crate) const fn as_millis(self) -> u64 {
        self.full_at.0
    }

    /// How many download batches may be cut for age at this instant.
    pub(crate) fn batches_left(self, pacing: Pacing, now: UnixMillis) -> u64 {
        let missing_ms = self.missing_ms(pacing, now);
        u64::from(pacing.batches_max) - missing_ms.div_ceil(interval_ms(pacing))
    }

    /// How long until one download batch may be cut for age; zero if one may be cut now.
    pub(crate) fn wait(self, pacing: Pacing, now: UnixMillis) -> Duration {
        let enough_ms = capacity_ms(pacing) - interval_ms(pacing);
        let wait_ms = self.missing_ms(pacing, now).saturating_sub(enough_ms);
        Duration::from_millis(wait_ms)
    }

    /// The budget after one more download batch. An empty budget stays empty: a full batch is cut
    /// without it.
    pub(crate) fn draw(self, pacing: Pacing, now: UnixMillis) -> Self {
        let missing_ms = self.missing_ms(pacing, now) + interval_ms(pacing);
        Self::from_millis(now.0 + missing_ms.min(capacity_ms(pacing)))
    }

    /// What is missing from a full budget, as the time that refills it; never more than all of it,
    /// even if the clock was set back.
    fn missing_ms(self, pacing: Pacing, now: UnixMillis) -> u64 {
        let missing_ms = self.full_at.0.saturating_sub(now.0);
        missing_ms.min(capacity_ms(pacing))
    }
}

/// The time that refills one batch.
fn interval_ms(pacing: Pacing) -> u64 {
    u64::try_from(pacing.interval.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// The time that refills everything.
fn capacity_ms(pacing: Pacing) -> u64 {
    interval_ms(pacing).saturating_mul(u64::from(pacing.batches_max.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACING: Pacing = Pacing {
        interval: Duration::from_secs(300),
        batches_max: 48,
    };

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis(1_602_028_800_000 + seconds * 1000)
    }

    fn draw(budget: CutBudget, count: u32, now: UnixMillis) -> CutBudget {
        (0..count).fold(budget, |budget, _| budget.draw(PACING, now))
    }

    #[test]
    fn holds_48_batches_and_refills_one_per_300_seconds() {
        let left = |budget: CutBudget, now| budget.batches_left(PACING, now);
        let wait = |budget: CutBudget, now| budget.wait(PACING, now).as_secs();
        assert_eq!(left(CutBudget::FULL, at(0)), 48);
        let almost = draw(CutBudget::FULL, 47, at(0));
        assert_eq!((left(almost, at(0)), wait(almost, at(0))), (1, 0));
        let empty = draw(almost, 1, at(0));
        assert_eq!((left(empty, at(0)), wait(empty, at(0))), (0, 300));
        assert_eq!((left(empty, at(299)), wait(empty, at(299))), (0, 1));
        assert_eq!((left(empty, at(300)), wait(empty, at(300))), (1, 0));
        assert_eq!(left(empty, at(48 * 300)), 48);
        assert_eq!(left(empty, at(100 * 300)), 48, "and no more");
    }

    #[test]
    fn takes_nothing_from_an_empty_budget() {
        let empty = draw(CutBudget::FULL, 48, at(0));
        assert_eq!(draw(empty, 10, at(0)), empty);
    }

    #[test]
    fn refills_from_empty_like_any_other() {
        assert_eq!(CutBudget::EMPTY.batches_left(PACING, at(0)), 0);
        let drawn = CutBudget::EMPTY.draw(PACING, at(0));
        assert_eq!(drawn.batches_left(PACING, at(300)), 1);
    }

    #[test]
    fn recovers_from_a_clock_that_was_ahead() {
        let forty_days = 40 * 24 * 60 * 60;
        let ahead = draw(CutBudget::FULL, 3, at(forty_days));
        assert_eq!(ahead.batches_left(PACING, at(0)), 0);
        assert_eq!(ahead.wait(PACING, at(0)).as_secs(), 300);
        let drawn = ahead.draw(PACING, at(0));
        assert_eq!(drawn.batches_left(PACING, at(300)), 1);
    }
}
