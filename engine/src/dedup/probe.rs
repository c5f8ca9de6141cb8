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
    /// The positions of all duplicates, ascending, if these are certain to be all.
    pub(crate) fn look_up(
        identities: Vec<KeyIdentity>,
        repeats: Vec<u32>,
        set: &IdentitySet,
    ) -> Result<Self, Vec<u32>> {
        let position = set.position();
        let known = set.find_known(&identities);
        let is_unique = known.is_empty() && repeats.is_empty();
        // During an insertion only a part of the duplicates may be visible, and uploads that are
        // stored may have yet to be inserted; the participant has to hear of all duplicates.
        if !is_unique && set.is_still_at(position) {
            return Err(merged(known, &repeats));
        }
        Ok(Self {
            identities,
            at: is_unique.then_some(position),
            repeats,
        })
    }

    /// Probes again, where nothing is inserted meanwhile. Positions of all duplicates, ascending.
    pub(crate) fn find_duplicates(&self, set: &IdentitySet) -> Vec<u32> {
        merged(set.find_known(&self.identities), &self.repeats)
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
}
