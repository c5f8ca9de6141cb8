//! What other threads see of the writer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::health::DatabaseHealth;
use super::key_counts::KeyCounts;
use crate::dedup::{IdentitySet, TagIndex};
use crate::domain::{ContentDigest, Country, Day, Seq, UploadTag};
use crate::locks::LockIgnoringPoison;

/// What others see of the writer.
#[derive(Debug)]
pub(crate) struct WriterState {
    pub(crate) set: Arc<IdentitySet>,
    pub(crate) tags: Arc<TagIndex>,
    pub(crate) key_counts: KeyCounts,
    pub(crate) health: DatabaseHealth,
    /// Log positions known to be in the database.
    pub(super) position: AtomicU64,
    /// Identities and tags of uploads of earlier days are to be forgotten.
    pub(super) kept_since: Mutex<Option<Day>>,
}

impl WriterState {
    /// What was read from the log up to a position.
    pub(super) fn new(
        set: Arc<IdentitySet>,
        tags: Arc<TagIndex>,
        key_counts: KeyCounts,
        position: Seq,
    ) -> Self {
        Self {
            set,
            tags,
            key_counts,
            health: DatabaseHealth::new(),
            position: AtomicU64::new(position.0),
            kept_since: Mutex::default(),
        }
    }

    /// Remembers an upload that is stored, but for its identities.
    pub(super) fn remember(
        &self,
        (country, tag): (Country, UploadTag),
        content: ContentDigest,
        day: Day,
        key_count: u32,
    ) {
        self.tags.insert(country, tag, content, day);
        self.key_counts.add(country, day, key_count);
    }

    /// The last log position that this gateway knows.
    pub(crate) fn position(&self) -> Seq {
        Seq(self.position.load(Ordering::Acquire))
    }

    /// Lets the writer forget identities and tags of uploads that were stored before a day, by and
    /// by. The day may go back, when a clock was wrong: less is forgotten then.
    pub(crate) fn forget_before(&self, day: Day) {
        *self.kept_since.lock_ignoring_poison() = Some(day);
    }

    pub(super) fn kept_since(&self) -> Option<Day> {
        *self.kept_since.lock_ignoring_poison()
    }
}
