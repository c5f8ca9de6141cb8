//! Canonical text and its order (wire §9): what a batch signature covers, and what makes
//! the identity of a key.
//!
//! Per key: eight fields in base64, each followed by a dot. Per batch: the texts ordered by *their*
//! base64, which is not their own order, since ASCII puts digits before letters and base64 after.
//!
//! Cost on paper: a text takes about 100 bytes, so 5000 keys fill half a megabyte. The order is
//! known from the key data before anything is written, ties aside; so the texts are written once,
//! in their order, into one buffer of just that size.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::decode::{DecodedBatch, DecodedKey, VisitedCountries};
use crate::wire::protobuf::{KeyFields, TwoLetterCountries};

/// The canonical texts of a batch, and the order in which they are signed.
pub struct CanonicalBytes {
    /// All texts, in signing order.
    text: Vec<u8>,
    /// Where each key's text is, in request order.
    places: Vec<Range<usize>>,
    /// Positions in the request, in signing order.
    order: Vec<u32>,
}

impl CanonicalBytes {
    /// Orders the keys and writes their texts.
    pub fn of(batch: &DecodedBatch<'_>) -> Self {
        let order = signing_order(batch);
        let mut text = Vec::with_capacity(order.len() * TEXT_BYTES);
        let mut places = vec![0..0; order.len()];
        for &index in &order {
            let start = text.len();
            push_text(&mut text, batch, &batch.keys()[index as usize]);
            places[index as usize] = start..text.len();
        }
        Self {
            text,
            places,
            order,
        }
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.order.len()
    }

    /// The text of the key at a position of the request.
    pub fn key(&self, index: usize) -> &[u8] {
        &self.text[self.places[index].clone()]
    }

    /// The texts in signing order, one after the other: the signed bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// A copy of the signed bytes.
    pub fn signed_bytes(&self) -> Vec<u8> {
        self.text.clone()
    }

    /// Positions in the request, in signing order; equal keys keep their request order.
    pub fn order(&self) -> &[u32] {
        &self.order
    }
}

/// Does not show key data.
impl std::fmt::Debug for CanonicalBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CanonicalBytes")
            .field("key_count", &self.order.len())
            .finish_non_exhaustive()
    }
}

/// Room for a text: enough for twelve countries.
const TEXT_BYTES: usize = 128;

/// Appends the text of a key.
fn push_text(out: &mut Vec<u8>, batch: &DecodedBatch<'_>, key: &DecodedKey<'_>) {
    let fields = &key.fields;
    let key_data = <&[u8; 16]>::try_from(fields.key_data);
    match (key_data, batch.visited(key), fields.origin.as_bytes()) {
        (Ok(key_data), VisitedCountries::TwoLetters(visited), &[a, b])
            if fields.origin.is_ascii() =>
        {
            push_usual_text(out, fields, key_data, visited, [a, b]);
        }
        (_, visited, _) => push_any_text(out, fields, &visited.joined()),
    }
}

/// The text of a key that is as nearly all keys are.
fn push_usual_text(
    out: &mut Vec<u8>,
    fields: &KeyFields<'_>,
    key_data: &[u8; 16],
    visited: TwoLetterCountries<'_>,
    origin: [u8; 2],
) {
    out.extend_from_slice(&key_data_text(key_data));
    let numbers = [
        fields.rolling_start,
        fields.rolling_period,
        fields.risk_level.cast_unsigned(),
    ];
    out.extend_from_slice(numbers.map(number_text).as_flattened());
    // Two letters and a comma are one quantum of base64; no comma follows the last country.
    let mut visited = visited.iter();
    let last = visited.next_back();
    for [a, b] in visited {
        out.extend_from_slice(&quantum(a, b, b','));
    }
    match last {
        Some(last) => out.extend_from_slice(&letters_text(last)),
        None => out.push(b'.'),
    }
    out.extend_from_slice(&letters_text(origin));
    let numbers = [
        fields.report_type.cast_unsigned(),
        fields.days_since_onset.cast_unsigned(),
    ];
    out.extend_from_slice(numbers.map(number_text).as_flattened());
}

/// The text of any key, without assuming 16 bytes of data or two-letter countries.
fn push_any_text(out: &mut Vec<u8>, fields: &KeyFields<'_>, visited: &str) {
    let push_base64 = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
        out.push(b'.');
    };
    push_base64(out, fields.key_data);
    push_base64(out, &fields.rolling_start.to_be_bytes());
    push_base64(out, &fields.rolling_period.to_be_bytes());
    push_base64(out, &fields.risk_level.to_be_bytes());
    push_base64(out, &ascii(visited));
    push_base64(out, &ascii(fields.origin));
    push_base64(out, &fields.report_type.to_be_bytes());
    push_base64(out, &fields.days_since_onset.to_be_bytes());
}

/// What the JDK's US-ASCII encoder does: one question mark per character beyond ASCII.
fn ascii(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(c).ok().filter(u8::is_ascii).unwrap_or(b'?'))
        .collect()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Two base64 characters for each 12 bits.
static PAIRS: [[u8; 2]; 4096] = pairs();

const fn pairs() -> [[u8; 2]; 4096] {
    let mut pairs = [[0; 2]; 4096];
    let mut bits = 0;
    while bits < 4096 {
        pairs[bits] = [ALPHABET[bits >> 6], ALPHABET[bits & 63]];
        bits += 1;
    }
    pairs
}

/// The base64 characters of the low twelve bits.
#[inline]
fn pair(bits: u32) -> [u8; 2] {
    PAIRS[(bits & 0xfff) as usize]
}

/// Three bytes in base64.
#[inline]
fn quantum(a: u8, b: u8, c: u8) -> [u8; 4] {
    let bits = u32::from_be_bytes([0, a, b, c]);
    let ([w, x], [y, z]) = (pair(bits >> 12), pair(bits));
    [w, x, y, z]
}

/// 16 bytes in base64, with their dot.
#[inline]
fn key_data_text(data: &[u8; 16]) -> [u8; 25] {
    let mut text = [b'='; 25];
    let (quanta, dot) = text.as_chunks_mut::<4>();
    let (whole, rest) = data.as_chunks::<3>();
    for (place, &[a, b, c]) in quanta.iter_mut().zip(whole) {
        *place = quantum(a, b, c);
    }
    [quanta[5][0], quanta[5][1]] = pair(u32::from(rest[0]) << 4);
    dot[0] = b'.';
    text
}

/// Two letters in base64, with their dot.
#[inline]
fn letters_text([a, b]: [u8; 2]) -> [u8; 5] {
    let [w, x, y, _] = quantum(a, b, 0);
    [w, x, y, b'=', b'.']
}

/// Four bytes, big-endian, in base64 with their dot.
#[inline]
fn number_text(number: u32) -> [u8; 9] {
    let ([a, b], [c, d], [e, f]) = (pair(number >> 20), pair(number >> 8), pair(number << 4));
    [a, b, c, d, e, f, b'=', b'=', b'.']
}

/// The order by base64 of the texts: by an integer first, by the whole texts on a tie.
fn signing_order(batch: &DecodedBatch<'_>) -> Vec<u32> {
    // One integer per key: as much of the prefix as fits, then the position.
    let index_bits = u64::BITS - (batch.keys().len() as u64).leading_zeros();
    let index_mask = !(u64::MAX << index_bits);
    let prefixes = batch.keys().iter().map(|key| order_prefix(batch, key));
    let packed = (0u64..)
        .zip(prefixes)
        .map(|(index, prefix)| prefix & !index_mask | index);
    let mut packed: Vec<u64> = packed.collect();
    packed.sort_unstable();
    let same_prefix = |a: &u64, b: &u64| (a ^ b) & !index_mask == 0;
    for tie in packed.chunk_by_mut(same_prefix).filter(|tie| tie.len() > 1) {
        // A stable sort: equal keys keep their request order.
        tie.sort_by_cached_key(|key| {
            let index = position(key & index_mask);
            STANDARD.encode(text_of(batch, &batch.keys()[index as usize]))
        });
    }
    packed
        .iter()
        .map(|key| position(key & index_mask))
        .collect()
}

fn position(index: u64) -> u32 {
    u32::try_from(index).expect("decode counts keys with 32 bits")
}

fn text_of(batch: &DecodedBatch<'_>, key: &DecodedKey<'_>) -> Vec<u8> {
    let mut text = Vec::with_capacity(TEXT_BYTES);
    push_text(&mut text, batch, key);
    text
}

/// Rank in ASCII of each base64 character pair: maps 12 bits of text to 12 bits that sort alike.
static PAIR_RANKS: [u16; 4096] = pair_ranks();

const fn pair_ranks() -> [u16; 4096] {
    let mut ranks = [0; 4096];
    let mut pair = 0;
    while pair < 4096 {
        ranks[pair] = rank(ALPHABET[pair >> 6]) << 6 | rank(ALPHABET[pair & 63]);
        pair += 1;
    }
    ranks
}

/// Position of a base64 character among all of them in ASCII order: `+ / 0-9 A-Z a-z`.
const fn rank(character: u8) -> u16 {
    match character {
        b'+' => 0,
        b'/' => 1,
        b'0'..=b'9' => (character - b'0') as u16 + 2,
        b'A'..=b'Z' => (character - b'A') as u16 + 12,
        _ => (character - b'a') as u16 + 38,
    }
}

/// The first ten base64 characters of a key's text, as an integer that sorts as they do; in its
/// high bits.
fn order_prefix(batch: &DecodedBatch<'_>, key: &DecodedKey<'_>) -> u64 {
    let first = match *key.fields.key_data {
        // Six bytes make the first eight characters.
        [a, b, c, d, e, f, ..] => {
            let ([a, b, c, d], [e, f, g, h]) = (quantum(a, b, c), quantum(d, e, f));
            u64::from_be_bytes([a, b, c, d, e, f, g, h])
        }
        // Key data of fewer than six bytes is never valid, but has an order all the same.
        _ => {
            let text = text_of(batch, key);
            let first = text.first_chunk().expect("five numbers have 45 characters");
            u64::from_be_bytes(*first)
        }
    };
    let rank = |shift: u32| u64::from(PAIR_RANKS[(first >> shift & 0xfff) as usize]);
    rank(52) << 52 | rank(40) << 40 | rank(28) << 28 | rank(16) << 16 | rank(4) << 4
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decode::decode;
    use crate::wire::protobuf::{KeyFields, write_key};

    fn key_with_data(key_data: &[u8]) -> KeyFields<'_> {
        KeyFields {
            key_data,
            rolling_start: 2_670_576,
            rolling_period: 144,
            risk_level: 3,
            origin: "IE",
            report_type: 1,
            days_since_onset: 3,
        }
    }

    #[test]
    fn writes_the_example_of_the_protocol() {
        let data = STANDARD.decode("7MvIfktc4v4oMI/Z8qe68w==").unwrap();
        let key = KeyFields {
            rolling_start: 0x002d_a5f0,
            ..key_with_data(&data)
        };
        let mut body = Vec::new();
        write_key(&mut body, &key, ["AT", "BE"].into_iter());
        let canonical = CanonicalBytes::of(&decode(&body, 1).unwrap());
        let text =
            "7MvIfktc4v4oMI/Z8qe68w==.AC2l8A==.AAAAkA==.AAAAAw==.QVQsQkU=.SUU=.AAAAAQ==.AAAAAw==.";
        assert_eq!(String::from_utf8(canonical.signed_bytes()).unwrap(), text);
    }

    proptest! {
        #[test]
        fn writes_the_usual_key_as_it_writes_any(
            key_data: [u8; 16],
            rolling_start: u32, rolling_period: u32, risk_level: i32, report_type: i32,
            days_since_onset: i32, origin in "[ -~]{2}",
            countries in prop::collection::vec("[A-Z]{2}", 0..30),
        ) {
            let key = KeyFields {
                key_data: &key_data, rolling_start, rolling_period, risk_level,
                origin: &origin, report_type, days_since_onset,
            };
            let mut body = Vec::new();
            write_key(&mut body, &key, countries.iter().map(String::as_str));
            let canonical = CanonicalBytes::of(&decode(&body, 1).unwrap());
            let mut expected = Vec::new();
            push_any_text(&mut expected, &key, &countries.join(","));
            prop_assert_eq!(canonical.as_bytes(), expected);
        }

        /// The rule as the protocol states it, with strings.
        #[test]
        fn orders_as_sorting_base64_strings_does(
            keys in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..5), 0u32..3), 0..60)
        ) {
            let mut body = Vec::new();
            for (data, period) in &keys {
                let key = KeyFields { rolling_period: *period, ..key_with_data(data) };
                write_key(&mut body, &key, std::iter::empty());
            }
            let canonical = CanonicalBytes::of(&decode(&body, 100).unwrap());
            let mut expected: Vec<u32> = (0..).take(canonical.key_count()).collect();
            expected.sort_by_key(|&index| STANDARD.encode(canonical.key(index as usize)));
            prop_assert_eq!(canonical.order(), expected);
        }
    }
}
