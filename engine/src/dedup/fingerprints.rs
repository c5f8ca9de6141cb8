//! Which keys a group of waiting uploads has: 64 bits of each identity, quick to add, to look for and
//! to clear, and for a full group still small enough for a core's cache.
//!
//! And which keys came in with the newest uploads of the log: what a CPU job has looked up in the set
//! a moment ago needs to be compared with these only.
//!
//! May take one key for another, once in 2^64 pairs; an upload is then deferred to the next group
//! unnecessarily. Weighed against a `HashSet` of identities: three times the time and memory.

use super::probe::Probe;
use crate::domain::{KeyIdentity, Seq};

const SLOTS_MIN: usize = 1 << 10;

/// Identities of the newest uploads, twice at the most: 1 MiB each time.
const RECENT_MAX: usize = 1 << 16;

/// Fingerprints of identities; a free slot is zero.
#[derive(Debug)]
pub(crate) struct Fingerprints {
    /// A power of two of them, at the most half of them used.
    slots: Vec<u64>,
    used: usize,
}

impl Default for Fingerprints {
    fn default() -> Self {
        Self {
            slots: vec![0; SLOTS_MIN],
            used: 0,
        }
    }
}

impl Fingerprints {
    /// Whether one of the identities is there, or seems to be.
    pub(crate) fn contain_any(&self, identities: &[KeyIdentity]) -> bool {
        self.used > 0
            && identities
                .iter()
                .any(|identity| self.slots[self.slot_of(fingerprint(identity))] != 0)
    }

    /// Adds identities.
    pub(crate) fn add(&mut self, identities: &[KeyIdentity]) {
        let needed = (self.used + identities.len()) * 2;
        if needed > self.slots.len() {
            self.resize(needed.next_power_of_two());
        }
        for identity in identities {
            self.add_one(fingerprint(identity));
        }
    }

    /// How many there are.
    const fn len(&self) -> usize {
        self.used
    }

    /// Takes all out, and gives memory back that was not needed.
    pub(crate) fn clear(&mut self) {
        if self.used * 16 < self.slots.len() && self.slots.len() > SLOTS_MIN {
            *self = Self::default();
        } else if self.used > 0 {
            self.slots.fill(0);
            self.used = 0;
        }
    }

    fn add_one(&mut self, fingerprint: u64) {
        let slot = self.slot_of(fingerprint);
        if self.slots[slot] == 0 {
            self.slots[slot] = fingerprint;
            self.used += 1;
        }
    }

    /// Where a fingerprint is, or the free slot where it belongs.
    fn slot_of(&self, fingerprint: u64) -> usize {
        let mask = self.slots.len() - 1;
        let home = fingerprint & mask as u64;
        let mut slot = usize::try_from(home).expect("below the number of slots");
        while self.slots[slot] != 0 && self.slots[slot] != fingerprint {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn resize(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![0; slots]);
        self.used = 0;
        for fingerprint in old.into_iter().filter(|&fingerprint| fingerprint != 0) {
            self.add_one(fingerprint);
        }
    }
}

/// The identities of the newest uploads of the log: of all after a position.
#[derive(Debug, Default)]
pub(crate) struct RecentIdentities {
    /// Of all uploads after `newer_after`.
    newer: Fingerprints,
    newer_after: Seq,
    /// Of all uploads after `after`, up to `newer_after`.
    older: Fingerprints,
    after: Seq,
}

impl RecentIdentities {
    /// None yet, at the end of a log.
    pub(crate) fn after(end: Seq) -> Self {
        Self {
            newer_after: end,
            after: end,
            ..Self::default()
        }
    }

    /// Adds an upload of the log; they come in order.
    pub(crate) fn add(&mut self, seq: Seq, identities: &[KeyIdentity]) {
        if self.newer.len() + identities.len() > RECENT_MAX {
            std::mem::swap(&mut self.newer, &mut self.older);
            self.newer.clear();
            self.after = self.newer_after;
            self.newer_after = Seq(seq.0 - 1);
        }
        self.newer.add(identities);
    }

    /// Whether it is certain that no key of a probed upload has come in since.
    pub(crate) fn rule_out(&self, probe: &Probe) -> bool {
        let Some(at) = probe.at.filter(|&at| at >= self.after) else {
            return false;
        };
        !self.newer.contain_any(&probe.identities)
            && (at >= self.newer_after || !self.older.contain_any(&probe.identities))
    }
}

/// Identities are hashes already.
fn fingerprint(identity: &KeyIdentity) -> u64 {
    let word = identity
        .0
        .first_chunk()
        .expect("an identity has sixteen bytes");
    u64::from_le_bytes(*word).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn identities(numbers: &[u64]) -> Vec<KeyIdentity> {
        let identity =
            |number: &u64| KeyIdentity([number.to_le_bytes(); 2].concat().try_into().unwrap());
        numbers.iter().map(identity).collect()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add(Vec<u64>),
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        // Small numbers collide in their low bits, and are added again.
        let number = prop_oneof![
            0..200_u64,
            any::<u64>(),
            (0..64_u64).prop_map(|high| high << 58)
        ];
        prop_oneof![
            9 => prop::collection::vec(number, 0..400).prop_map(Step::Add),
            1 => Just(Step::Clear),
        ]
    }

    #[test]
    fn rules_out_what_did_not_come_since_it_was_probed() {
        let upload = |seq: u64| -> Vec<u64> { (seq * 100_000..).take(RECENT_MAX / 3).collect() };
        let mut recent = RecentIdentities::after(Seq(10));
        for seq in 11..=18 {
            recent.add(Seq(seq), &identities(&upload(seq)));
        }
        let rules_out = |numbers: &[u64], at: Option<u64>| {
            recent.rule_out(&Probe {
                identities: identities(numbers),
                at: at.map(Seq),
                repeats: Vec::new(),
            })
        };
        assert!(rules_out(&[1, 2], Some(18)));
        for seq in 14..=18 {
            assert!(!rules_out(&[1, seq * 100_000], Some(seq - 1)), "{seq}");
        }
        assert!(rules_out(&[1, 2], Some(13)));
        assert!(
            !rules_out(&[1, 2], Some(12)),
            "more came in than is remembered"
        );
        assert!(!rules_out(&[1, 2], None), "never probed");
    }

    proptest! {
        #[test]
        fn knows_what_a_hash_set_knows(steps in prop::collection::vec(step(), 0..30)) {
            let (mut fingerprints, mut model) = (Fingerprints::default(), HashSet::new());
            for step in steps {
                match step {
                    Step::Add(numbers) => {
                        for number in &numbers {
                            let known = model.contains(&(*number).max(1));
                            prop_assert_eq!(fingerprints.contain_any(&identities(&[*number])), known);
                        }
                        fingerprints.add(&identities(&numbers));
                        model.extend(numbers.iter().map(|number| (*number).max(1)));
                    }
                    Step::Clear => {
                        fingerprints.clear();
                        model.clear();
                    }
                }
            }
            let all: Vec<u64> = model.into_iter().collect();
            prop_assert!(all.iter().all(|number| fingerprints.contain_any(&identities(&[*number]))));
        }
    }
}
