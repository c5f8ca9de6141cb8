//! The keyed digests over the certificate list.
//!
//! The trust anchor signs certificates, not what they are listed for, nor that they are revoked. The
//! command line therefore writes a digest over the whole list with each change, under a key of the
//! installation, with a counter that grows; gateways only check it. Anyone who can write the database,
//! but has no key file, cannot change, add, remove or bring back a row unseen.

use crate::domain::{CertificateRow, UnixMillis};
use crate::seal::MacKey;

/// The certificate list as one statement has read it.
#[derive(Debug, Default)]
pub(crate) struct CertificateList {
    /// All rows that can be read.
    pub(crate) rows: Vec<CertificateRow>,
    /// What is wrong with the others. They are not part of the list: they are not trusted.
    pub(crate) unreadable: Vec<String>,
    /// The stored [`ListDigest`], if there is any.
    pub(crate) digest: Option<Vec<u8>>,
}

/// The digest over a list, and the list's counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListDigest {
    counter: u64,
    digest: [u8; 32],
}

/// Why the certificate list is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListFault {
    /// There are rows, or there were, and no digest: the list is from a version before digests, or
    /// it was removed.
    #[error("it has no keyed digest: it is from an earlier version of efgs, or was changed")]
    NoDigest,
    /// The digest is over other rows, or was made with another key.
    #[error("it is not as efgs has written it: something else has changed it")]
    Changed,
    /// The list was in force before.
    #[error("it is older than the one that this gateway has: an earlier one was put back")]
    Older,
}

impl CertificateList {
    /// Whether the list is as the command line has written it, and not older than the list with the
    /// counter `known` (0 for none); returns its counter, which is 0 while nothing was ever listed.
    ///
    /// # Errors
    /// [`ListFault`].
    pub(crate) fn check(&self, key: &MacKey, known: u64) -> Result<u64, ListFault> {
        let Some(stored) = &self.digest else {
            let is_new = known == 0 && self.rows.is_empty();
            return if is_new {
                Ok(0)
            } else {
                Err(ListFault::NoDigest)
            };
        };
        let found = ListDigest::parse(stored).ok_or(ListFault::Changed)?;
        let expected = ListDigest::new(key, found.counter, &self.rows);
        if !MacKey::is_same(&found.digest, &expected.digest) {
            Err(ListFault::Changed)
        } else if found.counter < known {
            Err(ListFault::Older)
        } else {
            Ok(found.counter)
        }
    }

    /// The counter that the digest claims, whether or not it fits.
    pub(crate) fn claimed_counter(&self) -> u64 {
        let digest = self.digest.as_deref().and_then(ListDigest::parse);
        digest.map_or(0, |digest| digest.counter)
    }
}

impl ListDigest {
    /// The digest over these rows; their order does not matter.
    pub(crate) fn new(key: &MacKey, counter: u64, rows: &[CertificateRow]) -> Self {
        let mut digests: Vec<_> = rows.iter().map(|row| row_digest(key, row)).collect();
        digests.sort_unstable();
        let counter_bytes = counter.to_be_bytes();
        let parts = [b"list".as_slice(), counter_bytes.as_slice()];
        let parts = parts
            .into_iter()
            .chain(digests.iter().map(<[u8; 32]>::as_slice));
        Self {
            counter,
            digest: key.digest(parts),
        }
    }

    /// As stored: the counter, big-endian, and the digest.
    pub(crate) fn stored(&self) -> Vec<u8> {
        [self.counter.to_be_bytes().as_slice(), &self.digest].concat()
    }

    fn parse(stored: &[u8]) -> Option<Self> {
        let (counter, digest) = stored.split_first_chunk()?;
        Some(Self {
            counter: u64::from_be_bytes(*counter),
            digest: digest.try_into().ok()?,
        })
    }
}

/// The counter of the next list: the time, where that is greater. So it also passes those of lists that
/// a restored database has forgotten.
pub(crate) fn next_counter(counter: u64, now: UnixMillis) -> u64 {
    counter.saturating_add(1).max(now.0)
}

/// The digest over everything that a row says.
pub(crate) fn row_digest(key: &MacKey, row: &CertificateRow) -> [u8; 32] {
    let revoked_at = row.revoked_at.map(|at| at.0.to_be_bytes());
    key.digest([
        b"row".as_slice(),
        &row.thumbprint.0,
        row.kind.name().as_bytes(),
        row.country.as_str().as_bytes(),
        row.pem.as_bytes(),
        row.operator_signature.as_bytes(),
        revoked_at.as_ref().map_or(&[], |at| at.as_slice()),
    ])
}
