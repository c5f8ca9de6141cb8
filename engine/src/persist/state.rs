//! What other threads see of the writer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::dedup::{IdentitySet, TagIndex};
use crate::domain::{Day, Seq};

/// What others see of the writer.
#[derive(Debug)]
pub(crate) struct WriterState {
    pub(crate) set: Arc<IdentitySet>,
    pub(crate) tags: Arc<TagIndex>,
    /// Whether the database answered at the last attempt.
    pub(crate) database_available: AtomicBool,
    /// Log positions known to be in the database.
    pub(super) position: AtomicU64,
    /// Identities and tags of uploads of earlier days are to be forgotten.
    pub(super) kept_since: Mutex<Option<Day>>,
}

impl WriterState {
    /// The last log position that this gateway knows.
    pub(crate) fn position(&self) -> Seq {
        Seq(self.position.load(Ordering::Acquire))
    }

    /// Lets the writer forget identities and tags of uploads that were stored before a day, by and
    /// by. The day never goes back.
    pub(crate) fn forget_before(&self, day: Day) {
        let mut kept_since = self
            .kept_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *kept_since = Some(day).max(*kept_since);
    }

    pub(super) fn kept_since(&self) -> Option<Day> {
        *self
            .kept_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
