//! The exact set of key identities: open addressing, sharded, probed without a lock by any
//! thread, changed by one.
//!
//! Weighed against: a 64-bit fingerprint per key (half the memory) has to confirm every hit against
//! the database, so that a refused batch would touch it; a tree or a `HashMap` behind a lock makes
//! probes wait for the writer. A slot holds the whole identity: 16 bytes, 21 to 32 bytes per key
//! with the free slots.
//!
//! A probe that runs beside an insertion may miss it, or see a part of it. That is why a batch
//! remembers the log position at which it was probed, and the writer probes again when the log has
//! moved on; and why duplicates count only if every upload that is known to be stored was in the set.
//!
//! To forget costs no memory: all identities of a shard have the same eight bits, by which the
//! shard is chosen, so a slot holds the generation (the day of the upload) in their place.
//! Forgetting copies what stays, a shard at a time. Weighed against: a second set, built from the
//! database and swapped in (twice the memory, and all identities read again every day), and one set
//! per day (a probe in each of eighteen).

use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use super::base::{ArcSwap, AtomicU64, BUCKETS_MIN, Ordering, SHARDS, SLOTS_A_BUCKET};
use crate::domain::{Day, KeyIdentity, Seq};

/// Identities whose buckets are fetched from memory at once. A bucket is a cache miss; a core keeps
/// about a dozen of them in flight, if nothing that it has to wait for stands between them.
const FETCHED_TOGETHER: usize = 64;

/// Bits of the second word that a slot keeps; the others are the shard's own.
const SECOND_KEPT: u64 = u64::MAX >> 8;
/// As many as eight bits can name.
const GENERATIONS: usize = 256;

/// Two words of an identity. The first is zero in a free slot; the second has the generation in
/// its upper eight bits, which only the writer reads.
struct Slot {
    first: AtomicU64,
    second: AtomicU64,
}

/// A cache line. Invariant: its used slots come first.
#[repr(align(64))]
struct Bucket([Slot; SLOTS_A_BUCKET]);

struct Shard {
    buckets: Box<[Bucket]>,
}

/// All shards.
type Shards = Box<[Arc<Shard>]>;

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

/// The one who may change the set: the writer thread.
pub struct IdentitySetWriter {
    set: Arc<IdentitySet>,
    /// Invariant: those of the set.
    shards: Shards,
    shard_lens: Box<[usize]>,
    generations: Generations,
    sweep: Option<Sweep>,
}

/// Which day each generation stands for.
struct Generations {
    /// As many as there are days for which identities are kept, and a few.
    by_day: BTreeMap<Day, u8>,
    free: Vec<u8>,
}

/// Forgetting under way.
struct Sweep {
    before: Day,
    /// By generation.
    expired: Box<[bool; GENERATIONS]>,
    next_shard: usize,
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
        // Who comes after an answer sees it, too: it was made before. So this load needs no order of
        // its own (`engine/interleavings` runs it so).
        self.announced.load(Ordering::Relaxed) == position.0
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

/// Reads the home buckets of some identities, so that they are in the cache when they are needed.
fn fetch(shards: &[Arc<Shard>], identities: &[KeyIdentity]) {
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

impl IdentitySetWriter {
    /// An empty set at a log position.
    pub fn new(position: Seq) -> Self {
        Self::with_room_for(0, position)
    }

    /// An empty set at a log position, which will not grow for about so many identities. To grow
    /// to its size at start costs time, and memory that is not given back at once.
    pub fn with_room_for(identities: usize, position: Seq) -> Self {
        let each = identities / SHARDS;
        // Shards hold about equally many: this much more, one in thousands does.
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
        // the position first and `announced` last can tell whether it ran beside an insertion.
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

    /// Says that uploads up to a position are stored, and will be inserted: from now on, and until
    /// they are, nobody takes the duplicates that it finds for all.
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
        if is_crowded(self.shard_lens[index] + 1, self.shards[index].buckets.len()) {
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

    fn replace_shard(&mut self, index: usize, shard: Shard) {
        self.shards[index] = Arc::new(shard);
        // Probes that loaded the old list go on in the old shard, which is complete up to its
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
        // With a little room: uploads go on.
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

/// Buckets of a shard that holds `len` identities. Shards hold equally many, so if they had equal
/// sizes they would all grow at once, and uploads would wait for it; one begins with up to half as
/// many buckets again as another.
fn buckets_for(index: usize, len: usize) -> usize {
    let mut buckets = BUCKETS_MIN + BUCKETS_MIN / 2 * index / SHARDS;
    while is_crowded(len, buckets) {
        buckets += buckets / 2;
    }
    buckets
}

/// Three quarters full: every other identity's home is full, then.
const fn is_crowded(len: usize, buckets: usize) -> bool {
    len > buckets * (SLOTS_A_BUCKET * 3 / 4)
}

impl Generations {
    fn new() -> Self {
        Self {
            by_day: BTreeMap::new(),
            free: (0..=u8::MAX).rev().collect(),
        }
    }

    /// The generation of a day. When all are taken (clocks that jump), that of another day, a
    /// later one if there is: what is kept for too long does no harm.
    fn of(&mut self, day: Day) -> u8 {
        if let Some(&generation) = self.by_day.get(&day) {
            return generation;
        }
        if let Some(generation) = self.free.pop() {
            self.by_day.insert(day, generation);
            return generation;
        }
        let later = self.by_day.range(day..).next();
        let nearest = later.or_else(|| self.by_day.last_key_value());
        *nearest
            .expect("all generations are taken, so there are some")
            .1
    }

    fn day_of(&self, generation: u8) -> Option<Day> {
        let mut taken = self.by_day.iter();
        taken
            .find(|&(_, &of)| of == generation)
            .map(|(&day, _)| day)
    }

    /// What to forget, if anything.
    fn sweep(&self, before: Day) -> Option<Sweep> {
        let mut expired = Box::new([false; GENERATIONS]);
        for (_, &generation) in self.by_day.range(..before) {
            expired[usize::from(generation)] = true;
        }
        expired.contains(&true).then_some(Sweep {
            before,
            expired,
            next_shard: 0,
        })
    }

    /// Frees the generations that no slot has any more.
    fn release(&mut self, sweep: &Sweep) {
        let expired = |generation: u8| sweep.expired[usize::from(generation)];
        self.by_day
            .retain(|&day, &mut generation| day >= sweep.before || !expired(generation));
        self.free
            .extend((0..=u8::MAX).filter(|&generation| expired(generation)));
    }
}

enum Inserted<'a> {
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
    fn with_buckets(buckets: usize) -> Self {
        Self {
            buckets: (0..buckets).map(|_| Bucket::free()).collect(),
        }
    }

    /// Home of an identity: its first word scaled to the number of buckets.
    fn home(&self, first: u64) -> usize {
        let scaled = (u128::from(first) * self.buckets.len() as u128) >> 64;
        usize::try_from(scaled).expect("a product shifted by 64 is below the number of buckets")
    }

    fn contains(&self, first: u64, second: u64) -> bool {
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
    fn insert(&self, first: u64, second: u64) -> Inserted<'_> {
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

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() {
            0
        } else {
            at + 1
        }
    }

    /// A copy with half as many buckets again.
    fn grown(&self) -> Self {
        let grown = Self::with_buckets(self.buckets.len() + self.buckets.len() / 2);
        for (first, second) in self.used() {
            grown.insert(first, second);
        }
        grown
    }

    /// The words of the slots that are not free.
    fn used(&self) -> impl Iterator<Item = (u64, u64)> + Clone {
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

/// Whether a slot's second word is this one, whatever the generations.
fn is_same(slot: &Slot, second: u64) -> bool {
    (slot.second.load(Ordering::Relaxed) ^ second) & SECOND_KEPT == 0
}

/// The second word with a generation in place of the shard's bits.
fn stamped(second: u64, generation: u8) -> u64 {
    (second & SECOND_KEPT) | (u64::from(generation) << 56)
}

fn generation_of(second: u64) -> u8 {
    u8::try_from(second >> 56).expect("eight bits")
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
    use std::collections::HashMap;

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
        writer.insert(&identities[..50_000], day(1), Seq(1));
        writer.insert(&identities[40_000..90_000], day(1), Seq(2));
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
                writer.insert(chunk, day(1), Seq(seq));
            }
        });
    }

    /// The n-th day since the epoch.
    fn day(n: u64) -> Day {
        Day::from_unix_seconds(n * 86_400)
    }

    fn forget(writer: &mut IdentitySetWriter, before: Day) {
        // A deadline that has passed: a shard at a time.
        while !writer.forget_before(before, Instant::now()) {}
    }

    #[test]
    fn forgets_the_days_before_and_nothing_else() {
        let identities = random_identities(3, 60_000);
        let mut writer = IdentitySetWriter::new(Seq::ZERO);
        for (at, chunk) in (0..).zip(identities.chunks(10_000)) {
            writer.insert(chunk, day(10 + at), Seq(at + 1));
        }
        // Known already, and now for longer.
        writer.insert(&identities[..100], day(14), Seq(7));
        writer.insert(&identities[50_000..50_100], day(10), Seq(8));
        forget(&mut writer, day(13));
        let set = Arc::clone(writer.shared());
        assert_eq!((set.len(), set.position()), (30_100, Seq(8)));
        assert_eq!(set.find_known(&identities[..30_000]).len(), 100);
        assert_eq!(set.find_known(&identities[30_000..]).len(), 30_000);
        forget(&mut writer, day(99));
        assert_eq!(set.len(), 0);
        assert_eq!(set.find_known(&identities), [0; 0]);
    }

    #[test]
    fn takes_new_identities_in_the_middle_of_forgetting() {
        let identities = random_identities(4, 30_000);
        let mut writer = IdentitySetWriter::new(Seq::ZERO);
        writer.insert(&identities[..10_000], day(1), Seq(1));
        for (position, chunk) in (1..=SHARDS as u64).zip(identities[10_000..].chunks(70)) {
            let done = writer.forget_before(day(2), Instant::now());
            assert_eq!(done, position == SHARDS as u64, "a shard at a time");
            // Some come from a gateway that has yet to see midnight.
            writer.insert(chunk, day(1 + position % 2), Seq(position));
        }
        let set = writer.shared();
        assert_eq!(set.find_known(&identities[..10_000]), [0; 0]);
        assert_eq!(set.find_known(&identities[10_000..]).len(), SHARDS * 70);
    }

    #[test]
    fn keeps_for_too_long_rather_than_forget_when_days_are_too_many() {
        let identities = random_identities(5, 300);
        let mut writer = IdentitySetWriter::new(Seq::ZERO);
        for (at, identity) in (0..).zip(&identities) {
            writer.insert(&[*identity], day(400 - at), Seq(at + 1));
        }
        forget(&mut writer, day(300));
        let set = writer.shared();
        assert_eq!(set.find_known(&identities[..101]).len(), 101);
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
                writer.insert(chunk, day(1), Seq(seq));
            }
        });
    }

    proptest! {
        /// Identities with few distinct words crowd into the same slots; days pass.
        #[test]
        fn agrees_with_a_hash_map(
            picks in prop::collection::vec((0u8..4, 0u8..6, 0u8..40, 0u64..3), 0..400)
        ) {
            let mut model: HashMap<KeyIdentity, Day> = HashMap::new();
            let mut writer = IdentitySetWriter::new(Seq::ZERO);
            for (at, (shard, first, second, age)) in (0u64..).zip(picks) {
                let mut bytes = [0; 16];
                (bytes[0], bytes[8], bytes[15]) = (first, shard, second);
                let identity = KeyIdentity(bytes);
                let today = 100 + at / 20;
                prop_assert_eq!(
                    holds(writer.shared(), &identity), model.contains_key(&identity)
                );
                writer.insert(&[identity], day(today - age), Seq(1));
                let until = model.entry(identity).or_insert_with(|| day(today - age));
                *until = day(today - age).max(*until);
                if at % 20 == 19 {
                    forget(&mut writer, day(today - 4));
                    model.retain(|_, stored| *stored >= day(today - 4));
                }
            }
            prop_assert_eq!(writer.shared().len(), model.len() as u64);
        }
    }
}
