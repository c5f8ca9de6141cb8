//! The key file: read, made, and rotated.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::secret::{SECRET_BYTES, random};

/// Why the keys of an installation cannot be read: one sentence, without any part of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeysError(pub(super) String);

/// Makes fresh random keys, in text form.
pub(super) fn generate() -> String {
    format!(
        "# Encryption keys of one installation. Anyone who has them can read the stored keys;\n\
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
pub(super) fn with_sealing_key(text: &str) -> Result<String, KeysError> {
    let keys = KeyText::parse(text)?;
    let last = keys.ring.last_key_value();
    match last.filter(|(_, key)| key.stands_by) {
        Some((_, key)) => Ok(promote(text, key.line)),
        None => append_key(text, &keys, "sealing"),
    }
}

/// Appends a fresh standby key to a text form: the first of two steps when several gateways
/// share a database. When all of them know it, [`with_sealing_key`] makes it seal.
///
/// # Errors
/// When the text cannot be read, or its highest id is the last one possible.
pub(super) fn with_standby_key(text: &str) -> Result<String, KeysError> {
    let keys = KeyText::parse(text)?;
    append_key(text, &keys, "standby")
}

/// Removes a key that does not seal.
///
/// # Errors
/// When the text cannot be read, or has no such key, or the key seals.
pub(super) fn without_sealing_key(text: &str, id: u32) -> Result<String, KeysError> {
    let keys = KeyText::parse(text)?;
    let known = keys.ring.get(&id).filter(|_| id != keys.newest);
    let at = known.map(|key| key.line).ok_or_else(|| {
        KeysError(format!(
            "the encryption keys have no key {id} that does not seal"
        ))
    })?;
    let lines = text.split_inclusive('\n').enumerate();
    let kept = lines.filter(|(line, _)| *line != at);
    Ok(kept.map(|(_, text)| text).collect())
}

fn random_secret_text() -> String {
    STANDARD.encode(random::<SECRET_BYTES>())
}

/// The text form, read.
pub(super) struct KeyText {
    pub(super) identity: [u8; SECRET_BYTES],
    pub(super) ring: BTreeMap<u32, RingKey>,
    /// Highest id of the keys that may seal.
    pub(super) newest: u32,
}

pub(super) struct RingKey {
    pub(super) secret: [u8; SECRET_BYTES],
    /// Where the key stands, from 0.
    line: usize,
    /// Whether it does not seal yet.
    stands_by: bool,
}

impl KeyText {
    pub(super) fn parse(text: &str) -> Result<Self, KeysError> {
        Self::read(text).map_err(KeysError)
    }

    fn read(text: &str) -> Result<Self, String> {
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
                        line: at,
                        stands_by: role == "standby",
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
        let newest = newest_first.find(|(_, key)| !key.stands_by);
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
