//! What of the log cannot be served: each row is named once, not with every request for it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::domain::Seq;
use crate::limits;
use crate::locks::LockIgnoringPoison;

/// Rows that cannot be served, until they can again.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    /// One sentence per position.
    found: Mutex<BTreeMap<Seq, String>>,
    /// How many there are, so that nobody waits for the lock while there are none.
    count: AtomicUsize,
}

impl Damage {
    /// Remembers a row; says so if it is new.
    pub(super) fn found(&self, seq: Seq, place: &dyn fmt::Display, cause: &dyn fmt::Display) {
        let mut found = self.lock();
        if found.contains_key(&seq) || found.len() >= limits::DAMAGED_UPLOADS_NAMED_MAX {
            return;
        }
        let sentence = format!("{place} {cause}");
        tracing::error!(
            stage = "serve",
            found = sentence,
            "stored keys cannot be served: their download batch is answered with 500 for every \
             country; efgs db verify names all such uploads"
        );
        found.insert(seq, sentence);
        self.show(&found);
    }

    /// A row can be served.
    pub(super) fn repaired(&self, seq: Seq) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut found = self.lock();
            found.remove(&seq);
            self.show(&found);
        }
    }

    /// One sentence per row.
    pub(crate) fn sentences(&self) -> Vec<String> {
        self.lock().values().cloned().collect()
    }

    fn show(&self, found: &BTreeMap<Seq, String>) {
        self.count.store(found.len(), Ordering::Release);
        metrics::gauge!("efgs_damaged_uploads").set(found.len() as f64);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Seq, String>> {
        self.found.lock_ignoring_poison()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_row_once_until_it_is_repaired() {
        let damage = Damage::default();
        for _ in 0..2 {
            damage.found(Seq(7), &"upload a of DE at position 7", &"is broken");
        }
        damage.found(Seq(3), &"upload b of IT at position 3", &"is broken");
        assert_eq!(
            damage.sentences(),
            [
                "upload b of IT at position 3 is broken",
                "upload a of DE at position 7 is broken"
            ]
        );
        damage.repaired(Seq(7));
        damage.repaired(Seq(8));
        assert_eq!(damage.sentences().len(), 1);
    }

    #[test]
    fn is_bounded() {
        let damage = Damage::default();
        for seq in 0..=limits::DAMAGED_UPLOADS_NAMED_MAX as u64 {
            damage.found(Seq(seq), &"an upload", &"is broken");
        }
        assert_eq!(damage.sentences().len(), limits::DAMAGED_UPLOADS_NAMED_MAX);
    }
}
