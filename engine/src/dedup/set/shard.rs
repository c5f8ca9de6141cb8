//! A part of the set: open addressing in buckets of one cache line each.

use std::hint::black_box;
use std::sync::Arc;

use super::super::base::{AtomicU64, BUCKETS_MIN, Ordering, SHARDS, SLOTS_PER_BUCKET};
use crate::domain::KeyIdentity;

/// Identities whose buckets are fetched from memory at once. A bucket is a cache miss; a core keeps
/// about a dozen of them in flight, if nothing that it has to wait for stands between them.
pub(super) const FETCHED_TOGETHER: usize = 64;

/// Bits of the second word that a slot keeps; the others are the shard's own.
pub(super) const SECOND_KEPT: u64 = u64::MAX >> 8;
/// All shards.
pub(super) type Shards = Box<[Arc<Shard>]>;

/// Two words of an identity. The first is zero in a free slot; the second has the generation in
/// its upper eight bits, which only the writer reads.
pub(super) struct Slot {
    first: AtomicU64,
    pub(super) second: AtomicU64,
}

/// A cache line. Invariant: its used slots come first.
#[repr(align(64))]
struct Bucket([Slot; SLOTS_PER_BUCKET]);

pub(super) struct Shard {
    buckets: Box<[Bucket]>,
}

pub(super) enum Inserted<'a> {
    New,
    Known(&'a Slot),
}

impl Bucket {
    fn free() -> Self {
        Self(std::array::from_fn(|_| Slot {
            first: AtomicU64::new(0),
            second: AtomicU64::new(0),
        }))
    }
}

impl Shard {
    pub(super) fn with_buckets(buckets: usize) -> Self {
        Self {
            buckets: (0..buckets).map(|_| Bucket::free()).collect(),
        }
    }

    pub(super) fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    /// The memory that its slots take.
    pub(super) fn bytes(&self) -> u64 {
        (self.buckets.len() * size_of::<Bucket>()) as u64
    }

    /// Home of an identity: its first word scaled to the number of buckets.
    fn home(&self, first: u64) -> usize {
        let scaled = (u128::from(first) * self.buckets.len() as u128) >> 64;
        usize::try_from(scaled).expect("a product shifted by 64 is below the number of buckets")
    }

    pub(super) fn contains(&self, first: u64, second: u64) -> bool {
        let mut at = self.home(first);
        loop {
            let slots = &self.buckets[at].0;
            // All four at once: which slot is the first free one cannot be predicted, so a loop with
            // an early end would mispredict once per probe. Acquire pairs with the Release store in
            // `insert`: a thread that reads a first word reads the second word stored before it.
            let found = slots
                .each_ref()
                .map(|slot| slot.first.load(Ordering::Acquire));
            if found.contains(&first) {
                let mut matches = slots.iter().zip(found);
                if matches.any(|(slot, found)| found == first && is_same(slot, second)) {
                    return true;
                }
            }
            // Used slots come first and insertion takes the first free one from home on, so a free
            // slot ends the search. An insertion under way may be missed; see `is_still_at`.
            if found.contains(&0) {
                return false;
            }
            at = self.after(at);
        }
    }

    /// Takes the first free slot from home on, unless the identity is there already.
    pub(super) fn insert(&self, first: u64, second: u64) -> Inserted<'_> {
        let mut at = self.home(first);
        loop {
            for slot in &self.buckets[at].0 {
                match slot.first.load(Ordering::Relaxed) {
                    0 => {
                        // The first word makes the slot used, so it is stored last, with Release:
                        // a probe that sees it sees the second word, too. Relaxed loads suffice
                        // here, since no other thread writes.
                        slot.second.store(second, Ordering::Relaxed);
                        slot.first.store(first, Ordering::Release);
                        return Inserted::New;
                    }
                    found if found == first && is_same(slot, second) => {
                        return Inserted::Known(slot);
                    }
                    _ => {}
                }
            }
            at = self.after(at);
        }
    }

    /// The slot of an identity; only for the writer.
    pub(super) fn find(&self, first: u64, second: u64) -> Option<&Slot> {
        let mut at = self.home(first);
        loop {
            for slot in &self.buckets[at].0 {
                match slot.first.load(Ordering::Relaxed) {
                    0 => return None,
                    found if found == first && is_same(slot, second) => return Some(slot),
                    _ => {}
                }
            }
            at = self.after(at);
        }
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() {
            0
        } else {
            at + 1
        }
    }

    /// A copy with half as many buckets again.
    pub(super) fn grown(&self) -> Self {
        let grown = Self::with_buckets(self.buckets.len() + self.buckets.len() / 2);
        for (first, second) in self.used() {
            grown.insert(first, second);
        }
        grown
    }

    /// The words of the slots that are not free.
    pub(super) fn used(&self) -> impl Iterator<Item = (u64, u64)> + Clone {
        let words = |slot: &Slot| {
            let first = slot.first.load(Ordering::Relaxed);
            (first, slot.second.load(Ordering::Relaxed))
        };
        self.buckets
            .iter()
            .flat_map(|bucket| &bucket.0)
            .map(words)
            .filter(|&(first, _)| first != 0)
    }
}

/// Reads the home buckets of some identities, so that they are in the cache when they are needed.
pub(super) fn fetch(shards: &[Arc<Shard>], identities: &[KeyIdentity]) {
    let read = |identity: &KeyIdentity| {
        let (first, second) = words(identity);
        let shard = &shards[shard_of(second)];
        shard.buckets[shard.home(first)].0[0]
            .first
            .load(Ordering::Relaxed)
    };
    black_box(
        identities
            .iter()
            .fold(0, |all, identity| all ^ read(identity)),
    );
}

/// Buckets of a shard that holds `len` identities. Shards hold equally many, so if they had equal
/// sizes they would all grow at once, and uploads would wait for it; one begins with up to half as
/// many buckets again as another.
pub(super) fn buckets_for(index: usize, len: usize) -> usize {
    let mut buckets = BUCKETS_MIN + BUCKETS_MIN / 2 * index / SHARDS;
    while is_crowded(len, buckets) {
        buckets += buckets / 2;
    }
    buckets
}

/// Three quarters full: every other identity's home is full, then.
pub(super) const fn is_crowded(len: usize, buckets: usize) -> bool {
    len > buckets * (SLOTS_PER_BUCKET * 3 / 4)
}

/// Whether a slot's second word is this one, whatever the generations.
fn is_same(slot: &Slot, second: u64) -> bool {
    (slot.second.load(Ordering::Relaxed) ^ second) & SECOND_KEPT == 0
}

/// The second word with a generation in place of the shard's bits.
pub(super) fn stamped(second: u64, generation: u8) -> u64 {
    (second & SECOND_KEPT) | (u64::from(generation) << 56)
}

pub(super) fn generation_of(second: u64) -> u8 {
    u8::try_from(second >> 56).expect("eight bits")
}

/// An identity's words. The first is never zero: that means a free slot, and the hash that makes
/// identities avoids it; a foreign zero is mapped to one, too.
pub(super) fn words(identity: &KeyIdentity) -> (u64, u64) {
    let bits = u128::from_be_bytes(identity.0);
    let (first, second) = split(bits);
    (first.max(1), second)
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "splits 128 bits into two words"
)]
const fn split(bits: u128) -> (u64, u64) {
    ((bits >> 64) as u64, bits as u64)
}

/// The shard comes from the second word, the home slot from the first.
pub(super) fn shard_of(second: u64) -> usize {
    usize::try_from(second >> 56).expect("eight bits")
}
