//! The exact set of key identities: open addressing, sharded, probed without a lock by any
//! thread, changed by one.
//!
//! Weighed against: a 64-bit fingerprint a key (half the memory) has to confirm every hit against
//! the database, so that a refused batch would touch it; a tree or a `HashMap` behind a lock makes
//! probes wait for the writer. A slot holds the whole identity: 16 bytes, 21 to 32 bytes a key
//! with the free slots.
//!
//! A probe that runs beside an insertion may miss it, or see a part of it. That is why a batch
//! remembers the log position at which it was probed, and the writer probes again when the log has
//! moved on; and why duplicates count only if no insertion has begun meanwhile.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::domain::{KeyIdentity, Seq};

/// Shards grow one at a time: growing copies one part in 256, not the whole set.
const SHARDS: usize = 256;
/// Slots of a new shard: 256 shards take 256 KiB when empty.
const SLOTS_MIN: usize = 64;

/// Two words of an identity; the first is zero in a free slot.
struct Slot {
    first: AtomicU64,
    second: AtomicU64,
}

struct Shard {
    slots: Box<[Slot]>,
}

/// What probes see: shared by all CPU jobs.
pub(crate) struct IdentitySet {
    shards: Box<[ArcSwap<Shard>]>,
    /// Every identity of the log up to here is in the set.
    position: AtomicU64,
    /// The upload whose identities are being inserted, or the last that was.
    begun: AtomicU64,
    len: AtomicU64,
}

/// The one who may change the set: the writer thread.
pub(crate) struct IdentitySetWriter {
    set: Arc<IdentitySet>,
    shard_lens: Box<[usize]>,
}

impl IdentitySet {
    /// Whether the set holds an identity, as far as this thread can see.
    pub(crate) fn contains(&self, identity: &KeyIdentity) -> bool {
        let (first, second) = words(identity);
        self.shards[shard_of(second)].load().contains(first, second)
    }

    /// Positions of the identities that the set holds, ascending.
    pub(crate) fn find_known(&self, identities: &[KeyIdentity]) -> Vec<u32> {
        let known = (0u32..)
            .zip(identities)
            .filter(|(_, identity)| self.contains(identity));
        known.map(|(index, _)| index).collect()
    }

    /// The log position up to which the set is complete. Read it before probing.
    pub(crate) fn position(&self) -> Seq {
        Seq(self.position.load(Ordering::Acquire))
    }

    /// Whether nothing has been inserted since the set was complete up to `position`. If so, what
    /// was probed after that position was read holds whole uploads only.
    pub(crate) fn is_still_at(&self, position: Seq) -> bool {
        // Who has seen a slot of an insertion sees that it has begun: slots are published after.
        self.begun.load(Ordering::Acquire) == position.0
    }

    /// How many identities there are.
    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for IdentitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentitySet")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl IdentitySetWriter {
    /// An empty set at a log position.
    pub(crate) fn new(position: Seq) -> Self {
        let shards = (0..SHARDS).map(|_| ArcSwap::from_pointee(Shard::with_slots(SLOTS_MIN)));
        let set = IdentitySet {
            shards: shards.collect(),
            position: AtomicU64::new(position.0),
            begun: AtomicU64::new(position.0),
            len: AtomicU64::new(0),
        };
        Self {
            set: Arc::new(set),
            shard_lens: vec![0; SHARDS].into(),
        }
    }

    /// What probes see.
    pub(crate) fn shared(&self) -> &Arc<IdentitySet> {
        &self.set
    }

    /// Adds the identities of the upload at the next log position. Identities that are there
    /// already stay once.
    pub(crate) fn insert(&mut self, identities: &[KeyIdentity], position: Seq) {
        self.set.begun.store(position.0, Ordering::Release);
        for identity in identities {
            self.insert_one(identity);
        }
        self.set.position.store(position.0, Ordering::Release);
    }

    fn insert_one(&mut self, identity: &KeyIdentity) {
        let (first, second) = words(identity);
        let index = shard_of(second);
        let mut shard = self.set.shards[index].load_full();
        // Three quarters full: an unsuccessful probe looks at 8.5 slots, two cache lines.
        if (self.shard_lens[index] + 1) * 4 > shard.slots.len() * 3 {
            shard = Arc::new(shard.grown());
            self.set.shards[index].store(Arc::clone(&shard));
        }
        if shard.insert(first, second) {
            self.shard_lens[index] += 1;
            self.set.len.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Shard {
    fn with_slots(slots: usize) -> Self {
        let free = || Slot {
            first: AtomicU64::new(0),
            second: AtomicU64::new(0),
        };
        Self {
            slots: (0..slots).map(|_| free()).collect(),
        }
    }

    /// Home of an identity: its first word scaled to the number of slots.
    fn home(&self, first: u64) -> usize {
        let scaled = (u128::from(first) * self.slots.len() as u128) >> 64;
        usize::try_from(scaled).expect("a product shifted by 64 is below the number of slots")
    }

    fn contains(&self, first: u64, second: u64) -> bool {
        let mut at = self.home(first);
        loop {
            let slot = &self.slots[at];
            match slot.first.load(Ordering::Acquire) {
                0 => return false,
                found if found == first && slot.second.load(Ordering::Relaxed) == second => {
                    return true;
                }
                _ => at = self.after(at),
            }
        }
    }

    /// Takes the first free slot from home on; false if the identity is there already.
    fn insert(&self, first: u64, second: u64) -> bool {
        let mut at = self.home(first);
        loop {
            let slot = &self.slots[at];
            match slot.first.load(Ordering::Relaxed) {
                0 => {
                    // The second word first: who sees the first word sees both.
                    slot.second.store(second, Ordering::Relaxed);
                    slot.first.store(first, Ordering::Release);
                    return true;
                }
                found if found == first && slot.second.load(Ordering::Relaxed) == second => {
                    return false;
                }
                _ => at = self.after(at),
            }
        }
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() {
            0
        } else {
            at + 1
        }
    }

    /// A copy with half as many slots again.
    fn grown(&self) -> Self {
        let grown = Self::with_slots(self.slots.len() + self.slots.len() / 2);
        for slot in &self.slots {
            let first = slot.first.load(Ordering::Relaxed);
            if first != 0 {
                grown.insert(first, slot.second.load(Ordering::Relaxed));
            }
        }
        grown
    }
}

/// An identity's words. The first is never zero: that means a free slot, and the hash that makes
/// identities avoids it; a foreign zero is mapped to one, too.
fn words(identity: &KeyIdentity) -> (u64, u64) {
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
fn shard_of(second: u64) -> usize {
    usize::try_from(second >> 56).expect("eight bits")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use rand::{RngCore, SeedableRng};

    use super::*;

    fn random_identities(seed: u64, count: usize) -> Vec<KeyIdentity> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut identity = || {
            let mut bytes = [0; 16];
            random.fill_bytes(&mut bytes);
            KeyIdentity(bytes)
        };
        (0..count).map(|_| identity()).collect()
    }

    #[test]
    fn keeps_every_identity_while_it_grows() {
        let identities = random_identities(1, 100_000);
        let mut writer = IdentitySetWriter::new(Seq::ZERO);
        writer.insert(&identities[..50_000], Seq(1));
        writer.insert(&identities[40_000..90_000], Seq(2));
        let set = Arc::clone(writer.shared());
        assert_eq!((set.len(), set.position()), (90_000, Seq(2)));
        assert!(
            identities[..90_000]
                .iter()
                .all(|identity| set.contains(identity))
        );
        assert_eq!(set.find_known(&identities[89_998..]), [0, 1]);
    }

    #[test]
    fn shows_what_was_inserted_before_the_position_that_a_probe_reads() {
        let identities = random_identities(2, 60_000);
        let mut writer = IdentitySetWriter::new(Seq::ZERO);
        let set = Arc::clone(writer.shared());
        let probe = |set: &IdentitySet| {
            let done = usize::try_from(set.position().0).unwrap() * 100;
            assert_eq!(set.find_known(&identities[..done]).len(), done);
            done
        };
        std::thread::scope(|scope| {
            scope.spawn(|| while probe(&set) < identities.len() {});
            for (seq, chunk) in (1..).zip(identities.chunks(100)) {
                writer.insert(chunk, Seq(seq));
            }
        });
    }

    #[test]
    fn shows_whole_uploads_only_while_it_stays_at_a_position() {
        const CHUNK: usize = 500;
        let identities = random_identities(3, 60_000);
        let mut writer = IdentitySetWriter::new(Seq::ZERO);
        let set = Arc::clone(writer.shared());
        let probe = |chunk: &[KeyIdentity]| loop {
            let position = set.position();
            let known = set.find_known(chunk).len();
            if set.is_still_at(position) {
                assert!(known == 0 || known == CHUNK, "{known} at {position:?}");
            }
            if known == CHUNK {
                return;
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| identities.chunks(CHUNK).for_each(probe));
            for (seq, chunk) in (1..).zip(identities.chunks(CHUNK)) {
                writer.insert(chunk, Seq(seq));
            }
        });
    }

    proptest! {
        /// Identities with few distinct words crowd into the same slots.
        #[test]
        fn agrees_with_a_hash_set(picks in prop::collection::vec((0u8..4, 0u8..6, 0u8..40), 0..400)) {
            let identity = |(shard, first, second): (u8, u8, u8)| {
                let mut bytes = [0; 16];
                (bytes[0], bytes[8], bytes[15]) = (first, shard, second);
                KeyIdentity(bytes)
            };
            let mut model = HashSet::new();
            let mut writer = IdentitySetWriter::new(Seq::ZERO);
            for pick in picks {
                let identity = identity(pick);
                prop_assert_eq!(writer.shared().contains(&identity), model.contains(&identity));
                writer.insert(&[identity], Seq(1));
                model.insert(identity);
            }
            prop_assert_eq!(writer.shared().len(), model.len() as u64);
        }
    }
}
