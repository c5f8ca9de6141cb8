//! Hostile input in headers and query: names, media types and URLs, as seeded mutations of what
//! clients send and of special syntax. Nothing panics or takes quadratic time.
//! `tests/hostile_http` sends similar input through a socket, at a lower rate.
//!
//! Each test runs for two seconds; `EFGS_FUZZ_SECONDS` and `EFGS_SEED` override that.

#[path = "../../tests/hostile_http/pieces.rs"]
mod pieces;

use std::time::{Duration, Instant};

use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use pieces::PIECES;

/// Longest text: the bound of all headers together.
const BYTES_MAX: usize = 64 << 10;
/// Time limit per text; exceeded only when it is twice in a row.
const TIME_MAX: Duration = Duration::from_secs(1);

const NAMES: &[&[u8]] = &[
    b"C=DE,O=Robert Koch-Institut,CN=efgs",
    b"/C=DE/O=x/CN=y",
    b"CN=x+C=DE,OU=a\\,C\\3dFR",
    b"C=#13024445,O=\"a,b\"",
    b"O%3Dx%2CC%3DDE",
];
const MEDIA_TYPES: &[&[u8]] = &[
    b"application/protobuf; version=1.0",
    b"application/json;version=\"1.0\";charset=utf-8",
    b"text/plain, */*;q=0.1, application/json;q=0.9;version=1.0",
    b"application / json ; version = 1.0",
];
const FRAMING: &[&[u8]] = &[
    b"efgs.example:8443",
    b"[2001:db8::1]:443",
    b"gzip, chunked",
    b"chunked, identity;q=1",
];
const URLS: &[&[u8]] = &[
    b"https://receiver.example:8443/version/v1/callback",
    b"https://[2001:db8::1]:443/a#b",
    b"https://%65xample.org/%2e%2e/",
];

/// A valid text with one to five mutations.
fn text(random: &mut ChaCha8Rng, good: &[&[u8]]) -> Vec<u8> {
    let mut text = good.choose(random).expect("some are good").to_vec();
    for _ in 0..random.random_range(1..=5) {
        // The end is a special position.
        let at = match random.random_range(0..4) {
            0 => text.len(),
            _ => random.random_range(0..=text.len()),
        };
        let end = (at + random.random_range(0..=8)).min(text.len());
        match random.random_range(0..6) {
            0 if at < text.len() => text[at] = random.random(),
            1 => drop(text.drain(at..end)),
            2 => text.truncate(at),
            3 => {
                let other = good.choose(random).expect("some are good");
                let from = random.random_range(0..other.len());
                drop(text.splice(at..end, other[from..].iter().copied()));
            }
            _ => {
                let piece = PIECES.choose(random).expect("there are pieces");
                let many = random.random_ratio(1, 32);
                let times = if many {
                    random.random_range(1..20_000)
                } else {
                    1
                };
                drop(text.splice(at..end, piece.repeat(times)));
            }
        }
        text.truncate(BYTES_MAX);
    }
    text
}

/// Feeds texts for the configured time; a failure names the seed and the text's number.
fn feed(good: &[&[u8]], mut read: impl FnMut(&[u8])) {
    let number = |name: &str, default| {
        let value = std::env::var(name).ok();
        value.map_or(default, |text| text.parse().expect("a number"))
    };
    let seed = number("EFGS_SEED", 1);
    let until = Instant::now() + Duration::from_secs(number("EFGS_FUZZ_SECONDS", 2));
    let mut at = 0;
    while Instant::now() < until {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(at);
        let text = text(&mut random, good);
        let _place = Place { seed, at };
        let mut time = || {
            let begun = Instant::now();
            read(&text);
            begun.elapsed()
        };
        assert!(
            time() <= TIME_MAX || time() <= TIME_MAX,
            "a text takes too long"
        );
        at += 1;
    }
}

/// Prints which text failed.
struct Place {
    seed: u64,
    at: u64,
}

impl Drop for Place {
    #[allow(clippy::print_stderr, reason = "how to reproduce the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("text {} of EFGS_SEED={}", self.at, self.seed);
        }
    }
}

#[test]
fn survives_names_of_certificates() {
    feed(NAMES, super::certificate_name);
}

#[test]
fn survives_forwarded_certificates() {
    feed(NAMES, super::forwarded_certificate);
}

#[test]
fn survives_media_types() {
    feed(MEDIA_TYPES, super::media_type);
}

#[test]
fn survives_hosts_and_transfer_codings() {
    feed(FRAMING, super::framing);
}

#[test]
fn survives_callback_urls() {
    feed(URLS, |text| {
        super::callback_url(&String::from_utf8_lossy(text));
    });
}
