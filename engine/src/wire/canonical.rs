//! Canonical text and its order (wire behaviour §9): what a batch signature covers, and what makes
//! the identity of a key.
//!
//! Per key: eight fields in base64, each followed by a dot. Per batch: the texts ordered by *their*
//! base64, which is not their own order, since ASCII puts digits before letters and base64 after.
//!
//! Cost on paper: a text takes about 100 bytes, so 5000 keys fill half a megabyte, written once,
//! gathered once. The order is decided by a 60-bit integer a key, ties aside.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::decode::{DecodedBatch, DecodedKey};

/// The canonical texts of a batch, in request order, and the order in which they are signed.
pub struct CanonicalBytes {
    text: Vec<u8>,
    /// End of each key's text; the next one begins there.
    ends: Vec<u32>,
    /// Positions in the request, in signing order.
    order: Vec<u32>,
}

impl CanonicalBytes {
    /// Writes the texts of all keys and orders them.
    pub fn of(batch: &DecodedBatch<'_>) -> Self {
        let keys = batch.keys();
        let mut text = Vec::with_capacity(keys.len() * 128);
        let mut ends = Vec::with_capacity(keys.len());
        let ascii = batch.is_ascii();
        for key in keys {
            write_text(&mut text, key, batch.visited(key), ascii);
            ends.push(u32::try_from(text.len()).expect("a body has at most 8 MiB"));
        }
        let mut canonical = Self {
            text,
            ends,
            order: Vec::new(),
        };
        canonical.order = signing_order(&canonical);
        canonical
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.ends.len()
    }

    /// The text of the key at a position of the request.
    pub fn key(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start as usize..self.ends[index] as usize]
    }

    /// Positions in the request, in signing order; equal keys keep their request order.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// The texts in signing order, one after the other: the signed bytes.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut signed = Vec::with_capacity(self.text.len());
        for &index in &self.order {
            signed.extend_from_slice(self.key(index as usize));
        }
        signed
    }
}

/// Does not show key data.
impl std::fmt::Debug for CanonicalBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CanonicalBytes")
            .field("key_count", &self.ends.len())
            .finish_non_exhaustive()
    }
}

fn write_text(out: &mut Vec<u8>, key: &DecodedKey<'_>, visited: &str, ascii: bool) {
    let fields = &key.fields;
    push_base64(out, fields.key_data);
    push_number(out, fields.rolling_start);
    push_number(out, fields.rolling_period);
    push_number(out, fields.risk_level.cast_unsigned());
    if ascii {
        push_base64(out, visited.as_bytes());
        push_base64(out, fields.origin.as_bytes());
    } else {
        push_base64(out, &question_marks(visited));
        push_base64(out, &question_marks(fields.origin));
    }
    push_number(out, fields.report_type.cast_unsigned());
    push_number(out, fields.days_since_onset.cast_unsigned());
}

/// What the JDK's US-ASCII encoder does: one question mark per character beyond ASCII.
fn question_marks(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(c).ok().filter(u8::is_ascii).unwrap_or(b'?'))
        .collect()
}

fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    let encoded = bytes.len().div_ceil(3) * 4;
    out.resize(start + encoded + 1, b'.');
    STANDARD
        .encode_slice(bytes, &mut out[start..start + encoded])
        .expect("the space is exact");
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Four bytes, big-endian, in base64 with its dot: nine characters.
fn push_number(out: &mut Vec<u8>, number: u32) {
    let digit = |shift: u32| ALPHABET[(number >> shift & 63) as usize];
    let last = ALPHABET[((number & 3) << 4) as usize];
    out.extend_from_slice(&[
        digit(26),
        digit(20),
        digit(14),
        digit(8),
        digit(2),
        last,
        b'=',
        b'=',
        b'.',
    ]);
}

/// The order by base64 of the texts: by an integer first, by the whole texts on a tie.
fn signing_order(canonical: &CanonicalBytes) -> Vec<u32> {
    let mut keyed: Vec<(u64, u32)> = (0u32..)
        .zip(0..canonical.key_count())
        .map(|(index, at)| (order_prefix(canonical.key(at)), index))
        .collect();
    keyed.sort_unstable_by(|a, b| {
        a.0.cmp(&b.0).then_with(|| {
            let whole = |index: u32| STANDARD.encode(canonical.key(index as usize));
            whole(a.1).cmp(&whole(b.1)).then(a.1.cmp(&b.1))
        })
    });
    keyed.into_iter().map(|(_, index)| index).collect()
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

/// The first ten base64 characters of a text, as an integer that sorts as they do. A text has 45
/// characters at the least (five numbers of nine).
fn order_prefix(text: &[u8]) -> u64 {
    let first: [u8; 8] = text[..8]
        .try_into()
        .expect("a text has at least 45 characters");
    let bits = u64::from_be_bytes(first);
    let pair = |shift: u32| u64::from(PAIR_RANKS[(bits >> shift & 0xfff) as usize]);
    pair(52) << 48 | pair(40) << 36 | pair(28) << 24 | pair(16) << 12 | pair(4)
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
