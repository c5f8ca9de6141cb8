//! The writer's interface to the bundler.

use std::sync::Arc;

use bytes::Bytes;
use crossbeam::channel::Sender;

use super::fresh::FreshSegments;
use crate::domain::Seq;
use crate::persist::AfterCommit;

/// Keeps the segments of stored uploads for the next download batch, and wakes the bundler.
#[derive(Debug)]
pub(crate) struct BundlerFeed {
    fresh: Arc<FreshSegments>,
    /// Capacity 1: wakes coalesce.
    wake: Sender<()>,
}

impl BundlerFeed {
    pub(crate) const fn new(fresh: Arc<FreshSegments>, wake: Sender<()>) -> Self {
        Self { fresh, wake }
    }
}

impl AfterCommit for BundlerFeed {
    fn stored(&self, seq: Seq, segment: Bytes) {
        self.fresh.insert(seq, segment);
    }

    fn log_grown(&self) {
        // A full channel means that the bundler has yet to act on the last wake.
        let _already_awake = self.wake.try_send(());
    }
}
