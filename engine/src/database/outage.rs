//! Log lines about a database that is unavailable: one when it fails, one when it is back, and one per minute
//! and cause in between, whatever the number of threads that notice.

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
    /// The causes that have had a line, each with the time of its last one.
    causes: Vec<(String, Instant)>,
    /// How many lines were left out since the last one.
    left_out: u64,
}

/// What two errors with the same cause have in common: their text without numbers, such as ports,
/// identifiers of connections and times.
fn cause_of(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_ascii_digit())
        .collect()
}

impl Outage {
    /// Whether to write a line about this cause now; how many were left out before it. A cause that
    /// is new is said at once: it tells more than that the connection was lost.
    fn admit(&self, cause: String, now: Instant) -> Option<u64> {
        let mut reported = self.0.lock_ignoring_poison();
        let wait = match reported.is_away {
            true => limits::OUTAGE_LINE_INTERVAL,
            // It comes and goes.
            false => limits::OUTAGE_LINE_INTERVAL / 10,
        };
        reported
            .causes
            .retain(|(_, last)| now.duration_since(*last) < wait);
        let is_known = reported.causes.iter().any(|(known, _)| *known == cause);
        if is_known || reported.causes.len() >= limits::OUTAGE_CAUSES_MAX {
            reported.left_out += 1;
            return None;
        }
        reported.is_away = true;
        reported.causes.push((cause, now));
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
            SqlError::Lost(_) => match self.admit(cause_of(&text), Instant::now()) {
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

    fn is_said(outage: &Outage, text: &str, at: Instant) -> Option<u64> {
        outage.admit(cause_of(text), at)
    }

    #[test]
    fn says_once_that_it_is_away_and_then_once_per_minute() {
        let outage = Outage::default();
        let begun = Instant::now();
        let mut reported = Vec::new();
        for second in 0..150 {
            // Four threads, twice per second.
            for part in 0..8 {
                let now = begun + Duration::from_millis(second * 1000 + part * 125);
                let left_out = is_said(&outage, "connection lost", now);
                reported.extend(left_out.map(|left_out| (second, left_out)));
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
            let now = begun + Duration::from_secs(second);
            reported += u64::from(is_said(&outage, "connection lost", now).is_some());
            outage.is_back();
        }
        assert_eq!(reported, 10);
    }

    #[test]
    fn says_another_cause_at_once() {
        let outage = Outage::default();
        let now = Instant::now();
        let lost = "connection 17 to port 3306 was lost";
        let again = "connection 18 to port 3306 was lost";
        let refused = "ERROR 1045 (28000): Access denied for user 'efgs'";
        let said = [lost, again, refused, refused].map(|text| is_said(&outage, text, now));
        assert_eq!(said, [Some(0), None, Some(1), None]);
    }

    #[test]
    fn says_so_many_causes_and_no_more() {
        let outage = Outage::default();
        let now = Instant::now();
        let said = |letters: usize| is_said(&outage, &"x".repeat(letters), now).is_some();
        let count = (0..100).filter(|letters| said(*letters)).count();
        assert_eq!(count, limits::OUTAGE_CAUSES_MAX);
    }
}
