//! When the writer asks whether the database would store an upload, and with how much.

use std::time::{Duration, Instant};

use crate::limits;

#[derive(Debug)]
pub(super) struct Probing {
    next: Instant,
    /// What a probe writes.
    pub(super) bytes: usize,
}

impl Probing {
    pub(super) fn new() -> Self {
        Self {
            next: Instant::now() + limits::PROBE_INTERVAL,
            bytes: limits::PROBE_BYTES,
        }
    }

    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    pub(super) fn again_in(&mut self, wait: Duration) {
        self.next = Instant::now() + wait;
    }
}
