//! How far a start has come.

use std::sync::atomic::{AtomicU64, Ordering};

/// Progress of rebuilding the in-memory state from the log, which takes most of a start: about a
/// second per 8 million keys.
#[derive(Debug, Default)]
pub struct StartProgress {
    keys_read: AtomicU64,
    keys_expected: AtomicU64,
}

impl StartProgress {
    /// Keys of the log that have been read.
    pub fn keys_read(&self) -> u64 {
        self.keys_read.load(Ordering::Relaxed)
    }

    /// Keys of the log that are to be read; 0 while that is not known yet.
    pub fn keys_expected(&self) -> u64 {
        self.keys_expected.load(Ordering::Relaxed)
    }

    /// Reading begins.
    pub(super) fn expect(&self, keys: usize) {
        self.keys_read.store(0, Ordering::Relaxed);
        self.keys_expected.store(keys as u64, Ordering::Relaxed);
    }

    pub(super) fn add(&self, keys: usize) {
        self.keys_read.fetch_add(keys as u64, Ordering::Relaxed);
    }
}
