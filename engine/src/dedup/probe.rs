//! What a look-up in the set found out.

use super::set::IdentitySet;
use crate::domain::{KeyIdentity, Seq};

/// What is known of a batch's keys.
#[derive(Debug)]
pub(crate) struct Probe {
    /// One per key, in request order.
    pub(crate) identities: Vec<KeyIdentity>,
    /// The log position at which no key was known; nothing if that is for the writer to find out.
    pub(crate) at: Option<Seq>,
    /// Positions of keys that occur before in the batch, ascending. Invariant: there are none
    /// unless `at` is nothing, so that the writer refuses the batch.
    pub(crate) repeats: Vec<u32>,
}

impl Probe {
    /// Looks identities up in the set, from any thread.
    ///
    /// # Errors
    /// All duplicates, if these are certain to be all that this gateway knows.
    pub(crate) fn look_up(
        identities: Vec<KeyIdentity>,
        repeats: Vec<u32>,
        set: &IdentitySet,
    ) -> Result<Self, Duplicates> {
        let position = set.position();
        let known = set.find_known(&identities);
        let is_unique = known.is_empty() && repeats.is_empty();
        // During an insertion only a part of the duplicates may be visible, and uploads that are
        // stored may have yet to be inserted; the participant has to hear of all duplicates.
        if !is_unique && set.is_still_at(position) {
            return Err(Duplicates {
                positions: merged(known, &repeats),
                identities,
                at: position,
            });
        }
        Ok(Self {
            identities,
            at: is_unique.then_some(position),
            repeats,
        })
    }

    /// Probes again, on the writer thread, so that nothing is inserted meanwhile. Returns the positions of
    /// all duplicates, ascending.
    pub(crate) fn find_duplicates(&self, set: &IdentitySet) -> Vec<u32> {
        merged(set.find_known(&self.identities), &self.repeats)
    }
}

/// The duplicates of a batch.
#[derive(Debug)]
pub struct Duplicates {
    /// Their positions in the batch, ascending.
    pub(crate) positions: Vec<u32>,
    /// Of all keys of the batch.
    pub(crate) identities: Vec<KeyIdentity>,
    /// The log position up to which they are all.
    pub(crate) at: Seq,
}

impl Duplicates {
    /// Adds what has come into the log since, as far as the set has it. Only on the writer thread.
    /// Keys that were forgotten since the probe stay duplicates.
    pub(crate) fn complete(&mut self, set: &IdentitySet) {
        let position = set.position();
        if self.at != position {
            let positions = std::mem::take(&mut self.positions);
            self.positions = merged(positions, &set.find_known(&self.identities));
            self.at = position;
        }
    }
}

fn merged(mut positions: Vec<u32>, others: &[u32]) -> Vec<u32> {
    positions.extend(others);
    positions.sort_unstable();
    positions.dedup();
    positions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::IdentitySetWriter;
    use crate::domain::Day;

    fn identity(byte: u8) -> KeyIdentity {
        KeyIdentity([byte; 16])
    }

    #[test]
    fn names_what_is_known_and_what_is_repeated() {
        let mut writer = IdentitySetWriter::new(Seq::ZERO);
        writer.insert(
            &[identity(1), identity(2)],
            Day::from_unix_seconds(0),
            Seq(1),
        );
        let probe = Probe {
            identities: [3, 2, 3, 1].map(identity).to_vec(),
            at: None,
            repeats: vec![2],
        };
        assert_eq!(probe.find_duplicates(writer.shared()), [1, 2, 3]);
    }

    #[test]
    fn names_what_other_gateways_have_stored_meanwhile_too() {
        let mut writer = IdentitySetWriter::new(Seq::ZERO);
        let day = Day::from_unix_seconds(0);
        writer.insert(&[identity(1)], day, Seq(1));
        let identities = [5, 1, 4, 5].map(identity).to_vec();
        let mut found = Probe::look_up(identities, vec![3], writer.shared()).unwrap_err();
        assert_eq!(found.positions, [1, 3]);
        writer.insert(&[identity(4)], day, Seq(2));
        found.complete(writer.shared());
        assert_eq!(found.positions, [1, 2, 3]);
    }
}
