//! What must be delivered, generated again from the seed of a record.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash as _;
use std::sync::OnceLock;

use engine::domain::{Country, Thumbprint, UploadTag};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use siphasher::sip128::{Hasher128, SipHasher13};

use super::audit::AuditEntry;
use super::error::VerifyError;
use crate::participants::Participant;
use crate::protocol::{self, DiagnosisKey, signed_bytes};
use crate::record::{Outcome, Record, RecordedUpload};
use crate::workload::Workload;
use testkit::digest::sha256;

/// Hash of a key's content: 128 bits, so that two keys that differ are distinguished.
pub(super) type KeyHash = u128;

/// One upload that was, or may have been, stored.
pub struct ExpectedUpload {
    /// The uploader.
    pub country: Country,
    /// Its tag.
    pub tag: UploadTag,
    /// Whether it was acknowledged; otherwise it may be stored as a whole, or not at all.
    pub acknowledged: bool,
    /// Position of its first key among all keys.
    pub(super) key_start: usize,
    /// Number of keys.
    pub(super) key_count: usize,
    /// Length of its body as sent.
    pub(super) body_bytes: usize,
    /// SHA-256 of its body as sent: a slice that has the same bytes has the same keys.
    pub(super) body_digest: [u8; 32],
    /// SHA-256 of what was signed.
    signed_digest: [u8; 32],
}

/// Everything that a record says must, or may, arrive.
pub struct Expected {
    pub(super) uploads: Vec<ExpectedUpload>,
    pub(super) key_hashes: Vec<KeyHash>,
    first_keys: HashMap<KeyHash, Vec<usize>>,
    /// Positions of all keys, ordered by hash: made when a first irregularity is looked into.
    by_hash: OnceLock<Vec<u32>>,
    by_content: HashMap<[u8; 32], usize>,
    certificates: BTreeMap<Country, Thumbprints>,
}

/// A participant's certificates.
#[derive(Debug, Clone, Copy)]
struct Thumbprints {
    authentication: Thumbprint,
    signing: Thumbprint,
}

/// A regenerated upload.
struct Remade {
    upload: ExpectedUpload,
    key_hashes: Vec<KeyHash>,
}

impl Expected {
    /// Regenerates the keys of all stored and possibly stored uploads, on all cores.
    ///
    /// # Errors
    /// When a record's own digest does not fit its seed, or a participant's certificates are
    /// missing.
    pub fn of(records: &[Record], participants: &[Participant]) -> Result<Self, VerifyError> {
        let thumbprints = |participant: &Participant| Thumbprints {
            authentication: Thumbprint(sha256(&participant.authentication.chain[0])),
            signing: Thumbprint(sha256(participant.signer.certificate())),
        };
        let certificates = participants
            .iter()
            .map(|participant| (participant.country, thumbprints(participant)))
            .collect();
        let mut remade = Vec::new();
        for record in records {
            remade.extend(remake(record)?);
        }
        Self::assemble(remade, certificates)
    }

    fn assemble(
        remade: Vec<Remade>,
        certificates: BTreeMap<Country, Thumbprints>,
    ) -> Result<Self, VerifyError> {
        let mut expected = Self {
            uploads: Vec::with_capacity(remade.len()),
            key_hashes: Vec::with_capacity(
                remade.iter().map(|upload| upload.key_hashes.len()).sum(),
            ),
            first_keys: HashMap::new(),
            by_hash: OnceLock::new(),
            by_content: HashMap::new(),
            certificates,
        };
        for Remade {
            mut upload,
            key_hashes,
        } in remade
        {
            if !expected.certificates.contains_key(&upload.country) {
                return Err(VerifyError::NoParticipant(upload.country));
            }
            let Some(first) = key_hashes.first() else {
                continue;
            };
            let index = expected.uploads.len();
            expected.first_keys.entry(*first).or_default().push(index);
            expected.by_content.insert(upload.signed_digest, index);
            upload.key_start = expected.key_hashes.len();
            expected.key_hashes.extend_from_slice(&key_hashes);
            expected.uploads.push(upload);
        }
        Ok(expected)
    }

    /// The uploads that were, or may have been, stored.
    pub fn uploads(&self) -> &[ExpectedUpload] {
        &self.uploads
    }

    /// Acknowledged keys that `country` must receive.
    pub fn keys_for(&self, country: Country) -> u64 {
        let others = self
            .uploads
            .iter()
            .filter(|upload| upload.country != country);
        others
            .filter(|upload| upload.acknowledged)
            .map(|upload| upload.key_count as u64)
            .sum()
    }

    /// Acknowledged uploads of `country`.
    pub(super) fn uploads_of(&self, country: Country) -> u64 {
        let own = self
            .uploads
            .iter()
            .filter(|upload| upload.acknowledged && upload.country == country);
        own.count() as u64
    }

    /// The uploads that begin with the key of that hash.
    pub(super) fn beginning_with(&self, first_key: KeyHash) -> &[usize] {
        self.first_keys.get(&first_key).map_or(&[], Vec::as_slice)
    }

    /// Where keys of that hash are expected: positions among all keys.
    pub(super) fn positions(&self, hash: KeyHash) -> &[u32] {
        let by_hash = self.by_hash.get_or_init(|| {
            let count =
                u32::try_from(self.key_hashes.len()).expect("a run has less than 2^32 keys");
            let mut positions: Vec<u32> = (0..count).collect();
            positions.sort_unstable_by_key(|&position| self.key_hashes[position as usize]);
            positions
        });
        let at = |position: &u32| self.key_hashes[*position as usize];
        let start = by_hash.partition_point(|position| at(position) < hash);
        let count = by_hash[start..]
            .iter()
            .take_while(|position| at(position) == hash)
            .count();
        &by_hash[start..start + count]
    }

    /// The upload that the key at a position belongs to.
    pub(super) fn upload_of(&self, position: usize) -> usize {
        self.uploads
            .partition_point(|upload| upload.key_start <= position)
            - 1
    }

    /// Whether there is no record to compare with.
    pub fn is_unrecorded(&self) -> bool {
        self.uploads.is_empty()
    }

    /// The upload whose signed content has that SHA-256.
    pub(super) fn with_content(&self, digest: &[u8; 32]) -> Option<usize> {
        self.by_content.get(digest).copied()
    }

    /// Whether what an audit says of an upload is how it was sent: by whom, with which
    /// certificates, how many keys.
    ///
    /// The signature itself may be another one than recorded: of a run that was repeated, the
    /// gateway keeps the first signatures.
    pub(super) fn agrees(&self, upload: usize, entry: &AuditEntry) -> bool {
        let sent = &self.uploads[upload];
        self.certificates.get(&sent.country).is_some_and(|sender| {
            entry.country.0 == sent.country
                && entry.amount as usize == sent.key_count
                && entry.uploader_thumbprint == sender.authentication.legacy_hex()
                && entry.uploader_signing_thumbprint == sender.signing.legacy_hex()
        })
    }
}

/// Shows counts, no keys.
impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expected")
            .field("uploads", &self.uploads.len())
            .field("keys", &self.key_hashes.len())
            .finish_non_exhaustive()
    }
}

/// Shows no keys and no signature.
impl fmt::Debug for ExpectedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpectedUpload")
            .field("country", &self.country)
            .field("tag", &self.tag)
            .field("acknowledged", &self.acknowledged)
            .field("key_count", &self.key_count)
            .finish_non_exhaustive()
    }
}

fn remake(record: &Record) -> Result<Vec<Remade>, VerifyError> {
    let workload = Workload {
        seed: record.seed,
        countries: record.countries.clone(),
        uploads: Vec::new(),
    };
    let generator = workload.generator();
    let one = |recorded: &&RecordedUpload| {
        let spec = &recorded.spec;
        let body = generator.body(spec.country, spec.index, spec.key_count);
        remake_upload(recorded, &body)
    };
    let stored: Vec<_> = record
        .uploads
        .iter()
        .filter(|upload| !matches!(upload.outcome, Outcome::Refused(_)))
        .collect();
    stored.par_iter().map(one).collect()
}

fn remake_upload(recorded: &RecordedUpload, body: &[u8]) -> Result<Remade, VerifyError> {
    let mismatch = || VerifyError::Record(recorded.spec.tag.clone());
    let signed = signed_bytes(body).map_err(|_| mismatch())?;
    if sha256(&signed) != recorded.signed_digest {
        return Err(mismatch());
    }
    let hash = |message: Result<&[u8], _>| message.ok().and_then(key_hash).ok_or_else(mismatch);
    let key_hashes = protocol::messages(body)
        .map(hash)
        .collect::<Result<Vec<_>, _>>()?;
    let upload = ExpectedUpload {
        country: recorded.spec.country,
        tag: recorded.spec.tag.clone(),
        acknowledged: recorded.outcome == Outcome::Stored,
        key_start: 0,
        key_count: key_hashes.len(),
        body_bytes: body.len(),
        body_digest: sha256(body),
        signed_digest: recorded.signed_digest,
    };
    Ok(Remade { upload, key_hashes })
}

/// Hash of an encoded key by its content, however it was encoded; `None` when it is malformed.
pub(super) fn key_hash(message: &[u8]) -> Option<KeyHash> {
    let mut hasher = SipHasher13::new();
    DiagnosisKey::read(message).ok()?.hash(&mut hasher);
    Some(hasher.finish128().as_u128())
}
