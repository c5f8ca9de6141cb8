//! What the gateways must have stored and published: plain lists.

use std::collections::{HashMap, HashSet};

use engine::Rejection;
use engine::domain::{BatchTag, Country, Day};
use engine::limits::{IDENTITY_AGE_DAYS, KEY_AGE_DAYS_MAX};
use engine::upload::Receipt;
use engine::validate::KeyRule;

/// A key, and the day on which it began.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) bytes: Vec<u8>,
    pub(crate) began: Day,
}

/// An upload as the test sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) country: Country,
    pub(crate) tag: String,
    pub(crate) keys: Vec<Key>,
}

impl Known {
    pub(crate) fn name(&self) -> (Country, String) {
        (self.country, self.tag.clone())
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        self.keys.iter().flat_map(|key| key.bytes.clone()).collect()
    }

    /// The signed content does not depend on the order in which keys are sent.
    fn has_keys_of(&self, other: &Self) -> bool {
        let sorted = |known: &Self| {
            let mut keys = known.keys.clone();
            keys.sort();
            keys
        };
        sorted(self) == sorted(other)
    }
}

/// A download batch, its last position in the log, and its uploads with keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) tag: BatchTag,
    pub(crate) last_seq: u64,
    pub(crate) uploads: Vec<Known>,
}

/// The uploads that the gateways must have stored.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// In the order in which they were acknowledged, with the day of that.
    stored: Vec<(Known, Day)>,
    keys: HashSet<Vec<u8>>,
    tags: HashMap<(Country, String), Known>,
    /// Acknowledged, and not yet seen in a download batch; uploads that raced are in one group, in
    /// any order.
    pub(crate) pending: Vec<Vec<Known>>,
    pub(crate) published: Vec<Published>,
    /// Download batches that the database has lost: never to be given out again.
    pub(crate) lost: HashSet<BatchTag>,
}

impl Model {
    /// The answer to an upload of `today`.
    pub(crate) fn expected(&self, known: &Known, today: Day) -> Result<Receipt, Rejection> {
        let key_count = u32::try_from(known.keys.len()).unwrap();
        let oldest = today.minus_days(KEY_AGE_DAYS_MAX);
        if let Some(index) = known.keys.iter().position(|key| key.began < oldest) {
            return Err(Rejection::InvalidKey {
                index: u32::try_from(index).unwrap(),
                rule: KeyRule::RollingStart,
            });
        }
        match self.tags.get(&known.name()) {
            Some(stored) if stored.has_keys_of(known) => {
                let replayed = true;
                return Ok(Receipt::Stored {
                    key_count,
                    replayed,
                });
            }
            Some(_) => return Err(Rejection::UploadTagTaken { key_count }),
            None => {}
        }
        let mut seen = HashSet::new();
        let mut duplicates = Vec::new();
        for (index, key) in (0..).zip(&known.keys) {
            if self.keys.contains(&key.bytes) || !seen.insert(key) {
                duplicates.push(index);
            }
        }
        if duplicates.is_empty() {
            let replayed = false;
            return Ok(Receipt::Stored {
                key_count,
                replayed,
            });
        }
        Ok(Receipt::Refused {
            key_count,
            duplicates,
        })
    }

    pub(crate) fn store(&mut self, group: Vec<Known>, today: Day) {
        for known in &group {
            for key in &known.keys {
                let is_new = self.keys.insert(key.bytes.clone());
                assert!(is_new, "a key was stored twice");
            }
            let before = self.tags.insert(known.name(), known.clone());
            assert_eq!(before, None, "a tag was given twice");
            self.stored.push((known.clone(), today));
        }
        if !group.is_empty() {
            self.pending.push(group);
        }
    }

    /// An upload that the gateways have not forgotten, nor are about to.
    pub(crate) fn choose(&self, of: u16, today: Day) -> Option<Known> {
        let since = today.minus_days(KEY_AGE_DAYS_MAX + 1);
        let recent: Vec<_> = self
            .stored
            .iter()
            .filter(|(_, day)| *day >= since)
            .collect();
        let at = usize::from(of).checked_rem(recent.len())?;
        Some(recent[at].0.clone())
    }

    pub(crate) fn all_of(&self, names: &HashSet<(Country, String)>) -> Vec<Known> {
        let named = |(known, _): &&(Known, Day)| names.contains(&known.name());
        let found = self.stored.iter().filter(named);
        found.map(|(known, _)| known.clone()).collect()
    }

    pub(crate) fn is_too_old(&self, known: &Known, today: Day) -> bool {
        matches!(
            self.expected(known, today),
            Err(Rejection::InvalidKey { .. })
        )
    }

    /// The number of identities that gateways remember once retention has run on `day`.
    pub(crate) fn identities(&self, day: Day) -> u64 {
        let since = day.minus_days(IDENTITY_AGE_DAYS);
        let kept = self.stored.iter().filter(|(_, stored)| *stored >= since);
        kept.map(|(known, _)| known.keys.len() as u64).sum()
    }

    /// Forgets what gateways have forgotten.
    pub(crate) fn forget(&mut self, day: Day) {
        let since = day.minus_days(IDENTITY_AGE_DAYS);
        for (known, stored) in &self.stored {
            if *stored < since {
                self.tags.remove(&known.name());
            }
        }
        self.stored.retain(|(_, stored)| *stored >= since);
    }

    /// The database has lost these uploads, and all download batches that end behind `keep`.
    pub(crate) fn lose(&mut self, gone: &HashSet<(Country, String)>, keep: u64) {
        let is_gone = |known: &Known| gone.contains(&known.name());
        for (known, _) in self.stored.iter().filter(|(known, _)| is_gone(known)) {
            self.tags.remove(&known.name());
            for key in &known.keys {
                self.keys.remove(&key.bytes);
            }
        }
        self.stored.retain(|(known, _)| !is_gone(known));
        let is_kept = |batch: &Published| batch.last_seq <= keep;
        let at = self.published.iter().position(|batch| !is_kept(batch));
        let lost = self.published.split_off(at.unwrap_or(self.published.len()));
        self.lost.extend(lost.iter().map(|batch| batch.tag));
        let cut_again = lost.into_iter().flat_map(|batch| batch.uploads);
        let waiting = self.pending.drain(..).flatten();
        let left = cut_again.chain(waiting).filter(|known| !is_gone(known));
        self.pending = left.map(|known| vec![known]).collect();
    }

    /// The first number that a day's next download batch may have behind `before`.
    pub(crate) fn next_number(&self, day: Day, before: Option<BatchTag>) -> u32 {
        let last = before.filter(|tag| tag.day == day);
        let mut number = last.map_or(1, |tag| tag.number + 1);
        while self.lost.contains(&BatchTag { day, number }) {
            number += 1;
        }
        number
    }
}
