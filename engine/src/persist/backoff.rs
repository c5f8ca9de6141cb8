//! How often a thread tries again what has failed: each attempt costs the database a connection or a transaction,
//! and a log line.

use std::time::{Duration, Instant};

use crate::limits;

/// The pause before the next attempt, which grows while attempts fail.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failed_count: u32,
    next: Option<Instant>,
}

impl Backoff {
    /// An attempt has failed. The first retry follows at once: most of what fails is a connection
    /// that has ended, or a conflict that is over.
    pub(crate) fn failed(&mut self) {
        let pause = match self.failed_count.checked_sub(1) {
            None => Duration::ZERO,
            Some(earlier) => limits::RETRY_PAUSE_MIN * 2_u32.saturating_pow(earlier),
        };
        self.failed_count = self.failed_count.saturating_add(1);
        self.next = Some(Instant::now() + pause.min(limits::RETRY_PAUSE_MAX));
    }

    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Waits until the next attempt may begin.
    pub(crate) fn wait(&self) {
        if let Some(next) = self.next {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_for_longer_from_failure_to_failure_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let mut pauses = Vec::new();
        let begun = Instant::now();
        for _ in 0..40 {
            backoff.failed();
            pauses.push(backoff.next.unwrap().saturating_duration_since(begun));
        }
        assert!(pauses[0] < limits::RETRY_PAUSE_MIN, "at once");
        assert!(pauses[1] >= limits::RETRY_PAUSE_MIN && pauses[1] < pauses[2]);
        assert!(pauses[39] < limits::RETRY_PAUSE_MAX + Duration::from_secs(1));
        backoff.succeeded();
        assert_eq!(backoff.next, None);
    }
}
