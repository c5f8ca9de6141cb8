//! Seal: key data at rest, and the identities of keys.
//!
//! - *In*: packed keys of a batch, or one key's canonical text.
//! - *Out*: sealed bytes, or a [`KeyIdentity`].
//! - *Refuses*: sealed bytes that were changed, or sealed with a key that is not configured
//!   ([`UnsealError`]); key files that are not whole ([`Keys::parse`]).
//! - *Assumes*: one key seals fewer than 2³² batches: nonces are random, and NIST SP 800-38D §8.3
//!   allows no more. At 150,000 uploads a day that is 78 years.
//! - *Runs on*: a CPU job; opening on reader threads, too.
//!
//! The layout of sealed bytes is key id (32 bits, big-endian), nonce (12 bytes), ciphertext, tag
//! (16 bytes): AES-256-GCM over the packed keys, with data that binds it to its place.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use siphasher::sip128::SipHasher24;

use crate::domain::{Country, KeyIdentity, UploadTag};

/// Bytes of a secret: 256 bits.
const SECRET_BYTES: usize = 32;
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

/// Why the keys of an installation cannot be read: one sentence, without any part of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeysError(String);

/// The secret keys of an installation: one identity key, and a ring of sealing keys of which the
/// newest seals.
///
/// Written as text, one line per key: `identity BASE64`, `sealing ID BASE64`, `standby ID BASE64`; each
/// 32 bytes; `#` begins a comment; the sealing key with the highest id seals. A standby key opens
/// and does not seal: all gateways have to know a key before one of them seals with it.
#[derive(Clone)]
pub struct Keys(Arc<KeysInner>);

struct KeysInner {
    hasher: IdentityHasher,
    identity_check: [u8; 32],
    ring: BTreeMap<u32, SealingKey>,
    /// Which key seals. Invariant: the ring has it.
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
        let keys = KeyText::parse(text).map_err(KeysError)?;
        let ring = keys.ring.iter();
        Ok(Self(Arc::new(KeysInner {
            hasher: IdentityHasher::new(&keys.identity),
            identity_check: derive(&keys.identity, CHECK_LABEL),
            ring: ring
                .map(|(&id, key)| (id, SealingKey::new(&key.secret)))
                .collect(),
            newest: keys.newest,
        })))
    }

    /// Makes fresh random keys, in text form.
    pub fn generate_text() -> String {
        format!(
            "# Encryption keys of one installation. Whoever has them can read the stored keys;\n\
             # without them nobody can. Keep a copy in a safe place, and never change a line.\n\
             identity {}\n\
             sealing 1 {}\n",
            random_secret_text(),
            random_secret_text()
        )
    }

    /// Makes another key seal: the newest standby key, or else a fresh one. What was stored before
    /// can still be opened.
    ///
    /// # Errors
    /// When the text cannot be read, or its highest id is the last one possible.
    pub fn add_sealing_key_text(text: &str) -> Result<String, KeysError> {
        let keys = KeyText::parse(text).map_err(KeysError)?;
        let last = keys.ring.last_key_value();
        match last.and_then(|(_, key)| key.standby_line) {
            Some(line) => Ok(promote(text, line)),
            None => append_key(text, &keys, "sealing"),
        }
    }

    /// Appends a fresh standby key to a text form: the first of two steps when several gateways
    /// share a database. When all of them know it, [`Self::add_sealing_key_text`] makes it seal.
    ///
    /// # Errors
    /// When the text cannot be read, or its highest id is the last one possible.
    pub fn add_standby_key_text(text: &str) -> Result<String, KeysError> {
        let keys = KeyText::parse(text).map_err(KeysError)?;
        append_key(text, &keys, "standby")
    }

    /// The id of the key that seals.
    pub fn newest_sealing_key(&self) -> u32 {
        self.0.newest
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
        let id = self.0.newest;
        let key = self
            .0
            .ring
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
        let key = self.0.ring.get(&id).ok_or(UnsealError::UnknownKey(id))?;
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

    /// Recognises the identity key without revealing it.
    pub fn identity_check(&self) -> [u8; 32] {
        self.0.identity_check
    }

    /// Recognises each sealing key without revealing it, by id, ascending.
    pub fn sealing_checks(&self) -> Vec<(u32, [u8; 32])> {
        let ring = self.0.ring.iter();
        ring.map(|(&id, key)| (id, key.check)).collect()
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

/// Makes key identities: SipHash-2-4 with 128 bits of output, keyed with the installation's secret.
#[derive(Clone, Copy)]
pub struct IdentityHasher(SipHasher24);

impl IdentityHasher {
    fn new(secret: &[u8; SECRET_BYTES]) -> Self {
        let derived = derive(secret, IDENTITY_LABEL);
        let key = derived.first_chunk().expect("half of 32 bytes are 16");
        Self(SipHasher24::new_with_key(key))
    }

    /// The identity of a key, from its canonical text.
    #[inline]
    pub fn identify(&self, canonical_text: &[u8]) -> KeyIdentity {
        KeyIdentity(without_zero_head(self.0.hash(canonical_text).as_bytes()))
    }
}

/// Does not show the key.
impl fmt::Debug for IdentityHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityHasher(..)")
    }
}

/// The set of identities marks its empty places with zero: one hash in 2⁶⁴ gives way.
#[inline]
fn without_zero_head(mut hash: [u8; 16]) -> [u8; 16] {
    if let Some(head) = hash.first_chunk_mut::<8>()
        && u64::from_ne_bytes(*head) == 0
    {
        *head = 1u64.to_le_bytes();
    }
    hash
}

const IDENTITY_LABEL: &[u8] = b"efgs key identity, SipHash-2-4-128";
const CHECK_LABEL: &[u8] = b"efgs check value";

/// A value that depends on the secret and does not reveal it: HMAC-SHA-256 over a fixed label.
fn derive(secret: &[u8; SECRET_BYTES], label: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, label);
    tag.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

fn random_secret_text() -> String {
    STANDARD.encode(random::<SECRET_BYTES>())
}

/// The text form, read.
struct KeyText {
    identity: [u8; SECRET_BYTES],
    ring: BTreeMap<u32, RingKey>,
    /// Highest id of the keys that may seal.
    newest: u32,
}

struct RingKey {
    secret: [u8; SECRET_BYTES],
    /// Where the key stands, from 0, if it does not seal yet.
    standby_line: Option<usize>,
}

impl KeyText {
    fn parse(text: &str) -> Result<Self, String> {
        let mut identity = None;
        let mut ring = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let taken = match *words.as_slice() {
                [] => false,
                ["identity", secret] => identity.replace(parse_secret(at, secret)?).is_some(),
                [role @ ("sealing" | "standby"), id, secret] => {
                    let id = id.parse::<u32>().map_err(|_| shape(at))?;
                    let key = RingKey {
                        secret: parse_secret(at, secret)?,
                        standby_line: (role == "standby").then_some(at),
                    };
                    ring.insert(id, key).is_some()
                }
                _ => return Err(shape(at)),
            };
            if taken {
                return Err(format!(
                    "line {} of the encryption keys repeats a key: remove one of the two",
                    at.saturating_add(1)
                ));
            }
        }
        let identity = identity.ok_or("the encryption keys lack the line `identity BASE64`")?;
        let mut newest_first = ring.iter().rev();
        let newest = newest_first.find(|(_, key)| key.standby_line.is_none());
        let newest = newest.map(|(&id, _)| id);
        Ok(Self {
            identity,
            newest: newest.ok_or("the encryption keys lack a line `sealing ID BASE64`")?,
            ring,
        })
    }
}

/// Appends a fresh key with the next id.
fn append_key(text: &str, keys: &KeyText, role: &str) -> Result<String, KeysError> {
    let last = keys.ring.last_key_value().map_or(0, |(&id, _)| id);
    let id = last.checked_add(1).ok_or_else(|| {
        KeysError("the encryption keys have no id left for another key".to_owned())
    })?;
    let separator = if text.ends_with('\n') { "" } else { "\n" };
    let secret = random_secret_text();
    Ok(format!("{text}{separator}{role} {id} {secret}\n"))
}

/// Makes the standby key in a line, counted from 0, a sealing key.
fn promote(text: &str, line: usize) -> String {
    let lines = text.split_inclusive('\n').enumerate();
    lines
        .map(|(at, content)| {
            if at == line {
                content.replacen("standby", "sealing", 1)
            } else {
                content.to_owned()
            }
        })
        .collect()
}

fn parse_secret(line: usize, text: &str) -> Result<[u8; SECRET_BYTES], String> {
    let bytes = STANDARD.decode(text).map_err(|_| shape(line))?;
    bytes.try_into().map_err(|_| shape(line))
}

/// What is wrong with a line, counted from 0.
fn shape(line: usize) -> String {
    format!(
        "line {} of the encryption keys must be `identity BASE64`, `sealing ID BASE64` or \
         `standby ID BASE64`, with 32 bytes in base64",
        line.saturating_add(1)
    )
}

/// What a seal is bound to: a row's key data cannot be moved to another row.
pub(crate) fn seal_context(country: Country, tag: &UploadTag) -> Vec<u8> {
    [country.as_str().as_bytes(), tag.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes 0 to 31, and 32 times 7.
    const TEXT: &str = "# test\n\
        identity AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=  # one\n\
        \n\
        sealing 3 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n";

    fn keys() -> Keys {
        Keys::parse(TEXT).unwrap()
    }

    #[test]
    fn opens_what_it_sealed() {
        let keys = keys();
        for plain in [&b""[..], b"x", &[9; 100_000]] {
            let sealed = keys.seal(plain, b"place");
            assert_eq!(sealed.len(), plain.len() + SEAL_OVERHEAD_BYTES);
            assert_eq!(sealed[..4], [0, 0, 0, 3]);
            assert_eq!(keys.unseal(sealed, b"place").unwrap(), plain);
        }
    }

    #[test]
    fn seals_in_one_allocation() {
        let sealed = keys().seal(&[1; 5000], b"");
        assert_eq!(sealed.capacity(), sealed.len());
    }

    #[test]
    fn never_seals_alike() {
        let keys = keys();
        assert_ne!(keys.seal(b"same", b""), keys.seal(b"same", b""));
    }

    #[test]
    fn refuses_every_changed_bit_and_every_truncation() {
        let keys = keys();
        let sealed = keys.seal(b"sixteen byte key", b"place");
        for at in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[at / 8] ^= 1 << (at % 8);
            let refused = keys.unseal(changed, b"place").unwrap_err();
            let of_id = at / 8 < KEY_ID_BYTES;
            assert_eq!(matches!(refused, UnsealError::UnknownKey(_)), of_id, "{at}");
        }
        for end in 0..sealed.len() {
            assert!(keys.unseal(sealed[..end].to_vec(), b"place").is_err());
        }
    }

    #[test]
    fn refuses_another_place_and_another_key() {
        let keys = keys();
        let sealed = keys.seal(b"x", b"place");
        assert_eq!(
            keys.unseal(sealed.clone(), b"elsewhere"),
            Err(UnsealError::Broken)
        );
        let others = Keys::generate_text().replace("sealing 1", "sealing 3");
        let others = Keys::parse(&others).unwrap();
        assert_eq!(others.unseal(sealed, b"place"), Err(UnsealError::Broken));
    }

    #[test]
    fn opens_old_batches_after_a_rotation_and_seals_with_the_new_key() {
        let old = keys();
        let text = Keys::add_sealing_key_text(TEXT.trim_end()).unwrap();
        let new = Keys::parse(&text).unwrap();
        assert!(text.starts_with(TEXT), "nothing is lost");
        assert_eq!((old.newest_sealing_key(), new.newest_sealing_key()), (3, 4));
        assert_eq!(new.unseal(old.seal(b"x", b""), b"").unwrap(), b"x");
        let sealed = new.seal(b"x", b"");
        assert_eq!(old.unseal(sealed, b""), Err(UnsealError::UnknownKey(4)));
        assert_eq!(old.identify(b"x"), new.identify(b"x"));
        assert_eq!(old.identity_check(), new.identity_check());
        assert_eq!(old.sealing_checks()[0], new.sealing_checks()[0]);
    }

    #[test]
    fn seals_with_a_standby_key_only_after_the_second_step() {
        let first = Keys::add_standby_key_text(TEXT).unwrap();
        let second = Keys::add_sealing_key_text(&first).unwrap();
        let (waiting, rotated) = (Keys::parse(&first).unwrap(), Keys::parse(&second).unwrap());
        assert_eq!(waiting.newest_sealing_key(), 3);
        assert_eq!(rotated.newest_sealing_key(), 4);
        assert_eq!(waiting.unseal(rotated.seal(b"x", b""), b"").unwrap(), b"x");
        assert_eq!(waiting.sealing_checks(), rotated.sealing_checks());
        assert_eq!(first.replace("standby 4", "sealing 4"), second);
    }

    #[test]
    fn refuses_to_rotate_past_the_last_id() {
        let text = TEXT.replace("sealing 3", "sealing 4294967295");
        assert!(Keys::add_sealing_key_text(&text).is_err());
    }

    /// `vectors_sip128` of the reference implementation (veorq/SipHash): key 00 to 0f, input of
    /// 0, 1 and 63 bytes that count from 00. OpenSSL agrees: `printf '' | openssl mac -macopt
    /// hexkey:000102030405060708090a0b0c0d0e0f -macopt size:16 SIPHASH`.
    #[test]
    fn hashes_as_the_reference_implementation_does() {
        let key = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        let hasher = IdentityHasher(SipHasher24::new_with_key(&key));
        let input: Vec<u8> = (0..63).collect();
        for (bytes, expected) in [
            (0, 0xa3_81_7f_04_ba_25_a8_e6_6d_f6_72_14_c7_55_02_93_u128),
            (1, 0xda_87_c1_d8_6b_99_af_44_34_76_59_11_9b_22_fc_45),
            (63, 0x51_50_d1_77_2f_50_83_4a_50_3e_06_9a_97_3f_bd_7c),
        ] {
            let hash = hasher.identify(&input[..bytes]);
            assert_eq!(hash.0, expected.to_be_bytes(), "{bytes} bytes");
        }
    }

    /// `printf 'efgs key identity, SipHash-2-4-128' | openssl dgst -sha256 -mac HMAC -macopt
    /// hexkey:0001…1f`, its first 16 bytes as key of the MAC above over `canonical`.
    #[test]
    fn derives_the_hash_key_from_the_identity_secret() {
        let expected = 0x40_94_93_c6_98_fc_b7_d7_89_59_14_9b_d7_58_f2_5d_u128;
        assert_eq!(keys().identify(b"canonical").0, expected.to_be_bytes());
        assert_eq!(
            keys().identity_hasher().identify(b"canonical"),
            keys().identify(b"canonical")
        );
    }

    #[test]
    fn gives_no_identity_whose_first_half_is_zero() {
        let mut hash = [0; 16];
        hash[15] = 5;
        let head = without_zero_head(hash);
        assert_eq!((head[0], head[15]), (1, 5));
        hash[7] = 1;
        assert_eq!(without_zero_head(hash), hash);
    }

    #[test]
    fn tells_keys_apart_by_their_checks() {
        let others = Keys::parse(&Keys::generate_text()).unwrap();
        assert_ne!(keys().identity_check(), others.identity_check());
        assert_ne!(keys().sealing_checks()[0].1, others.sealing_checks()[0].1);
        assert_eq!(keys().sealing_checks()[0].0, 3);
    }

    #[test]
    fn says_which_line_is_wrong_and_shows_none_of_it() {
        let (identity, sealing) = TEXT.split_once("\n\n").unwrap();
        for (text, says) in [
            (TEXT.replace("sealing", "standby"), "lack a line `sealing"),
            (String::new(), "lack the line `identity"),
            (identity.to_owned(), "lack a line `sealing"),
            (sealing.to_owned(), "lack the line `identity"),
            (
                format!("{TEXT}{sealing}"),
                "line 5 of the encryption keys repeats",
            ),
            (
                format!("{TEXT}secret"),
                "line 5 of the encryption keys must be",
            ),
            (format!("{TEXT}sealing x {}", "A".repeat(43)), "line 5"),
            (format!("{TEXT}sealing 4 c2VjcmV0"), "line 5"),
            (format!("{TEXT}sealing 4 secret!"), "line 5"),
        ] {
            let message = Keys::parse(&text).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
            assert!(
                !message.contains("secret") && !message.contains("c2Vj"),
                "{message}"
            );
        }
    }

    #[test]
    fn never_shows_keys() {
        let keys = keys();
        let shown = format!("{keys:?} {:?}", keys.identity_hasher());
        assert_eq!(shown, "Keys(..) IdentityHasher(..)");
    }

    #[test]
    fn generates_what_it_can_read() {
        let text = Keys::generate_text();
        assert!(Keys::parse(&text).is_ok());
        assert_ne!(text, Keys::generate_text());
    }

    proptest! {
        #[test]
        fn opens_no_random_bytes(sealed in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(keys().unseal(sealed, b"").is_err());
        }

        #[test]
        fn parses_any_text_without_panic(text in ".{0,200}") {
            let _outcome = Keys::parse(&text);
        }
    }
}
