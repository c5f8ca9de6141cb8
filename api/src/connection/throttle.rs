//! Throttles unauthenticated requests: each is answered, but not faster than needed to set up a client.
//! Without it, a few connections without a certificate keep the threads of all participants busy.
//!
//! - *In*: answered requests of one connection, and whether it is a participant's by now.
//! - *Out*: how long the answer waits. HTTP/1 reads no further request meanwhile; HTTP/2 has a bounded
//!   number of streams.
//! - *Runs on*: the tasks of one connection.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use engine::locks::LockIgnoringPoison;

use crate::bounds::{UNIDENTIFIED_REQUEST_INTERVAL, UNIDENTIFIED_REQUESTS};

/// Up to when the requests of a connection are paid for: one interval each.
#[derive(Debug)]
pub(super) struct RequestThrottle(Mutex<Instant>);

impl RequestThrottle {
    pub(super) const fn new(now: Instant) -> Self {
        Self(Mutex::new(now))
    }

    /// Counts a request, and returns how long its answer waits.
    pub(super) fn draw(&self, now: Instant) -> Duration {
        let mut paid_until = self.0.lock_ignoring_poison();
        *paid_until = (*paid_until).max(now) + UNIDENTIFIED_REQUEST_INTERVAL;
        let credit = UNIDENTIFIED_REQUEST_INTERVAL * UNIDENTIFIED_REQUESTS;
        paid_until
            .saturating_duration_since(now)
            .saturating_sub(credit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_what_comes_faster_than_its_burst_and_refills() {
        let start = Instant::now();
        let throttle = RequestThrottle::new(start);
        let burst: Vec<_> = (0..UNIDENTIFIED_REQUESTS)
            .map(|_| throttle.draw(start))
            .collect();
        assert!(burst.iter().all(Duration::is_zero));
        assert_eq!(throttle.draw(start), UNIDENTIFIED_REQUEST_INTERVAL);
        assert_eq!(throttle.draw(start), 2 * UNIDENTIFIED_REQUEST_INTERVAL);
        let later = start + Duration::from_secs(60);
        assert_eq!(throttle.draw(later), Duration::ZERO);
    }
}
