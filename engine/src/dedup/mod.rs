//! Dedup: every key of a batch is new, or the batch is refused whole.
//!
//! - *In*: [`VerifiedBatch`].
//! - *Out*: [`UniqueBatch`]: no key twice in it, none in the set at the position where it was
//!   probed. What came in behind that position is the writer's to check, before it inserts.
//! - *Refuses*: nothing; duplicates are an outcome, not an error: all their positions.
//! - *Assumes*: the identity key is the same in all gateways of the installation.
//! - *Runs on*: a CPU job.

mod set;
mod tags;

use std::collections::HashMap;

pub use set::{IdentitySet, IdentitySetWriter};
pub use tags::{TagIndex, TagState};

use crate::domain::{KeyIdentity, Seq};
use crate::seal::Keys;
use crate::verify::VerifiedBatch;
use crate::wire::canonical::CanonicalBytes;

/// A verified batch all of whose keys are new. Only [`dedup`] makes one.
#[derive(Debug)]
pub struct UniqueBatch<'a> {
    batch: VerifiedBatch<'a>,
    identities: Vec<KeyIdentity>,
    probed_at: Seq,
}

impl<'a> UniqueBatch<'a> {
    /// The batch, its keys' identities in request order, and the log position of the probe.
    pub fn into_parts(self) -> (VerifiedBatch<'a>, Vec<KeyIdentity>, Seq) {
        (self.batch, self.identities, self.probed_at)
    }
}

/// Looks for repeats within the batch and for known keys.
///
/// # Errors
/// The positions in the request of all duplicates, ascending: of a key that occurs twice, the
/// later one (wire behaviour §12).
pub fn dedup<'a>(
    batch: VerifiedBatch<'a>,
    canonical: &CanonicalBytes,
    keys: &Keys,
    set: &IdentitySet,
) -> Result<UniqueBatch<'a>, Vec<u32>> {
    let identities = identify(canonical, keys);
    let probed_at = set.position();
    let duplicates = find_duplicates(&identities, canonical.order(), set);
    if duplicates.is_empty() {
        Ok(UniqueBatch {
            batch,
            identities,
            probed_at,
        })
    } else {
        Err(duplicates)
    }
}

/// The identities of a batch's keys, in request order.
pub fn identify(canonical: &CanonicalBytes, keys: &Keys) -> Vec<KeyIdentity> {
    let texts = (0..canonical.key_count()).map(|at| canonical.key(at));
    texts.map(|text| keys.identify(text)).collect()
}

/// Positions of keys that the set knows, or that repeat an earlier one; ascending. `order` is
/// the batch's signing order.
pub fn find_duplicates(identities: &[KeyIdentity], order: &[u32], set: &IdentitySet) -> Vec<u32> {
    let mut duplicates = set.find_known(identities);
    duplicates.extend(find_repeats(identities, order));
    duplicates.sort_unstable();
    duplicates.dedup();
    duplicates
}

/// Equal keys have equal texts, so they are neighbours in signing order, in request order.
fn find_repeats(identities: &[KeyIdentity], order: &[u32]) -> Vec<u32> {
    let same = |a: u32, b: u32| identities[a as usize] == identities[b as usize];
    order
        .windows(2)
        .filter(|pair| same(pair[0], pair[1]))
        .map(|pair| pair[1])
        .collect()
}

/// Identities of the batches that one group commit will write, to find keys that they share.
#[derive(Debug, Default)]
pub(crate) struct GroupIdentities(HashMap<KeyIdentity, (), IdentityHash>);

impl GroupIdentities {
    /// Adds a batch, unless it shares a key with those added before.
    pub(crate) fn try_add(&mut self, identities: &[KeyIdentity]) -> bool {
        if identities
            .iter()
            .any(|identity| self.0.contains_key(identity))
        {
            return false;
        }
        self.0.reserve(identities.len());
        self.0
            .extend(identities.iter().map(|identity| (*identity, ())));
        true
    }
}

/// Identities are hashes already: their first word does.
#[derive(Debug, Clone, Copy, Default)]
struct IdentityHash;

#[derive(Debug, Default)]
struct FirstWord(u64);

impl std::hash::BuildHasher for IdentityHash {
    type Hasher = FirstWord;

    fn build_hasher(&self) -> FirstWord {
        FirstWord::default()
    }
}

impl std::hash::Hasher for FirstWord {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(word) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*word);
        }
    }

    fn write_usize(&mut self, _length_prefix: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(byte: u8) -> KeyIdentity {
        KeyIdentity([byte; 16])
    }

    #[test]
    fn finds_the_later_of_two_equal_keys() {
        let identities = [identity(1), identity(2), identity(1), identity(1)];
        // Signing order with equal neighbours, as the canonical order gives it.
        assert_eq!(find_repeats(&identities, &[1, 0, 2, 3]), [2, 3]);
    }

    #[test]
    fn keeps_batches_that_share_a_key_out_of_one_group() {
        let mut group = GroupIdentities::default();
        assert!(group.try_add(&[identity(1), identity(2)]));
        assert!(!group.try_add(&[identity(3), identity(2)]));
        assert!(
            group.try_add(&[identity(3)]),
            "a refused batch leaves nothing behind"
        );
    }
}
