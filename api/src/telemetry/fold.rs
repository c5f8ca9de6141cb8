//! How many lines a participant or peer may cause: beyond that, lines of one cause are folded into the
//! next one, with their count.
//!
//! - *In*: events of requests, with who sent them; other events are not limited, and neither are those
//!   that only an operator's filter shows (DEBUG).
//! - *Out*: which of them become lines, and how many were left out before each.
//! - *Runs on*: any thread; a lock for the time of a look-up.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Level, Metadata};

use crate::slots::Holder;

tokio::task_local! {
    /// Who sent the request that this task answers.
    static SENDER: Holder;
}

/// Answers a request: the lines that it causes count against its sender.
pub(crate) async fn on_behalf_of<F: Future>(sender: Holder, answer: F) -> F::Output {
    SENDER.scope(sender, answer).await
}

/// How many lines of one cause.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    /// Between two lines, once the burst is used up.
    interval: Duration,
}

/// For completed work: enough for one line per upload or download, even on the busiest day.
const WORK: Rate = Rate {
    burst: 1000,
    interval: Duration::from_millis(5),
};
/// For refusals and all other events: ten lines show an operator what is wrong.
const OTHER: Rate = Rate {
    burst: 10,
    interval: Duration::from_secs(1),
};

/// The events of work that was done; a full 207 is one, too.
const WORK_MESSAGES: [&str; 4] = [
    "successfull batch upload",
    "error inserting keys",
    "Successful Batch Download",
    "Requested Audit Information",
];

/// Causes that are remembered, of all participants and peers. One takes 48 bytes.
const CAUSES_MAX: usize = 8192;

/// Limits lines per cause.
#[derive(Debug, Default)]
pub(super) struct Fold {
    /// Keyed, so that no sender can provoke a collision with another's cause.
    hasher: RandomState,
    causes: Mutex<HashMap<u64, Cause>>,
}

#[derive(Debug)]
struct Cause {
    /// Up to when its lines are paid for: one interval per line.
    paid_until: Instant,
    /// Events without a line since its last one.
    folded_count: u64,
}

impl Fold {
    /// Whether an event becomes a line: how many before it did not, or `None`.
    pub(super) fn admit(
        &self,
        metadata: &Metadata<'_>,
        message: &str,
        country: &str,
    ) -> Option<u64> {
        let Ok(sender) = SENDER.try_with(|sender| *sender) else {
            return Some(0);
        };
        if *metadata.level() > Level::INFO {
            return Some(0);
        }
        // A participant may come from many addresses, and a proxy's connection has many participants.
        let sender = country.is_empty().then_some(sender);
        let cause = (metadata.callsite(), message, country, sender);
        let rate = if WORK_MESSAGES.contains(&message) {
            WORK
        } else {
            OTHER
        };
        let admitted = self.admit_cause(self.hasher.hash_one(cause), rate, Instant::now());
        if admitted.is_none() {
            metrics::counter!("efgs_log_lines_folded_total").increment(1);
        }
        admitted
    }

    fn admit_cause(&self, cause: u64, rate: Rate, now: Instant) -> Option<u64> {
        // Nothing panics while it holds the lock.
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        if causes.len() >= CAUSES_MAX && !causes.contains_key(&cause) {
            // One whose lines are not limited any more is forgotten, and what was folded with it: the
            // metric has counted it. Otherwise one peer with many addresses could fill the map for
            // good.
            causes.retain(|_, cause| cause.paid_until > now);
            if causes.len() >= CAUSES_MAX {
                // So many causes at once are an attack: a line each would be one, too.
                return None;
            }
        }
        let cause = causes.entry(cause).or_insert(Cause {
            paid_until: now,
            folded_count: 0,
        });
        let paid_until = cause.paid_until.max(now);
        let credit = rate.interval * rate.burst.saturating_sub(1);
        if paid_until.saturating_duration_since(now) > credit {
            cause.folded_count += 1;
            return None;
        }
        cause.paid_until = paid_until + rate.interval;
        Some(std::mem::take(&mut cause.folded_count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        interval: Duration::from_secs(1),
    };

    #[test]
    fn folds_beyond_the_burst_and_says_how_many() {
        let (fold, start) = (Fold::default(), Instant::now());
        let admit = |cause, milliseconds| {
            fold.admit_cause(cause, RATE, start + Duration::from_millis(milliseconds))
        };
        for _ in 0..3 {
            assert_eq!(admit(1, 0), Some(0));
        }
        for _ in 0..40 {
            assert_eq!(admit(1, 900), None);
        }
        assert_eq!(admit(2, 900), Some(0), "another cause");
        assert_eq!(admit(1, 1000), Some(40));
        assert_eq!(admit(1, 1500), None);
        assert_eq!(admit(1, 2000), Some(1));
        // After a quiet time, the burst is there again.
        for _ in 0..3 {
            assert_eq!(admit(1, 9000), Some(0));
        }
        assert_eq!(admit(1, 9000), None);
    }

    #[test]
    fn remembers_a_bounded_number_of_causes() {
        let (fold, start) = (Fold::default(), Instant::now());
        let causes_max = u64::try_from(CAUSES_MAX).unwrap();
        for cause in 0..causes_max {
            assert_eq!(fold.admit_cause(cause, RATE, start), Some(0));
        }
        assert_eq!(fold.admit_cause(causes_max, RATE, start), None);
        assert_eq!(fold.admit_cause(0, RATE, start), Some(0), "a known one");
        let later = start + Duration::from_secs(10);
        assert_eq!(fold.admit_cause(causes_max, RATE, later), Some(0));
        assert_eq!(fold.causes.lock().unwrap().len(), 1);
    }

    #[test]
    fn forgets_causes_that_were_folded_when_they_have_been_quiet() {
        let (fold, start) = (Fold::default(), Instant::now());
        let causes_max = u64::try_from(CAUSES_MAX).unwrap();
        for cause in 0..causes_max {
            for _ in 0..4 {
                fold.admit_cause(cause, RATE, start);
            }
        }
        let later = start + Duration::from_secs(10);
        assert_eq!(fold.admit_cause(causes_max, RATE, later), Some(0));
    }
}
