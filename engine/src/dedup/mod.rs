//! Dedup: every key of a batch is new, or the batch is refused whole.
//!
//! - *In*: [`VerifiedBatch`].
//! - *Out*: [`UniqueBatch`]: no key twice in it, none in the set at the position where it was
//!   probed. What was inserted after that position is checked by the writer before it inserts; if
//!   duplicates were seen while a stored upload was not yet completely in the set, only the writer
//!   can name all of them.
//! - *Refuses*: nothing; duplicates are an outcome, not an error: all their positions.
//! - *Assumes*: the identity key is the same in all gateways of the installation.
//! - *Runs on*: a CPU job.

mod base;
mod fingerprints;
mod probe;
mod set;
mod tags;

pub(crate) use fingerprints::{Fingerprints, RecentIdentities};
pub use probe::Duplicates;
pub(crate) use probe::Probe;
pub use set::{IdentitySet, IdentitySetWriter};
pub use tags::{TagIndex, TagState};

use crate::domain::{KeyIdentity, Seq};
use crate::seal::Keys;
use crate::verify::{CanonicalBytes, VerifiedBatch};

/// A verified batch all of whose keys are new, as far as a CPU job can tell. Only [`dedup`] makes
/// one.
#[derive(Debug)]
pub struct UniqueBatch<'a> {
    batch: VerifiedBatch<'a>,
    probe: Probe,
}

impl<'a> UniqueBatch<'a> {
    /// The batch, and what is known of its keys.
    pub(crate) fn into_parts(self) -> (VerifiedBatch<'a>, Probe) {
        (self.batch, self.probe)
    }

    /// What the writer needs to name the duplicates of a batch that is not to be stored: none yet,
    /// unless it was left to the writer to find them.
    pub(crate) fn into_dry_run(self) -> Duplicates {
        let Probe {
            identities,
            at,
            repeats,
        } = self.probe;
        Duplicates {
            positions: repeats,
            identities,
            // Position 0 is that of the empty log, in which nothing is known.
            at: at.unwrap_or(Seq(0)),
        }
    }
}

/// Looks for repeats within the batch and for known keys.
///
/// # Errors
/// All duplicates by their positions in the request: of a key that occurs twice, the later one
/// (wire §12). Where they may not be all that this gateway knows, the batch is handed to the writer.
pub fn dedup<'a>(
    batch: VerifiedBatch<'a>,
    canonical: &CanonicalBytes,
    keys: &Keys,
    set: &IdentitySet,
) -> Result<UniqueBatch<'a>, Duplicates> {
    let identities = identify(canonical, keys);
    let repeats = find_repeats(&identities, canonical.order());
    let probe = Probe::look_up(identities, repeats, set)?;
    Ok(UniqueBatch { batch, probe })
}

/// The identities of a batch's keys, in request order.
pub fn identify(canonical: &CanonicalBytes, keys: &Keys) -> Vec<KeyIdentity> {
    let mut identities = vec![KeyIdentity([0; 16]); canonical.key_count()];
    let hasher = keys.identity_hasher();
    // In the order in which the texts stand in memory.
    for &index in canonical.order() {
        identities[index as usize] = hasher.identify(canonical.key(index as usize));
    }
    identities
}

/// Positions of keys that repeat an earlier one, ascending. Equal keys have equal texts, so they
/// are neighbours in `order`, the batch's signing order, and there in request order.
pub fn find_repeats(identities: &[KeyIdentity], order: &[u32]) -> Vec<u32> {
    let same = |a: u32, b: u32| identities[a as usize] == identities[b as usize];
    let pairs = order.windows(2).filter(|pair| same(pair[0], pair[1]));
    let mut repeats: Vec<u32> = pairs.map(|pair| pair[1]).collect();
    repeats.sort_unstable();
    repeats
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
}
