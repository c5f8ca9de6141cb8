//! Tests of the set.

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
fn removes_identities_that_can_come_again() {
    let identities = random_identities(6, 3_000);
    let mut writer = IdentitySetWriter::new(Seq::ZERO);
    let set = Arc::clone(writer.shared());
    writer.insert(&identities, day(1), Seq(1));
    let (removed, kept) = identities.split_at(1_000);
    for _ in 0..2 {
        writer.remove(removed);
        assert_eq!(set.find_known(removed), [0; 0]);
        assert_eq!(set.find_known(kept).len(), kept.len());
    }
    writer.insert(&removed[..10], day(2), Seq(2));
    // Shards grow with what was removed in them.
    writer.insert(&random_identities(7, 30_000), day(2), Seq(3));
    assert_eq!(set.find_known(removed).len(), 10);
    forget(&mut writer, day(2));
    assert_eq!(set.find_known(&identities).len(), 10);
    assert_eq!(set.len(), 30_010);
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
