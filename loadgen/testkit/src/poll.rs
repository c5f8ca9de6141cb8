//! Bounded polling, for events that nothing signals.

use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(5);

/// Calls `look` until it returns a value, which is returned, or until `within` has passed.
pub fn poll<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Polls a condition; returns whether it held before `within` had passed.
pub fn holds_within(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    poll(within, || condition().then_some(())).is_some()
}
