//! The exact set of key identities: open addressing, sharded, probed without a lock by any
//! thread, changed by one.
//!
//! Weighed against: a 64-bit fingerprint a key (half the memory) has to confirm every hit against
//! the database, so that a refused batch would touch it; a tree or a `HashMap` behind a lock makes
//! probes wait for the writer. A slot holds the whole identity: 16 bytes, 21 to 32 bytes a key
//! with the free slots.
//!
//! A probe that runs beside an insertion may miss it. That is why a batch remembers the log
//! position at which it was probed, and the writer probes again when the log has moved on.

use std::fmt;
use std::hint::black_box;
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

/// Identities whose slots are fetched from memory at once. A slot is a cache miss; a core keeps
/// about a dozen of them in flight, if nothing that it has to wait for stands between them.
const FETCHED_TOGETHER: usize = 64;

/// All shards, each replaced when it grows.
type Shards = Box<[Arc<Shard>]>;

/// What probes see: shared by all CPU jobs.
pub struct IdentitySet {
    shards: ArcSwap<Shards>,
    /// Every identity of the log up to here is in the set.
    position: AtomicU64,
    len: AtomicU64,
}

/// The one who may change the set: the writer thread.
pub struct IdentitySetWriter {
    set: Arc<IdentitySet>,
    /// The shards of the set.
    shards: Shards,
    shard_lens: Box<[usize]>,
}

impl IdentitySet {
    /// Positions of the identities that the set holds, ascending, as far as this thread can see.
    pub fn find_known(&self, identities: &[KeyIdentity]) -> Vec<u32> {
        let shards = self.shards.load();
        let mut known = Vec::new();
        for (start, some) in (0..).step_by(FETCHED_TOGETHER).zip(chunks(identities)) {
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

    /// How many identities there are.
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
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

fn chunks(identities: &[KeyIdentity]) -> std::slice::Chunks<'_, KeyIdentity> {
    identities.chunks(FETCHED_TOGETHER)
}

/// Reads the home slots of some identities, so that they are in the cache when they are needed.
fn fetch(shards: &[Arc<Shard>], identities: &[KeyIdentity]) {
    let read = |identity: &KeyIdentity| {
        let (first, second) = words(identity);
        let shard = &shards[shard_of(second)];
        shard.slots[shard.home(first)].first.load(Ordering::Relaxed)
    };
    black_box(
        identities
            .iter()
            .fold(0, |all, identity| all ^ read(identity)),
    );
}

impl IdentitySetWriter {
    /// An empty set at a log position.
    pub fn new(position: Seq) -> Self {
        let shard = |_| Arc::new(Shard::with_slots(SLOTS_MIN));
        let shards: Shards = (0..SHARDS).map(shard).collect();
        let set = IdentitySet {
            shards: ArcSwap::from_pointee(shards.clone()),
            position: AtomicU64::new(position.0),
            len: AtomicU64::new(0),
        };
        Self {
            set: Arc::new(set),
            shards,
            shard_lens: vec![0; SHARDS].into(),
        }
    }

    /// What probes see.
    pub fn shared(&self) -> &Arc<IdentitySet> {
        &self.set
    }

    /// Adds the identities of the upload at the next log position. Identities that are there
    /// already stay once.
    pub fn insert(&mut self, identities: &[KeyIdentity], position: Seq) {
        let mut added = 0;
        for some in chunks(identities) {
            fetch(&self.shards, some);
            for identity in some {
                added += u64::from(self.insert_one(identity));
            }
        }
        self.set.len.fetch_add(added, Ordering::Relaxed);
        self.set.position.store(position.0, Ordering::Release);
    }

    fn insert_one(&mut self, identity: &KeyIdentity) -> bool {
        let (first, second) = words(identity);
        let index = shard_of(second);
        // Three quarters full: an unsuccessful probe looks at 8.5 slots, two cache lines.
        if (self.shard_lens[index] + 1) * 4 > self.shards[index].slots.len() * 3 {
            self.shards[index] = Arc::new(self.shards[index].grown());
            self.set.shards.store(Arc::new(self.shards.clone()));
        }
        let added = self.shards[index].insert(first, second);
        self.shard_lens[index] += usize::from(added);
        added
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

    fn holds(set: &IdentitySet, identity: &KeyIdentity) -> bool {
        !set.find_known(&[*identity]).is_empty()
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
                .all(|identity| holds(&set, identity))
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
                prop_assert_eq!(holds(writer.shared(), &identity), model.contains(&identity));
                writer.insert(&[identity], Seq(1));
                model.insert(identity);
            }
            prop_assert_eq!(writer.shared().len(), model.len() as u64);
        }
    }
}
