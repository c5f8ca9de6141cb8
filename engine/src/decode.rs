//! Decode: bytes of a body to flat arrays of keys.
//!
//! - *In*: a protobuf body (JSON is transcoded to protobuf before, [`crate::wire::json`]).
//! - *Out*: [`DecodedBatch`], which borrows key data and origins from the body.
//! - *Refuses*: bodies that are not a `DiagnosisKeyBatch` ([`BodyError`]); more keys than allowed, at the
//!   first key too many.
//! - *Assumes*: admission has bounded the size of the body.
//! - *Runs on*: a CPU job.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};

use crate::limits;
use crate::wire::BodyError;
use crate::wire::protobuf::{
    KeyFields, KeyMessages, TwoLetterCountries, field_bytes, read_key_until, read_own_key,
    write_key,
};

/// One key of a [`DecodedBatch`].
#[derive(Debug, Clone)]
pub(crate) struct DecodedKey<'a> {
    pub(crate) fields: KeyFields<'a>,
    visited: Visited<'a>,
    /// Whether visited countries and origin are ASCII without commas and control characters.
    /// Otherwise different keys could have the same canonical text, and JSON would escape control
    /// characters at six times their length. A key in which reading stopped never counts as plain.
    pub(crate) has_plain_countries: bool,
}

impl DecodedKey<'_> {
    /// Whether reading stopped in this key, since it has more visited countries than allowed.
    pub(crate) const fn has_too_many_countries(&self) -> bool {
        matches!(self.visited, Visited::TooMany)
    }
}

/// Where the visited countries of a key are.
#[derive(Debug, Clone)]
enum Visited<'a> {
    /// In the body.
    TwoLetters(TwoLetterCountries<'a>),
    /// In [`DecodedBatch::joined`].
    Joined(Range<usize>),
    /// More than [`limits::VISITED_COUNTRIES_CHARACTERS_MAX`] characters. Reading stopped there: this
    /// is the last key of its batch, and lacks fields.
    TooMany,
}

/// Visited countries of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum VisitedCountries<'a> {
    /// Two capital letters each.
    TwoLetters(TwoLetterCountries<'a>),
    /// Joined with commas.
    Joined(&'a str),
}

/// Keys in request order, as flat arrays.
#[derive(Debug)]
pub struct DecodedBatch<'a> {
    keys: Vec<DecodedKey<'a>>,
    /// Visited countries that [`TwoLetterCountries`] cannot hold, joined with commas per key, in
    /// the order sent.
    joined: String,
    /// The body, if it is what [`Self::encode_segment`] would write.
    segment: Option<&'a [u8]>,
}

impl<'a> DecodedBatch<'a> {
    /// How many keys there are.
    pub fn key_count(&self) -> u32 {
        u32::try_from(self.keys.len()).expect("decode counts keys with 32 bits")
    }

    pub(crate) fn keys(&self) -> &[DecodedKey<'a>] {
        &self.keys
    }

    /// A key's visited countries.
    #[allow(
        clippy::indexing_slicing,
        reason = "decode made the ranges from this very text"
    )]
    pub(crate) fn visited<'k>(&'k self, key: &'k DecodedKey<'_>) -> VisitedCountries<'k> {
        match &key.visited {
            Visited::TwoLetters(countries) => VisitedCountries::TwoLetters(*countries),
            Visited::Joined(range) => VisitedCountries::Joined(&self.joined[range.clone()]),
            Visited::TooMany => VisitedCountries::Joined(""),
        }
    }

    /// The keys as encoded `keys` fields, in request order: known fields only, defaults left out.
    ///
    /// Nearly every client sends just that; then it is a copy of the body.
    pub fn encode_segment(&self) -> Vec<u8> {
        match self.segment {
            Some(body) => body.to_vec(),
            None => self.encode_keys(),
        }
    }

    fn encode_keys(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.keys.len().saturating_mul(80));
        for key in &self.keys {
            let joined = self.visited(key).joined();
            // An empty text splits into one empty country: there is none.
            let countries = joined.split(',').filter(|_| !joined.is_empty());
            write_key(&mut out, &key.fields, countries);
        }
        out
    }
}

impl<'a> VisitedCountries<'a> {
    /// Joined with commas.
    pub(crate) fn joined(self) -> Cow<'a, str> {
        match self {
            Self::Joined(joined) => Cow::Borrowed(joined),
            Self::TwoLetters(countries) => {
                let mut joined = String::with_capacity(countries.iter().len().saturating_mul(3));
                for [a, b] in countries.iter() {
                    joined.extend([char::from(a), char::from(b), ',']);
                }
                joined.pop();
                Cow::Owned(joined)
            }
        }
    }
}

/// Decodes a protobuf body.
///
/// # Errors
/// [`BodyError::Malformed`], or [`BodyError::TooManyKeys`] as soon as a key beyond `keys_max`
/// begins (wire §11.7 and §11.9).
pub fn decode(body: &[u8], keys_max: u32) -> Result<DecodedBatch<'_>, BodyError> {
    // A key takes at least 40 bytes in practice: one allocation, bounded by the body.
    let capacity = (body.len() / 40).min(keys_max as usize);
    let mut keys = Vec::with_capacity(capacity);
    let mut joined = String::new();
    let mut messages = KeyMessages::new(body);
    // Bytes of the keys that are as we would write them.
    let mut own_bytes: usize = 0;
    while let Some(message) = messages.next_message()? {
        if keys.len() >= keys_max as usize {
            return Err(BodyError::TooManyKeys { max: keys_max });
        }
        let key = match read_own_key(message) {
            Some((fields, countries)) => {
                own_bytes = own_bytes.saturating_add(field_bytes(message));
                DecodedKey {
                    has_plain_countries: fields.origin.is_ascii(),
                    visited: Visited::TwoLetters(countries),
                    fields,
                }
            }
            None => {
                let key = decode_key(message, &mut joined)?;
                if key.has_too_many_countries() {
                    keys.push(key);
                    break;
                }
                key
            }
        };
        keys.push(key);
    }
    Ok(DecodedBatch {
        keys,
        joined,
        segment: (own_bytes == body.len()).then_some(body),
    })
}

/// Whether a character of a country is printable ASCII, and not a comma.
const fn is_plain(character: u8) -> bool {
    matches!(character, b' '..=b'~') && character != b','
}

/// Reads a key in any valid encoding; stops where its visited countries become too long.
fn decode_key<'a>(message: &'a [u8], joined: &mut String) -> Result<DecodedKey<'a>, BodyError> {
    let start = joined.len();
    let (mut first, mut plain, mut too_many) = (true, true, false);
    let fields = read_key_until(message, |country| {
        let length = joined.len().saturating_sub(start);
        let longer = length.saturating_add(usize::from(!first));
        if longer.saturating_add(country.len()) > limits::VISITED_COUNTRIES_CHARACTERS_MAX {
            too_many = true;
            return ControlFlow::Break(());
        }
        if !first {
            joined.push(',');
        }
        first = false;
        joined.push_str(country);
        plain &= country.bytes().all(is_plain);
        ControlFlow::Continue(())
    })?;
    Ok(DecodedKey {
        has_plain_countries: plain && !too_many && fields.origin.is_ascii(),
        visited: if too_many {
            Visited::TooMany
        } else {
            Visited::Joined(start..joined.len())
        },
        fields,
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
            BodyError::TooManyKeys { max: 2 }
        );
    }

    #[test]
    fn reads_an_empty_body_as_an_empty_batch() {
        assert_eq!(decode(b"", 5000).unwrap().key_count(), 0);
    }

    #[test]
    fn joins_visited_countries_with_commas() {
        let batch = decode(b"\x0a\x08\x2a\x02FR\x2a\x02IT\x0a\x00", 5).unwrap();
        let joined = |batch: &DecodedBatch<'_>, at: usize| {
            let countries = batch.visited(&batch.keys()[at]);
            countries.joined().into_owned()
        };
        assert_eq!([joined(&batch, 0), joined(&batch, 1)], ["FR,IT", ""]);
        let batch = decode(b"\x0a\x06\x2a\x00\x2a\x02FR", 5).unwrap();
        assert_eq!(joined(&batch, 0), ",FR");
    }

    /// A key with this many visited countries of two letters, then others.
    fn body_with_countries(count: usize, others: &[u8]) -> Vec<u8> {
        let mut message = b"\x2a\x02FR".repeat(count);
        message.extend_from_slice(others);
        let mut body = vec![0x0a];
        let mut writer = quick_protobuf::Writer::new(&mut body);
        writer.write_bytes(&message).unwrap();
        body
    }

    #[test]
    fn bounds_the_visited_countries_of_a_key_joined_with_commas() {
        // 96 of two letters are 287 characters, joined with 95 commas.
        for (body, has_too_many) in [
            (body_with_countries(96, b""), false),
            (body_with_countries(97, b""), true),
            (body_with_countries(95, b"\x2a\x02FR"), false),
            (body_with_countries(95, b"\x2a\x03FRA"), true),
            (body_with_countries(96, b"\x2a\x00"), true),
            (body_with_countries(0, &b"\x2a\x00".repeat(288)), false),
            (body_with_countries(0, &b"\x2a\x00".repeat(289)), true),
        ] {
            let batch = decode(&body, 1).unwrap();
            assert_eq!(batch.keys()[0].has_too_many_countries(), has_too_many);
        }
    }

    #[test]
    fn stops_at_a_key_with_too_many_visited_countries() {
        let mut body = THREE.to_vec();
        // Nothing beyond the bound is read, neither in this key nor after it.
        body.extend(body_with_countries(97, b"\xff"));
        body.push(0xff);
        let batch = decode(&body, 5).unwrap();
        assert_eq!(batch.key_count(), 4);
        assert_eq!(
            [2, 3].map(|at| batch.keys()[at].has_too_many_countries()),
            [false, true]
        );
    }

    #[test]
    fn distinguishes_plain_countries_from_others() {
        for (country, expected) in [
            (" ~", true),
            ("de", true),
            ("D,", false),
            ("D\0", false),
            ("D\x1f", false),
            ("\x7fE", false),
            ("é", false),
        ] {
            let field = [b"\x2a\x02", country.as_bytes()].concat();
            let body = body_with_countries(0, &field);
            assert_eq!(
                decode(&body, 1).unwrap().keys()[0].has_plain_countries,
                expected,
                "{country:?}"
            );
        }
    }

    /// A key with every field, as protobuf libraries write it.
    const KEY: &[u8] = b"\x0a\x02xy\x10\xa0\x85\xa5\x01\x18\x90\x01\x20\x03\x2a\x02FR\x2a\x02IT\
        \x32\x02DE\x38\x01\x40\x05";
    fn body_of(message: &[u8]) -> Vec<u8> {
        let length = u8::try_from(message.len()).unwrap();
        [&[0x0a, length], message].concat()
    }

    /// Whether the body counts as our own, which must mean that it is what we would write.
    fn is_ours(body: &[u8]) -> bool {
        let batch = decode(body, 5).unwrap();
        assert_eq!(batch.encode_segment(), batch.encode_keys(), "{body:x?}");
        batch.segment.is_some()
    }

    #[test]
    fn takes_a_body_for_its_segment_only_if_it_would_write_the_same() {
        assert!(is_ours(b""));
        assert!(is_ours(THREE));
        assert!(is_ours(&body_of(KEY)));
        assert!(is_ours(&body_of(b"\x20\xff\xff\xff\xff\x07")));
        let foreign: [&[u8]; 18] = [
            b"\x32\x02DE\x0a\x02xy",
            b"\x20\x01\x20\x02",
            b"\x2a\x02FR\x32\x02DE\x2a\x02IT",
            b"\x20\x00",
            b"\x20\x80\x00",
            b"\x20\x81\x00",
            b"\x20\xff\xff\xff\xff\x0f",
            b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x10\xff\xff\xff\xff\x0f",
            b"\x10\x81\x80\x80\x80\x80\x01",
            b"\x0a\x00",
            b"\x0a\x82\x00xy",
            b"\x8a\x00\x02xy",
            b"\x2a\x00",
            b"\x2a\x03F,R",
            b"\x2a\x02\xc3\x89",
            b"\x48\x01",
        ];
        for message in foreign {
            assert!(!is_ours(&body_of(message)), "{message:x?}");
        }
        for around in [&b"\x0a\x84\x00\x32\x02DE"[..], b"\x10\x01", b"\x8a\x00\x00"] {
            assert!(!is_ours(around), "{around:x?}");
        }
    }
}
