//! Decode: bytes of a body to flat arrays of keys.
//!
//! - *In*: a protobuf body (JSON is transcoded to protobuf before, [`crate::wire::json`]).
//! - *Out*: [`DecodedBatch`], which borrows key data and origins from the body.
//! - *Refuses*: what is no `DiagnosisKeyBatch` ([`MalformedBatch`]); more keys than allowed, at
//!   the first key too many.
//! - *Assumes*: admission has bounded the size of the body.
//! - *Runs on*: a CPU job.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use crate::error::Rejection;
use crate::wire::protobuf::{KeyFields, KeyMessages, read_key, write_key};

/// Why a body is no batch of diagnosis keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedBatch {
    /// The body ends inside a field, or a length reaches beyond its message.
    #[error("the body is truncated or a length is wrong")]
    Truncated,
    /// A field tag or a skipped field is not well formed.
    #[error("a field is not well formed")]
    Field,
    /// Text is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// The body is no JSON document of the expected shape.
    #[error("the body is not JSON of the expected shape")]
    Json,
    /// `keyData` in JSON is not standard base64 (legacy message `Invalid Base64 in JSON object`).
    #[error("keyData is not base64")]
    Base64,
}

/// One key of a [`DecodedBatch`].
#[derive(Debug, Clone)]
pub(crate) struct DecodedKey<'a> {
    pub(crate) fields: KeyFields<'a>,
    /// Where [`DecodedBatch::visited`] holds the countries, joined with commas.
    visited: Range<u32>,
    pub(crate) visited_count: u32,
}

/// Keys in request order, as flat arrays.
#[derive(Debug)]
pub struct DecodedBatch<'a> {
    keys: Vec<DecodedKey<'a>>,
    /// All keys' visited countries; within a key they are joined with commas, in the sent order.
    visited: String,
}

impl<'a> DecodedBatch<'a> {
    /// How many keys there are.
    pub fn key_count(&self) -> u32 {
        u32::try_from(self.keys.len()).expect("decode counts keys with 32 bits")
    }

    pub(crate) fn keys(&self) -> &[DecodedKey<'a>] {
        &self.keys
    }

    /// A key's visited countries, joined with commas.
    #[allow(
        clippy::indexing_slicing,
        reason = "decode made the ranges from this very text"
    )]
    pub(crate) fn visited(&self, key: &DecodedKey<'_>) -> &str {
        &self.visited[key.visited.start as usize..key.visited.end as usize]
    }

    /// The keys as encoded `keys` fields, in request order: known fields only, defaults left out.
    pub fn encode_segment(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.keys.len().saturating_mul(80));
        for key in &self.keys {
            let visited = self.visited(key);
            // An empty text splits into one empty country: there is none.
            let countries = visited.split(',').filter(|_| !visited.is_empty());
            write_key(&mut out, &key.fields, countries);
        }
        out
    }

    /// Whether every origin and visited country is ASCII.
    pub(crate) fn is_ascii(&self) -> bool {
        self.visited.is_ascii() && self.keys.iter().all(|key| key.fields.origin.is_ascii())
    }
}

/// Decodes a protobuf body.
///
/// # Errors
/// [`Rejection::MalformedBatch`], or [`Rejection::TooManyKeys`] as soon as a key beyond `keys_max`
/// begins (wire behaviour §11, rows 7 and 9).
pub fn decode(body: &[u8], keys_max: u32) -> Result<DecodedBatch<'_>, Rejection> {
    // A key takes at least 40 bytes in practice: one allocation, bounded by the body.
    let capacity = (body.len() / 40).min(keys_max as usize);
    let mut batch = DecodedBatch {
        keys: Vec::with_capacity(capacity),
        visited: String::with_capacity(body.len() / 4),
    };
    let mut messages = KeyMessages::new(body);
    while let Some(message) = messages.next_message()? {
        if batch.keys.len() >= keys_max as usize {
            return Err(Rejection::TooManyKeys { max: keys_max });
        }
        let key = decode_key(message, &mut batch.visited)?;
        batch.keys.push(key);
    }
    Ok(batch)
}

fn decode_key<'a>(message: &'a [u8], visited: &mut String) -> Result<DecodedKey<'a>, Rejection> {
    let start = visited.len();
    let mut visited_count: u32 = 0;
    let fields = read_key(message, |country| {
        if visited_count > 0 {
            visited.push(',');
        }
        visited.push_str(country);
        visited_count = visited_count.saturating_add(1);
    })?;
    let position = |at: usize| u32::try_from(at).map_err(|_| MalformedBatch::Truncated);
    Ok(DecodedKey {
        fields,
        visited: position(start)?..position(visited.len())?,
        visited_count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three keys whose only field is `origin`.
    const THREE: &[u8] = b"\x0a\x04\x32\x02DE\x0a\x04\x32\x02IT\x0a\x04\x32\x02ES";

    #[test]
    fn keeps_request_order() {
        let batch = decode(THREE, 3).unwrap();
        let origins: Vec<_> = batch.keys().iter().map(|key| key.fields.origin).collect();
        assert_eq!(origins, ["DE", "IT", "ES"]);
    }

    #[test]
    fn stops_at_the_first_key_too_many() {
        // What follows the third key is never looked at.
        let mut body = THREE.to_vec();
        body.push(0xff);
        assert_eq!(
            decode(&body, 2).unwrap_err(),
            Rejection::TooManyKeys { max: 2 }
        );
    }

    #[test]
    fn reads_an_empty_body_as_an_empty_batch() {
        assert_eq!(decode(b"", 5000).unwrap().key_count(), 0);
    }

    #[test]
    fn joins_visited_countries_with_commas() {
        let batch = decode(b"\x0a\x08\x2a\x02FR\x2a\x02IT\x0a\x00", 5).unwrap();
        let visited: Vec<_> = batch.keys().iter().map(|key| batch.visited(key)).collect();
        assert_eq!(visited, ["FR,IT", ""]);
    }
}
