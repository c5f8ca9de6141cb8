//! Log lines about a database that is away: one when it goes, one when it is back, and one per minute
//! in between, whatever the number of threads that notice.

use std::sync::Mutex;
use std::time::Instant;

use super::connection::SqlError;
use crate::limits;
use crate::locks::LockIgnoringPoison;
use crate::text::excerpt;

/// What has been reported; all threads of a gateway share it.
#[derive(Debug, Default)]
pub(super) struct Outage(Mutex<Reported>);

#[derive(Debug, Default)]
struct Reported {
    is_away: bool,
    /// The last line that reported so, and how many were left out since.
    last: Option<Instant>,
    left_out: u64,
}

impl Outage {
    /// Whether to write a line now; how many were left out before it.
    fn is_to_be_said(&self, now: Instant) -> Option<u64> {
        let mut reported = self.0.lock_ignoring_poison();
        let since = reported.last.map(|last| now.duration_since(last));
        let wait = match reported.is_away {
            true => limits::OUTAGE_LINE_INTERVAL,
            // It comes and goes.
            false => limits::OUTAGE_LINE_INTERVAL / 10,
        };
        if since.is_some_and(|since| since < wait) {
            reported.left_out += 1;
            return None;
        }
        reported.is_away = true;
        reported.last = Some(now);
        Some(std::mem::take(&mut reported.left_out))
    }

    /// Whether to say that it is back.
    fn is_back(&self) -> bool {
        let mut reported = self.0.lock_ignoring_poison();
        std::mem::take(&mut reported.is_away)
    }

    /// Logs what went wrong, as far as it is news: a conflict with another gateway is none.
    pub(super) fn log(&self, stage: &'static str, error: &SqlError, message: &'static str) {
        let text = excerpt(&error.to_string());
        match error {
            SqlError::Conflict(_) => {
                metrics::counter!("efgs_database_conflicts_total").increment(1);
                tracing::debug!(stage, error = text, "{message}");
            }
            SqlError::Lost(_) => match self.is_to_be_said(Instant::now()) {
                Some(left_out) => tracing::warn!(stage, error = text, left_out, "{message}"),
                None => tracing::debug!(stage, error = text, "{message}"),
            },
            SqlError::Duplicate(_) | SqlError::Refused(_) => {
                tracing::warn!(stage, error = text, "{message}");
            }
        }
    }

    /// A connection was opened.
    pub(super) fn connected(&self) {
        if self.is_back() {
            tracing::info!(stage = "database", "the database is available again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn says_once_that_it_is_away_and_then_once_per_minute() {
        let outage = Outage::default();
        let begun = Instant::now();
        let mut reported = Vec::new();
        for second in 0..150 {
            // Four threads, twice per second.
            for part in 0..8 {
                let now = begun + Duration::from_millis(second * 1000 + part * 125);
                reported.extend(outage.is_to_be_said(now).map(|left_out| (second, left_out)));
            }
        }
        assert_eq!(reported, [(0, 0), (60, 479), (120, 479)]);
        assert!(outage.is_back() && !outage.is_back());
    }

    #[test]
    fn says_every_six_seconds_at_most_that_it_comes_and_goes() {
        let outage = Outage::default();
        let begun = Instant::now();
        let mut reported = 0;
        for second in 0..60 {
            reported += u64::from(
                outage
                    .is_to_be_said(begun + Duration::from_secs(second))
                    .is_some(),
            );
            outage.is_back();
        }
        assert_eq!(reported, 10);
    }
}
