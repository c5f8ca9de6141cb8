//! Hostile bytes: seeded mutations of the test vectors, fed to everything that reads what others
//! sent. No panic, output bounded by the input, and nothing verifies that was not signed.
//!
//! Each test runs for two seconds; `EFGS_FUZZ_SECONDS` says otherwise, `EFGS_SEED` chooses another
//! seed. A failure prints the line that runs the one input again. What each input is fed to, and
//! what must hold, is in `fuzz/src/lib.rs`, which cargo-fuzz uses, too.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::domain::{CertificateKind, Country, Thumbprint, UnixMillis};
use engine::trust::{CertificateRow, Trust, TrustAnchor};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[path = "../fuzz/src/lib.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a crate of its own for the fuzz targets"
)]
mod entries;

use entries::SignedUpload;

/// Time limit per input: the slowest takes a quarter of a second on a busy machine, while work that
/// is quadratic in the input takes many.
const SOON: Duration = Duration::from_secs(2);
/// How often an input that took longer is retried: the machine may have been suspended.
const SECOND_CHANCES: u32 = 1;

/// Longest input, in bytes. Real bodies are longer, but only repeat the same structure.
const INPUT_BYTES_MAX: usize = 64 << 10;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors")
}

fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(path: &Path) -> String {
    String::from_utf8(bytes(path)).unwrap()
}

/// All files with that name in the folders of the cases.
fn case_files(name: &str) -> Vec<Vec<u8>> {
    let files = cases().into_iter().map(|case| case.join(name));
    let found: Vec<_> = files.filter(|file| file.exists()).collect();
    assert!(found.len() > 100, "the vectors hold {name}");
    found.iter().map(|file| bytes(file)).collect()
}

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).unwrap();
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.join("case.json").exists());
    folders.sort();
    folders
}

/// All files of a folder with that ending.
fn files(folder: &Path, ending: &str) -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths.extend(files(&path, ending));
        } else if path.extension().is_some_and(|found| found == ending) {
            paths.push(bytes(&path));
        }
    }
    paths.sort();
    paths
}

/// The whole certificate list of the vectors.
fn registry() -> Trust {
    let pki = folder().join("pki");
    let registry: Value = serde_json::from_slice(&bytes(&pki.join("registry.json"))).unwrap();
    let anchor = text(&pki.join(registry["trust_anchor"].as_str().unwrap()));
    let row = |row: &Value| {
        let field = |name: &str| row[name].as_str().unwrap();
        CertificateRow {
            thumbprint: Thumbprint::parse_hex(field("thumbprint")).unwrap(),
            country: Country::parse(field("country")).unwrap(),
            kind: CertificateKind::from_name(field("type")).unwrap(),
            pem: text(&pki.join(field("certificate"))).into(),
            operator_signature: text(&pki.join(field("signature"))).into(),
            revoked_at: row["revoked"].as_bool().unwrap().then_some(UnixMillis(1)),
        }
    };
    let rows = registry["certificates"].as_array().unwrap().iter().map(row);
    Trust::load(rows, &TrustAnchor::from_pem(&anchor).unwrap(), None)
}

/// The cases that every implementation has to accept.
fn signed_uploads() -> Vec<SignedUpload> {
    let accepted = cases().into_iter().filter_map(|case| {
        let fields: Value = serde_json::from_slice(&bytes(&case.join("case.json"))).unwrap();
        let sound = fields["expected"] == "accept" && fields["policy"] == false;
        sound.then(|| SignedUpload {
            body: bytes(&case.join("batch.pb")),
            header: text(&case.join("signature.b64")),
            now: millis(fields["verification_time"].as_str().unwrap()),
        })
    });
    let accepted: Vec<_> = accepted.collect();
    assert!(accepted.len() > 50, "the vectors hold signatures");
    accepted
}

fn millis(time: &str) -> UnixMillis {
    let seconds = OffsetDateTime::parse(time, &Rfc3339)
        .unwrap()
        .unix_timestamp();
    UnixMillis(u64::try_from(seconds).unwrap() * 1000)
}

/// Special values for mutations: where parsers tend to fail.
type Dictionary = &'static [&'static [u8]];

const PROTOBUF: Dictionary = &[
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

const JSON: Dictionary = &[
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

const BER: Dictionary = &[
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

const TEXT: Dictionary = &[
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
fn mutate(random: &mut ChaCha8Rng, seeds: &[Vec<u8>], dictionary: Dictionary) -> Vec<u8> {
    let mut input = pick(random, seeds).clone();
    for _ in 0..random.random_range(1..=6) {
        change(random, &mut input, seeds, dictionary);
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

/// Length of a list that exposes quadratic work: linear work takes a fifth of a second.
const LONG_BYTES: usize = 256 << 10;

/// Duplicates an item of a comma-separated list in place, so that the list stays valid.
fn grow_list(random: &mut ChaCha8Rng, input: &mut Vec<u8>) {
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
fn grow_keys(random: &mut ChaCha8Rng, input: &mut Vec<u8>) {
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

fn pick<'s, T>(random: &mut ChaCha8Rng, from: &'s [T]) -> &'s T {
    &from[random.random_range(0..from.len())]
}

/// A range of positions, mostly short.
fn range(random: &mut ChaCha8Rng, length: usize) -> std::ops::Range<usize> {
    let start = random.random_range(0..=length);
    let longest = if random.random_ratio(3, 4) {
        16
    } else {
        length
    };
    let end = start + random.random_range(0..=longest);
    start..end.min(length)
}

fn change(random: &mut ChaCha8Rng, input: &mut Vec<u8>, seeds: &[Vec<u8>], dictionary: Dictionary) {
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

/// Duration, seed and inputs of a run.
struct Plan {
    seconds: u64,
    seed: u64,
    only: Option<u64>,
}

impl Plan {
    fn read() -> Self {
        let number = |name: &str| {
            let value = std::env::var(name).ok()?;
            Some(
                value
                    .parse()
                    .unwrap_or_else(|_| panic!("{name} is a number")),
            )
        };
        Self {
            seconds: number("EFGS_FUZZ_SECONDS").unwrap_or(2),
            seed: number("EFGS_SEED").unwrap_or(1),
            only: number("EFGS_FUZZ_INPUT"),
        }
    }
}

/// Prints how to repeat an input that caused a panic.
struct Replay<'a> {
    test: &'a str,
    seed: u64,
    number: u64,
}

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { test, seed, number } = self;
            let again = format!("EFGS_SEED={seed} EFGS_FUZZ_INPUT={number}");
            eprintln!("again: {again} cargo test --test hostile_bytes {test}");
        }
    }
}

/// Runs inputs, each from a random stream of its own, for the planned time.
fn fuzz(test: &str, mut run: impl FnMut(&mut ChaCha8Rng)) {
    let Plan {
        seconds,
        seed,
        only,
    } = Plan::read();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut number = only.unwrap_or(0);
    let mut slowest = Duration::ZERO;
    loop {
        let _replay = Replay { test, seed, number };
        let mut time = || {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(number);
            let begun = Instant::now();
            run(&mut random);
            begun.elapsed()
        };
        let took = time();
        if took > SOON {
            let again = (0..SECOND_CHANCES).map(|_| time()).min();
            let least = again.map_or(took, |again| again.min(took));
            assert!(least <= SOON, "an input takes {least:?}");
        }
        slowest = slowest.max(took);
        number += 1;
        if only.is_some() || Instant::now() >= until {
            break;
        }
    }
    // Past the capture of the test harness.
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "hostile bytes: {test}: {number} inputs from seed {seed}, slowest {slowest:?}"
    )
    .unwrap();
}

#[test]
fn survives_protobuf_bodies() {
    let mut seeds = case_files("batch.pb");
    seeds.extend(files(&folder().join("protobuf-malformed"), "bin"));
    fuzz("survives_protobuf_bodies", |random| {
        entries::protobuf_body(&mutate(random, &seeds, PROTOBUF));
    });
}

#[test]
fn survives_json_bodies() {
    let seeds = case_files("batch.json");
    fuzz("survives_json_bodies", |random| {
        entries::json_body(&mutate(random, &seeds, JSON));
    });
}

#[test]
fn works_in_proportion_to_a_long_list() {
    let (json, protobuf) = (case_files("batch.json"), case_files("batch.pb"));
    fuzz("works_in_proportion_to_a_long_list", |random| {
        if random.random_bool(0.5) {
            let mut body = pick(random, &json).clone();
            grow_list(random, &mut body);
            entries::json_body(&body);
        } else {
            let mut body = pick(random, &protobuf).clone();
            grow_keys(random, &mut body);
            entries::protobuf_body(&body);
        }
    });
}

#[test]
fn accepts_no_signature_whose_signed_parts_changed() {
    let (trust, samples) = (registry(), signed_uploads());
    let decode = |sample: &SignedUpload| STANDARD.decode(&sample.header).unwrap_or_default();
    let seeds: Vec<_> = samples.iter().map(decode).collect();
    fuzz(
        "accepts_no_signature_whose_signed_parts_changed",
        |random| {
            let at = random.random_range(0..samples.len());
            // Splices come from all signatures, the rest is this one's.
            let mut message = seeds[at].clone();
            for _ in 0..random.random_range(1..=3) {
                change(random, &mut message, &seeds, BER);
            }
            let header = STANDARD.encode(&message);
            entries::batch_signature(&trust, &samples[at], &header);
        },
    );
}

#[test]
fn survives_text_in_place_of_base64() {
    let (trust, samples) = (registry(), signed_uploads());
    let header = |sample: &SignedUpload| sample.header.clone().into_bytes();
    let seeds: Vec<_> = samples.iter().map(header).collect();
    fuzz("survives_text_in_place_of_base64", |random| {
        let at = random.random_range(0..samples.len());
        let mut header = seeds[at].clone();
        change(random, &mut header, &seeds, TEXT);
        entries::batch_signature(&trust, &samples[at], &String::from_utf8_lossy(&header));
    });
}

#[test]
fn accepts_a_signature_only_for_the_signed_keys() {
    let (trust, samples) = (registry(), signed_uploads());
    let bodies: Vec<_> = samples.iter().map(|sample| sample.body.clone()).collect();
    fuzz("accepts_a_signature_only_for_the_signed_keys", |random| {
        let at = random.random_range(0..samples.len());
        let mut body = bodies[at].clone();
        change(random, &mut body, &bodies, PROTOBUF);
        entries::signed_body(&trust, &samples[at], &body);
    });
}

#[test]
fn survives_certificates() {
    let (anchor, row) = entries::sample_certificate();
    let pem = files(&folder().join("pki"), "pem");
    let contents = |pem: &Vec<u8>| pem::parse(pem).map(pem::Pem::into_contents).ok();
    let der: Vec<_> = pem.iter().filter_map(contents).collect();
    assert!(der.len() > 30, "the vectors hold certificates");
    let listed = [row.pem.as_bytes().to_vec()];
    fuzz("survives_certificates", |random| {
        let input = match random.random_range(0..4) {
            0 => mutate(random, &listed, TEXT),
            1 => mutate(random, &pem, TEXT),
            _ => mutate(random, &der, BER),
        };
        entries::certificate(&anchor, &row, &input);
    });
}

#[test]
fn survives_tags_and_dates() {
    let seeds: Vec<_> = [
        "2020-10-06",
        "2020-10-06+02:00",
        "2024-02-29Z",
        "20201006-17",
        "20201006",
        "DE",
        "2020-10-5-Ab+/==-1",
        "5de1809c416802b51df9e57fb38adba9f1408d807e2ede3c5d4d8bd8ffaa28aa",
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec();
    fuzz("survives_tags_and_dates", |random| {
        let input = mutate(random, &seeds, TEXT);
        entries::short_text(&String::from_utf8_lossy(&input));
    });
}
