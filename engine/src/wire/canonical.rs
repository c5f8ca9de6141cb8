//! Canonical text and its order (wire behaviour §9): what a batch signature covers, and what makes
//! the identity of a key.
//!
//! Per key: eight fields in base64, each followed by a dot. Per batch: the texts ordered by *their*
//! base64, which is not their own order, since ASCII puts digits before letters and base64 after.
//!
//! Cost on paper: a text takes about 100 bytes, so 5000 keys fill half a megabyte. The order is
//! known from the key data before anything is written, ties aside; so the texts are written once,
//! in their order, into one buffer of just that size.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::decode::{DecodedBatch, DecodedKey, VisitedCountries};
use crate::wire::protobuf::TwoLetterCountries;

/// The canonical texts of a batch, and the order in which they are signed.
pub struct CanonicalBytes {
    /// All texts, in signing order.
    text: Vec<u8>,
    /// Where the text of each key begins, in signing order, and where the last one ends.
    starts: Vec<usize>,
    /// Positions in the request, in signing order.
    order: Vec<u32>,
}

impl CanonicalBytes {
    /// Orders the keys and writes their texts.
    pub fn of(batch: &DecodedBatch<'_>) -> Self {
        let order = signing_order(batch);
        let bytes = batch.keys().iter().map(|key| text_bytes(batch, key)).sum();
        let mut text = vec![0; bytes];
        let mut starts = Vec::with_capacity(order.len() + 1);
        let mut rest = &mut text[..];
        for &index in &order {
            starts.push(bytes - rest.len());
            rest = put_text(rest, batch, &batch.keys()[index as usize]);
        }
        starts.push(bytes);
        Self {
            text,
            starts,
            order,
        }
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.order.len()
    }

    /// The texts in signing order, one after the other: the signed bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// A copy of the signed bytes.
    pub fn signed_bytes(&self) -> Vec<u8> {
        self.text.clone()
    }

    /// The keys in signing order: position in the request, and text.
    pub fn texts(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let places = self.starts.windows(2);
        let texts = places.map(|place| &self.text[place[0]..place[1]]);
        self.order.iter().copied().zip(texts)
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

/// Characters of a number, with its dot.
const NUMBER_BYTES: usize = 9;

/// Characters of some bytes, with their dot.
const fn base64_bytes(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4 + 1
}

fn text_bytes(batch: &DecodedBatch<'_>, key: &DecodedKey<'_>) -> usize {
    let countries = match batch.visited(key) {
        VisitedCountries::TwoLetters(countries) if key.has_plain_countries => {
            quanta_bytes(countries) + base64_bytes(key.fields.origin.len())
        }
        visited => {
            let (visited, origin) = (visited.joined(), key.fields.origin);
            base64_bytes(ascii(&visited).len()) + base64_bytes(ascii(origin).len())
        }
    };
    base64_bytes(key.fields.key_data.len()) + countries + 5 * NUMBER_BYTES
}

/// Writes a key's text to the beginning of `out`, gives the rest of it.
fn put_text<'o>(out: &'o mut [u8], batch: &DecodedBatch<'_>, key: &DecodedKey<'_>) -> &'o mut [u8] {
    let fields = &key.fields;
    let out = put_base64(out, fields.key_data);
    let out = put_number(out, fields.rolling_start);
    let out = put_number(out, fields.rolling_period);
    let out = put_number(out, fields.risk_level.cast_unsigned());
    let out = match batch.visited(key) {
        VisitedCountries::TwoLetters(countries) if key.has_plain_countries => {
            put_base64(put_quanta(out, countries), fields.origin.as_bytes())
        }
        visited => {
            let out = put_base64(out, &ascii(&visited.joined()));
            put_base64(out, &ascii(fields.origin))
        }
    };
    let out = put_number(out, fields.report_type.cast_unsigned());
    put_number(out, fields.days_since_onset.cast_unsigned())
}

/// What the JDK's US-ASCII encoder does: one question mark per character beyond ASCII.
fn ascii(text: &str) -> Cow<'_, [u8]> {
    if text.is_ascii() {
        return Cow::Borrowed(text.as_bytes());
    }
    text.chars()
        .map(|c| u8::try_from(c).ok().filter(u8::is_ascii).unwrap_or(b'?'))
        .collect()
}

/// Characters of countries that are joined with commas, with their dot: two letters and a comma are
/// one quantum of base64.
fn quanta_bytes(countries: TwoLetterCountries<'_>) -> usize {
    countries.iter().len() * 4 + 1
}

/// Countries, joined with commas, in base64 with their dot.
#[inline]
fn put_quanta<'o>(out: &'o mut [u8], countries: TwoLetterCountries<'_>) -> &'o mut [u8] {
    let (place, out) = out
        .split_at_mut_checked(quanta_bytes(countries))
        .expect(TEXT_SPACE);
    let (quanta, dot) = place.as_chunks_mut::<4>();
    for (place, [a, b]) in quanta.iter_mut().zip(countries.iter()) {
        *place = quantum(a, b, b',');
    }
    // No comma follows the last.
    if let (Some(place), Some([a, b])) = (quanta.last_mut(), countries.iter().last()) {
        *place = quantum(a, b, 0);
        place[3] = b'=';
    }
    dot.fill(b'.');
    out
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

const TEXT_SPACE: &str = "text_bytes counted what is written";

/// Bytes in base64, with their dot.
fn put_base64<'o>(out: &'o mut [u8], bytes: &[u8]) -> &'o mut [u8] {
    let (place, out) = out
        .split_at_mut_checked(base64_bytes(bytes.len()))
        .expect(TEXT_SPACE);
    let (whole, rest) = bytes.as_chunks::<3>();
    let (quanta, dot) = place.as_chunks_mut::<4>();
    for (place, &[a, b, c]) in quanta.iter_mut().zip(whole) {
        *place = quantum(a, b, c);
    }
    match (rest, quanta.last_mut()) {
        (&[a, b], Some(last)) => {
            *last = quantum(a, b, 0);
            last[3] = b'=';
        }
        (&[a], Some(last)) => {
            *last = quantum(a, 0, 0);
            [last[2], last[3]] = [b'='; 2];
        }
        _ => {}
    }
    dot.fill(b'.');
    out
}

/// Four bytes, big-endian, in base64 with its dot.
#[inline]
fn put_number(out: &mut [u8], number: u32) -> &mut [u8] {
    let (place, out) = out
        .split_first_chunk_mut::<NUMBER_BYTES>()
        .expect(TEXT_SPACE);
    let ([a, b], [c, d], [e, f]) = (pair(number >> 20), pair(number >> 8), pair(number << 4));
    *place = [a, b, c, d, e, f, b'=', b'=', b'.'];
    out
}

/// The order by base64 of the texts: by an integer first, by the whole texts on a tie.
fn signing_order(batch: &DecodedBatch<'_>) -> Vec<u32> {
    // One integer a key: as much of the prefix as there is room for, then the position.
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
    let mut text = vec![0; text_bytes(batch, key)];
    put_text(&mut text, batch, key);
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
        // Such a key is valid nowhere; it still has an order.
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
    use std::collections::HashMap;

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
            let texts: HashMap<u32, &[u8]> = canonical.texts().collect();
            let mut expected: Vec<u32> = (0..).take(canonical.key_count()).collect();
            expected.sort_by_key(|&index| STANDARD.encode(texts[&index]));
            prop_assert_eq!(canonical.order(), expected);
        }
    }
}
