//! How much of SQLite's write-ahead log waits for a checkpoint.

use crossbeam::channel::Sender;

use crate::limits;

/// Bytes that a connection has written since it last requested a checkpoint.
#[derive(Debug)]
pub(super) struct Uncheckpointed {
    bytes: usize,
    wake: Sender<()>,
}

impl Uncheckpointed {
    pub(super) const fn new(wake: Sender<()>) -> Self {
        Self { bytes: 0, wake }
    }

    /// Counts what a statement writes; requests a checkpoint when one is due.
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= limits::CHECKPOINT_BYTES {
            self.bytes = 0;
            // A full channel means that one has been requested already.
            let _already_requested = self.wake.try_send(());
        }
    }
}
