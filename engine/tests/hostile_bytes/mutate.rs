//! Seeded mutations of valid inputs.

use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;

/// Longest input, in bytes. Real bodies are longer, but only repeat the same structure.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// Special values for mutations: where parsers tend to fail.
pub(crate) type Dictionary = &'static [&'static [u8]];

pub(crate) const PROTOBUF: Dictionary = &[
    b"\x0a\x00",
    b"\x0a\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
    b"\x0b",
    b"\x0c",
    b"\x83\x01\x84\x01",
    b"\x2a\x03A,B",
    b"\x2a\x00",
    b"\x2a\x02\xc3\x89",
    b"\x2a\x02\xff\xfe",
    b"\x20\xff\xff\xff\xff\x0f",
    b"\x38\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
];

pub(crate) const JSON: Dictionary = &[
    b"{\"keys\":[",
    b"[",
    b"{",
    b"]}",
    b"null",
    b"\"\\ud800\"",
    b"\"\\u0000\"",
    b"\\u0041",
    b"\\/",
    b"\\",
    b"\"a\":{\"b\":[",
    b"\"keyData\":\"q83v\",",
    b"\"KeyData\":0,",
    b"1e400",
    b"-0",
    b"9223372036854775808",
    b"\"-1\"",
    b"\"keyData\":\"",
    b"\"visitedCountries\":[\"A,B\",\"\"],",
    b"\"origin\":\"\xc3\x89\",",
    b"\"reportType\":\"RECURSIVE\",",
    b"\"reportType\":-7,",
    b"\"days_since_onset_of_symptoms\":-2147483648,",
    b"\xff",
];

pub(crate) const BER: Dictionary = &[
    b"\x30\x80",
    b"\x00\x00",
    b"\x24\x80\x04",
    b"\x30\x84\xff\xff\xff\xff",
    b"\x30\x88\x00\x00\x00\x00\x00\x00\x00\x03",
    b"\xa0\x03\x02\x01\x00",
    b"\x05\x00",
    b"\x1f\xff\xff\xff\x7f",
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a",
    b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03",
    b"\x06\x05\x2b\x0e\x03\x02\x1a",
    b"\x02\x01\xff",
    b"\x31\x00",
];

pub(crate) const TEXT: Dictionary = &[
    b"-----BEGIN CERTIFICATE-----\n",
    b"-----END CERTIFICATE-----\n",
    b"-----BEGIN",
    b"=",
    b"==",
    b"\n",
    b"\x00",
    b"\xc3\x89",
    b"\xff",
    b"9999-12-31",
    b"2020-02-30",
    b"4294967295",
    b"4294967296",
    b"20201006-",
    b"+23:59",
    b"-0",
    b"-00000001",
    b"18446744073709551616",
];

/// One to six changes.
pub(crate) fn mutate(
    random: &mut ChaCha8Rng,
    seeds: &[Vec<u8>],
    dictionary: Dictionary,
) -> Vec<u8> {
    let mut input = pick(random, seeds).clone();
    for _ in 0..random.random_range(1..=6) {
        change(random, &mut input, seeds, dictionary);
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

/// Length of a list that exposes quadratic work: linear work takes a fifth of a second.
pub(crate) const LONG_BYTES: usize = 256 << 10;

/// Duplicates an item of a comma-separated list in place, so that the list stays valid.
pub(crate) fn grow_list(random: &mut ChaCha8Rng, input: &mut Vec<u8>) {
    let commas: Vec<_> = (0..input.len()).filter(|&at| input[at] == b',').collect();
    if commas.len() < 2 {
        return;
    }
    let at = random.random_range(0..commas.len() - 1);
    let item = input[commas[at]..commas[at + 1]].to_vec();
    let place = commas[at + 1]..commas[at + 1];
    input.splice(place, item.into_iter().cycle().take(LONG_BYTES));
}

/// Repeats a field within the first key of a body and makes the key's length fit; or a key.
pub(crate) fn grow_keys(random: &mut ChaCha8Rng, input: &mut Vec<u8>) {
    const FIELDS: [&[u8]; 5] = [
        b"\x2a\x02DE",
        b"\x2a\x00",
        b"\x32\x02DE",
        b"\x7b\x7c",
        b"\x18\x01",
    ];
    let [0x0a, length @ 0..0x80, rest @ ..] = input.as_slice() else {
        return;
    };
    let Some((key, behind)) = rest.split_at_checked(usize::from(*length)) else {
        return;
    };
    let field = pick(random, &FIELDS);
    let key = [key, &field.repeat(LONG_BYTES / field.len())].concat();
    let low = |shift: u32| u8::try_from(key.len() >> shift & 0x7f).unwrap();
    let length = [low(0) | 0x80, low(7) | 0x80, low(14) | 0x80, low(21)];
    *input = [&[0x0a], &length[..], &key, behind].concat();
}

pub(crate) fn pick<'s, T>(random: &mut ChaCha8Rng, from: &'s [T]) -> &'s T {
    &from[random.random_range(0..from.len())]
}

/// A range of positions, mostly short.
pub(crate) fn range(random: &mut ChaCha8Rng, length: usize) -> std::ops::Range<usize> {
    let start = random.random_range(0..=length);
    let longest = if random.random_ratio(3, 4) {
        16
    } else {
        length
    };
    let end = start + random.random_range(0..=longest);
    start..end.min(length)
}

pub(crate) fn change(
    random: &mut ChaCha8Rng,
    input: &mut Vec<u8>,
    seeds: &[Vec<u8>],
    dictionary: Dictionary,
) {
    let place = range(random, input.len());
    match random.random_range(0..9) {
        0 | 1 if !place.is_empty() => input[place.start] ^= 1 << random.random_range(0..8),
        2 if !place.is_empty() => input[place.start] = *pick(random, &[0, 1, 0x7f, 0x80, 0xff]),
        3 => random.fill_bytes(&mut input[place]),
        4 => drop(input.drain(place)),
        5 => {
            let copy = input[place.clone()].to_vec();
            input.splice(place.end..place.end, copy);
        }
        6 => {
            let other = pick(random, seeds);
            let part = other[range(random, other.len())].to_vec();
            input.splice(place, part);
        }
        7 => {
            let times = if random.random_ratio(1, 16) { 3000 } else { 1 };
            let token = pick(random, dictionary).repeat(times);
            input.splice(place, token);
        }
        8 if random.random_ratio(1, 8) => input.truncate(place.start),
        _ => {
            let mut token = vec![0; random.random_range(1..=4)];
            random.fill_bytes(&mut token);
            input.splice(place.start..place.start, token);
        }
    }
}
