//! The exact set of key identities: open addressing, sharded, probed without a lock by any
//! thread, changed by one.
//!
//! Weighed against: a 64-bit fingerprint per key (half the memory) has to confirm every hit against
//! the database, so that a refused batch would touch it; a tree or a `HashMap` behind a lock makes
//! probes wait for the writer. A slot holds the whole identity: 16 bytes, 21 to 32 bytes per key
//! with the free slots.
//!
//! A probe that runs concurrently with an insertion may miss it, or see a part of it. That is why a batch
//! remembers the log position at which it was probed, and the writer probes again when the log has
//! moved on; and why duplicates count only if every upload that is known to be stored was in the set.
//!
//! To forget costs no memory: all identities of a shard have the same eight bits, by which the
//! shard is chosen, so a slot holds the generation (the day of the upload) in their place.
//! Forgetting copies what stays, a shard at a time. Weighed against: a second set, built from the
//! database and swapped in (twice the memory, and all identities read again every day), and one set
//! per day (a probe in each of eighteen).

mod generations;
mod shard;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::base::{ArcSwap, AtomicU64, Ordering, SHARDS};
use crate::domain::{Day, KeyIdentity, Seq};

use generations::{GENERATIONS, Generations, Sweep};
use shard::{
    FETCHED_TOGETHER, Inserted, SECOND_KEPT, Shard, Shards, Slot, buckets_for, fetch,
    generation_of, is_crowded, shard_of, stamped, words,
};

/// What probes see: shared by all CPU jobs.
pub struct IdentitySet {
    /// Replaced whole when a shard is: a probe of many identities takes it once.
    shards: ArcSwap<Shards>,
    /// Every identity of the log up to here is in the set.
    position: AtomicU64,
    /// The newest upload whose identities are in the set, or will be: behind `position` while some
    /// are missing.
    announced: AtomicU64,
    len: AtomicU64,
}

/// The only handle that may change the set: the writer thread's.
pub struct IdentitySetWriter {
    set: Arc<IdentitySet>,
    /// Invariant: those of the set.
    shards: Shards,
    shard_lens: Box<[usize]>,
    generations: Generations,
    sweep: Option<Sweep>,
}

impl IdentitySet {
    /// Positions of the identities that the set holds, ascending, as far as this thread can see.
    pub fn find_known(&self, identities: &[KeyIdentity]) -> Vec<u32> {
        let shards = self.shards.load();
        let mut known = Vec::new();
        let some_at_once = identities.chunks(FETCHED_TOGETHER);
        for (start, some) in (0u32..).step_by(FETCHED_TOGETHER).zip(some_at_once) {
            fetch(&shards, some);
            let found = (start..).zip(some).filter(|(_, identity)| {
                let (first, second) = words(identity);
                shards[shard_of(second)].contains(first, second)
            });
            known.extend(found.map(|(index, _)| index));
        }
        known
    }

    /// The log position up to which the set is complete. Read it before probing.
    pub fn position(&self) -> Seq {
        Seq(self.position.load(Ordering::Acquire))
    }

    /// Whether the set was complete at `position`, and nothing has been inserted since. If so, what
    /// was probed after that position was read holds whole uploads only, and all that were
    /// announced.
    pub(crate) fn is_still_at(&self, position: Seq) -> bool {
        // Called after the probe. A probe that saw a slot of a later insertion read it with Acquire;
        // that slot was stored with Release after `announce`, so this load sees the announcement.
        // A request that was sent after an answer sees it as well, since every answer comes after its
        // announcement. So Relaxed suffices (`engine/interleavings` checks it).
        self.announced.load(Ordering::Relaxed) == position.0
    }

    /// How many identities there are.
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    /// The memory that they take, with the free slots.
    pub fn bytes(&self) -> u64 {
        let shards = self.shards.load();
        shards.iter().map(|shard| shard.bytes()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for IdentitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentitySet")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for IdentitySetWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdentitySetWriter").field(&self.set).finish()
    }
}

impl IdentitySetWriter {
    /// An empty set at a log position.
    pub fn new(position: Seq) -> Self {
        Self::with_room_for(0, position)
    }

    /// An empty set at a log position, which will not grow for about so many identities. To grow
    /// to its size at start costs time, and memory that is not given back at once.
    pub fn with_room_for(identities: usize, position: Seq) -> Self {
        let each = identities / SHARDS;
        // Shards hold about equally many; one in thousands exceeds the average by this much.
        let each = each + each.isqrt() * 4;
        let shard = |index| Arc::new(Shard::with_buckets(buckets_for(index, each)));
        let shards: Shards = (0..SHARDS).map(shard).collect();
        let set = IdentitySet {
            shards: ArcSwap::from_pointee(shards.clone()),
            position: AtomicU64::new(position.0),
            announced: AtomicU64::new(position.0),
            len: AtomicU64::new(0),
        };
        Self {
            set: Arc::new(set),
            shards,
            shard_lens: vec![0; SHARDS].into(),
            generations: Generations::new(),
            sweep: None,
        }
    }

    /// What probes see.
    pub fn shared(&self) -> &Arc<IdentitySet> {
        &self.set
    }

    /// Adds the identities of the upload at the next log position, which was stored on `day`.
    /// Identities that are there already stay once, until the later day.
    pub fn insert(&mut self, identities: &[KeyIdentity], day: Day, position: Seq) {
        // Order matters to probes: announced, then the slots, then the position. A probe that reads
        // the position first and `announced` last can tell whether it ran concurrently with an insertion.
        self.announce(position);
        if !identities.is_empty() {
            // What comes in for a day that is being forgotten is not looked at again.
            let day = self
                .sweep
                .as_ref()
                .map_or(day, |sweep| day.max(sweep.before));
            let generation = self.generations.of(day);
            for some in identities.chunks(FETCHED_TOGETHER) {
                fetch(&self.shards, some);
                for identity in some {
                    self.insert_one(identity, generation);
                }
            }
        }
        self.publish(position);
    }

    /// Announces that uploads up to a position are stored and will be inserted: until they are, a
    /// probe does not take the duplicates that it finds to be complete.
    pub(crate) fn announce(&self, position: Seq) {
        self.set.announced.fetch_max(position.0, Ordering::Relaxed);
    }

    /// Says that the set is complete up to a position.
    pub(crate) fn publish(&self, position: Seq) {
        self.set.position.store(position.0, Ordering::Release);
    }

    fn insert_one(&mut self, identity: &KeyIdentity, generation: u8) {
        let (first, second) = words(identity);
        let index = shard_of(second);
        if is_crowded(
            self.shard_lens[index] + 1,
            self.shards[index].bucket_count(),
        ) {
            self.replace_shard(index, self.shards[index].grown());
        }
        match self.shards[index].insert(first, stamped(second, generation)) {
            Inserted::New => {
                self.shard_lens[index] += 1;
                self.set.len.fetch_add(1, Ordering::Relaxed);
            }
            Inserted::Known(slot) => self.keep_later(slot, generation),
        }
    }

    /// Removes identities: they can be inserted again. Their slots stay used until their day is
    /// forgotten, and count until then, so that a probe's search ends where it did before.
    pub(crate) fn remove(&self, identities: &[KeyIdentity]) {
        for identity in identities {
            let (first, second) = words(identity);
            if let Some(slot) = self.shards[shard_of(second)].find(first, second) {
                // The complement is another identity's only if both collide in the first word and
                // differ in every bit of the second: as likely as equal hashes.
                let removed = slot.second.load(Ordering::Relaxed) ^ SECOND_KEPT;
                slot.second.store(removed, Ordering::Relaxed);
            }
        }
    }

    fn replace_shard(&mut self, index: usize, shard: Shard) {
        self.shards[index] = Arc::new(shard);
        // Probes that loaded the old list continue in the old shard, which is complete up to its
        // replacement and lives until the last of them is done.
        self.set.shards.store(Arc::new(self.shards.clone()));
    }

    /// An identity that was stored twice (forgotten here later than elsewhere) is kept for the
    /// later upload's sake.
    fn keep_later(&self, slot: &Slot, generation: u8) {
        let second = slot.second.load(Ordering::Relaxed);
        let days = (
            self.generations.day_of(generation_of(second)),
            self.generations.day_of(generation),
        );
        if days.0 < days.1 {
            let later = stamped(second, generation);
            slot.second.store(later, Ordering::Relaxed);
        }
    }

    /// Forgets identities of uploads that were stored before a day, until `deadline`. Gives
    /// whether everything is done.
    pub(crate) fn forget_before(&mut self, before: Day, deadline: Instant) -> bool {
        loop {
            let Some(mut sweep) = self.sweep.take().or_else(|| self.generations.sweep(before))
            else {
                return true;
            };
            while sweep.next_shard < SHARDS {
                self.sweep_shard(sweep.next_shard, &sweep.expired);
                sweep.next_shard += 1;
                if sweep.next_shard < SHARDS && Instant::now() >= deadline {
                    self.sweep = Some(sweep);
                    return false;
                }
            }
            self.generations.release(&sweep);
        }
    }

    /// Replaces a shard by one without the expired generations, if it holds some.
    fn sweep_shard(&mut self, index: usize, expired: &[bool; GENERATIONS]) {
        let len = self.shard_lens[index];
        let kept = self.shards[index]
            .used()
            .filter(|&(_, second)| !expired[usize::from(generation_of(second))]);
        let kept_len = kept.clone().count();
        if kept_len == len {
            return;
        }
        // With spare capacity: uploads continue meanwhile.
        let swept = Shard::with_buckets(buckets_for(index, kept_len + kept_len / 8));
        for (first, second) in kept {
            swept.insert(first, second);
        }
        self.replace_shard(index, swept);
        self.shard_lens[index] = kept_len;
        let forgotten = (len - kept_len) as u64;
        self.set.len.fetch_sub(forgotten, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
