//! Seal: key data at rest, and the identities of keys.
//!
//! - *In*: packed keys of a batch, or one key's canonical text.
//! - *Out*: sealed bytes, or a [`KeyIdentity`].
//! - *Refuses*: sealed bytes that were changed, or sealed with a key that is not configured
//!   ([`UnsealError`]); key files that are not whole ([`Keys::parse`]).
//! - *Assumes*: one key seals fewer than 2³² batches: nonces are random, and NIST SP 800-38D §8.3
//!   allows no more. At 150,000 uploads per day that is 78 years.
//! - *Runs on*: a CPU job; opening on reader threads, too.
//!
//! The layout of sealed bytes is key id (32 bits, big-endian), nonce (12 bytes), ciphertext, tag
//! (16 bytes): AES-256-GCM over the packed keys, with data that binds it to its place.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod identity;
mod key_file;
mod mac;
mod sealed_row;
mod secret;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::domain::KeyIdentity;
use crate::log_chain::ChainKey;

pub use identity::IdentityHasher;
use key_file::KeyText;
pub use key_file::KeysError;
pub(crate) use mac::MacKey;
pub(crate) use sealed_row::SealedRow;
use secret::{CHECK_LABEL, SECRET_BYTES, derive, random};

const KEY_ID_BYTES: usize = 4;

const TAG_BYTES: usize = 16;

/// What precedes the ciphertext: key id and nonce, in bytes.
pub const SEAL_PREFIX_BYTES: usize = KEY_ID_BYTES + NONCE_LEN;

/// How much longer sealed bytes are than what they hold.
pub const SEAL_OVERHEAD_BYTES: usize = SEAL_PREFIX_BYTES + TAG_BYTES;

/// Why sealed key data cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// No key with this id is configured.
    #[error("no sealing key with id {0} is configured")]
    UnknownKey(u32),
    /// The bytes were changed, or the key with this id is another one.
    #[error("the seal is broken")]
    Broken,
}

/// The secret keys of an installation: one identity key, and a ring of sealing keys of which the
/// newest seals.
///
/// Written as text, one line per key: `identity BASE64`, `sealing ID BASE64`, `standby ID BASE64`; each
/// 32 bytes; `#` begins a comment; the sealing key with the highest id seals. A standby key opens
/// and does not seal: all gateways have to know a key before one of them seals with it.
#[derive(Clone)]
pub struct Keys(Arc<KeysInner>);

/// What a key file says, without the keys: see [`Keys::summary`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysSummary {
    identity: [u8; 32],
    sealing: Vec<(u32, [u8; 32])>,
    newest: u32,
}

struct KeysInner {
    hasher: IdentityHasher,
    identity_check: [u8; 32],
    certificate_list: MacKey,
    chain: ChainKey,
    /// Replaced whole when the key file is read again.
    ring: ArcSwap<Ring>,
}

struct Ring {
    keys: BTreeMap<u32, SealingKey>,
    /// Which key seals. Invariant: there is one with this id.
    newest: u32,
}

struct SealingKey {
    cipher: LessSafeKey,
    check: [u8; 32],
}

impl Keys {
    /// Reads the text form.
    ///
    /// # Errors
    /// One sentence that says what is wrong, without any part of the text.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let keys = KeyText::parse(text)?;
        let ring = keys.ring.iter();
        Ok(Self(Arc::new(KeysInner {
            hasher: IdentityHasher::new(&keys.identity),
            identity_check: derive(&keys.identity, CHECK_LABEL),
            certificate_list: MacKey::new(&keys.identity, CERTIFICATE_LIST_LABEL),
            chain: ChainKey::new(
                &derive(&keys.identity, CHAIN_LABEL),
                &derive(&keys.identity, CHAIN_GHASH_LABEL),
            ),
            ring: ArcSwap::from_pointee(Ring {
                keys: ring
                    .map(|(&id, key)| (id, SealingKey::new(&key.secret)))
                    .collect(),
                newest: keys.newest,
            }),
        })))
    }

    /// Makes fresh random keys, in text form.
    pub fn generate_text() -> String {
        key_file::generate()
    }

    /// Makes another key seal: the newest standby key, or else a fresh one. What was stored before
    /// can still be opened.
    ///
    /// # Errors
    /// When the text cannot be read, or its highest id is the last one possible.
    pub fn add_sealing_key_text(text: &str) -> Result<String, KeysError> {
        key_file::with_sealing_key(text)
    }

    /// Appends a fresh standby key to a text form: the first of two steps when several gateways
    /// share a database. When all of them know it, [`Self::add_sealing_key_text`] makes it seal.
    ///
    /// # Errors
    /// When the text cannot be read, or its highest id is the last one possible.
    pub fn add_standby_key_text(text: &str) -> Result<String, KeysError> {
        key_file::with_standby_key(text)
    }

    /// Removes a key that does not seal from a text form.
    ///
    /// # Errors
    /// When the text cannot be read, or has no such key, or the key seals.
    pub fn remove_sealing_key_text(text: &str, id: u32) -> Result<String, KeysError> {
        key_file::without_sealing_key(text, id)
    }

    /// The id of the key that seals.
    pub fn newest_sealing_key(&self) -> u32 {
        self.0.ring.load().newest
    }

    /// Seals `plain`; it can only be opened with the same `aad`.
    pub fn seal(&self, plain: &[u8], aad: &[u8]) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(plain.len().saturating_add(SEAL_OVERHEAD_BYTES));
        buffer.resize(SEAL_PREFIX_BYTES, 0);
        buffer.extend_from_slice(plain);
        self.seal_buffer(buffer, aad)
    }

    /// Seals what stands in `buffer` after its first [`SEAL_PREFIX_BYTES`] bytes, which are
    /// overwritten. Does not copy when the buffer has room for [`SEAL_OVERHEAD_BYTES`].
    ///
    /// # Panics
    /// When the buffer is shorter than its prefix.
    pub fn seal_buffer(&self, mut buffer: Vec<u8>, aad: &[u8]) -> Vec<u8> {
        let ring = self.0.ring.load();
        let id = ring.newest;
        let key = ring
            .keys
            .get(&id)
            .expect("parse took the newest from the ring");
        let (prefix, plain) = buffer
            .split_at_mut_checked(SEAL_PREFIX_BYTES)
            .expect("the buffer begins with the prefix");
        let nonce: [u8; NONCE_LEN] = random();
        let (id_place, nonce_place) = prefix.split_at_mut(KEY_ID_BYTES);
        id_place.copy_from_slice(&id.to_be_bytes());
        nonce_place.copy_from_slice(&nonce);
        let tag = key
            .cipher
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), plain)
            .expect("a batch is far below the 64 GiB that the cipher can take");
        buffer.extend_from_slice(tag.as_ref());
        buffer
    }

    /// Opens what [`Self::seal`] made with the same `aad`, in place.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub fn unseal(&self, mut sealed: Vec<u8>, aad: &[u8]) -> Result<Vec<u8>, UnsealError> {
        let (id, rest) = sealed
            .split_first_chunk_mut::<KEY_ID_BYTES>()
            .ok_or(UnsealError::Broken)?;
        let id = u32::from_be_bytes(*id);
        let (nonce, ciphertext) = rest
            .split_first_chunk_mut::<NONCE_LEN>()
            .ok_or(UnsealError::Broken)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let ring = self.0.ring.load();
        let key = ring.keys.get(&id).ok_or(UnsealError::UnknownKey(id))?;
        let plain = key
            .cipher
            .open_in_place(nonce, Aad::from(aad), ciphertext)
            .map_err(|_| UnsealError::Broken)?;
        let plain_bytes = plain.len();
        sealed.drain(..SEAL_PREFIX_BYTES);
        sealed.truncate(plain_bytes);
        Ok(sealed)
    }

    /// The identity of a key, from its canonical text. Its first eight bytes are never all zero.
    #[inline]
    pub fn identify(&self, canonical_text: &[u8]) -> KeyIdentity {
        self.0.hasher.identify(canonical_text)
    }

    /// What [`Self::identify`] uses, to carry into a loop.
    pub fn identity_hasher(&self) -> IdentityHasher {
        self.0.hasher
    }

    /// Makes and checks the chain of the log.
    pub(crate) fn chain(&self) -> &ChainKey {
        &self.0.chain
    }

    /// Recognises the identity key without revealing it.
    pub fn identity_check(&self) -> [u8; 32] {
        self.0.identity_check
    }

    /// What the certificate list is authenticated with.
    pub(crate) fn certificate_list_key(&self) -> &MacKey {
        &self.0.certificate_list
    }

    /// Recognises each sealing key without revealing it, by id, ascending.
    pub fn sealing_checks(&self) -> Vec<(u32, [u8; 32])> {
        let ring = self.0.ring.load();
        let keys = ring.keys.iter();
        keys.map(|(&id, key)| (id, key.check)).collect()
    }

    /// Tells whether two key files say the same, without revealing the keys.
    pub fn summary(&self) -> KeysSummary {
        KeysSummary {
            identity: self.0.identity_check,
            sealing: self.sealing_checks(),
            newest: self.newest_sealing_key(),
        }
    }

    /// Whether these keys may take the place of ours while we work.
    ///
    /// # Errors
    /// When the identity key is another one, or a sealing key that is not retired is missing or another
    /// one: what is stored would be unknown or could not be opened.
    pub fn check_renewal(
        &self,
        renewed: &Self,
        is_retired: impl Fn(u32) -> bool,
    ) -> Result<(), KeysError> {
        if renewed.0.identity_check != self.0.identity_check {
            let text = "the identity key is another one, which no gateway can take while it runs";
            return Err(KeysError(text.to_owned()));
        }
        let found = renewed.sealing_checks();
        match self
            .sealing_checks()
            .iter()
            .find(|key| !found.contains(key) && !is_retired(key.0))
        {
            None => Ok(()),
            Some((id, _)) => Err(KeysError(format!(
                "sealing key {id} is missing or another one, and stored keys may need it"
            ))),
        }
    }

    /// Seals and opens with these keys from now on, in all clones of this value. They have passed
    /// [`Self::check_renewal`].
    pub fn renew(&self, renewed: &Self) {
        self.0.ring.store(renewed.0.ring.load_full());
    }
}

/// Does not show the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl SealingKey {
    fn new(secret: &[u8; SECRET_BYTES]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, secret).expect("a secret has the cipher's length");
        Self {
            cipher: LessSafeKey::new(key),
            check: derive(secret, CHECK_LABEL),
        }
    }
}

const CERTIFICATE_LIST_LABEL: &[u8] = b"efgs certificate list, HMAC-SHA-256";

const CHAIN_LABEL: &[u8] = b"efgs log chain, HMAC-SHA-256";

const CHAIN_GHASH_LABEL: &[u8] = b"efgs log chain, GHASH of the long columns";

#[cfg(test)]
mod tests;
