//! Hostile requests through a socket: media types, names, thumbprints, tags, dates, signatures,
//! bodies, URLs and headers, seeded. Every response is a described one, in time and not a 5xx, and the
//! gateway keeps working.
//!
//! `EFGS_SEED` and `EFGS_FUZZ_SECONDS` set the seed and the duration.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::delivery::{Resolve, Resolving};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::description::{Description, Port};
use crate::number;
use crate::pieces::PIECES;
use crate::support::{Gateway, Raw, TODAY, Upload, get, signed_upload, thumbprint};
use crate::values::{BODIES, DATES, MEDIA_TYPES, NAMES, TAGS, THUMBPRINTS, URLS};

/// Time limit of a response, on a busy machine.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest body of an error.
const ERROR_BYTES_MAX: usize = 2000;
/// Concurrent sequences of requests, each on its own connection.
const SEQUENCES: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_hostile_requests() {
    let seed = number("EFGS_SEED", 1);
    let seconds = number("EFGS_FUZZ_SECONDS", 2);
    println!("hostile http: EFGS_SEED={seed}");
    let gateway = Gateway::start_with(|_, server| server.resolver = Arc::new(Somewhere));
    let gateway = Arc::new(gateway.await);
    let description = Arc::new(Description::of(&gateway).await);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut sequences = Vec::new();
    for index in 0..SEQUENCES {
        let (gateway, description) = (Arc::clone(&gateway), Arc::clone(&description));
        let attacker = Attacker::new(seed, index);
        sequences.push(tokio::spawn(attack(gateway, description, attacker, until)));
    }
    let mut answers: BTreeMap<u16, u64> = BTreeMap::new();
    for sequence in sequences {
        for (status, count) in sequence.await.unwrap() {
            *answers.entry(status).or_default() += count;
        }
    }
    println!("hostile http: answers by status {answers:?}");
    // Enough requests are close to valid ones.
    for status in [201, 400, 403, 404, 405, 406, 415] {
        assert!(answers.contains_key(&status), "{status}: {answers:?}");
    }
    let mut raw = gateway.proxy().await;
    let upload = signed_upload("IT", 0..3);
    let stored = raw.ask(&upload.head("IT", "after"), &upload.body).await;
    assert_eq!(stored.status(), 201, "{stored:?}");
}

/// Resolves nearly every host, without a lookup.
#[derive(Debug)]
struct Somewhere;

impl Resolve for Somewhere {
    fn resolve(&self, host: &str) -> Resolving {
        let address = match host.len() % 4 {
            0 => Err(io::Error::other("no such host")),
            1 => Ok(vec![Ipv4Addr::LOCALHOST.into()]),
            _ => Ok(vec![Ipv4Addr::new(1, 1, 1, 1).into()]),
        };
        Box::pin(std::future::ready(address))
    }
}

/// Sends requests until the time is over; counts responses by status.
async fn attack(
    gateway: Arc<Gateway>,
    description: Arc<Description>,
    mut attacker: Attacker,
    until: Instant,
) -> BTreeMap<u16, u64> {
    let mut answers = BTreeMap::new();
    let mut raw = gateway.proxy().await;
    let mut count = 0;
    while Instant::now() < until || count < 50 {
        count += 1;
        let request = attacker.request();
        let begun = Instant::now();
        let status = ask(&mut raw, &description, &request).await;
        assert!(begun.elapsed() < RESPONSE_TIME_MAX, "{request:?}");
        let status = status.unwrap_or_else(|why| panic!("request {count}: {why}: {request:?}"));
        *answers.entry(status).or_default() += 1;
        if attacker.random.random_bool(0.02) || status == 0 {
            raw = gateway.proxy().await;
        }
    }
    answers
}

/// The status; 0 when the HTTP library has closed the connection.
async fn ask(raw: &mut Raw, description: &Description, request: &Request) -> Result<u16, String> {
    raw.write(&request.bytes).await;
    let answer = raw.answer(request.method == "HEAD").await;
    let status = answer.status();
    if status >= 500 {
        return Err(format!("{answer:?}"));
    }
    if status >= 400 && answer.body.len() > ERROR_BYTES_MAX {
        return Err(format!("an error of {} bytes", answer.body.len()));
    }
    description
        .check(Port::Participants, request.method, &request.path, &answer)
        .map_err(|why| format!("{why}: {answer:?}"))?;
    let closes = answer.header("Content-Type").is_none() && status >= 400;
    let closes = closes || answer.header("Connection") == Some("close");
    Ok(if closes { 0 } else { status })
}

struct Request {
    method: &'static str,
    path: String,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.bytes.escape_ascii())
    }
}

/// Mutates valid requests.
struct Attacker {
    random: ChaCha8Rng,
    uploads: Vec<Upload>,
    thumbprint: String,
}

/// How often a part is left unchanged.
const LEFT_ALONE: f64 = 0.8;

impl Attacker {
    fn new(seed: u64, index: u64) -> Self {
        let first = index * 1000;
        Self {
            random: ChaCha8Rng::seed_from_u64(seed.wrapping_mul(SEQUENCES).wrapping_add(index)),
            uploads: (0..8)
                .map(|at| signed_upload("DE", first + at * 3..first + at * 3 + 2))
                .collect(),
            thumbprint: thumbprint("DE"),
        }
    }

    fn request(&mut self) -> Request {
        let (method, path) = match self.random.random_range(0..12) {
            0..4 => ("POST", "/diagnosiskeys/upload".to_owned()),
            4..7 => ("GET", format!("/diagnosiskeys/download/{}", self.date())),
            7..9 => {
                let (date, tag) = (self.date(), self.batch_tag());
                let path = format!(
                    "/diagnosiskeys/audit/download/{date}/{}",
                    self.in_path(&tag)
                );
                ("GET", path)
            }
            9 => ("OPTIONS", "/diagnosiskeys".to_owned()),
            10 => ("GET", "/diagnosiskeys/callback".to_owned()),
            _ => self.callback(),
        };
        let methods = [
            "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW",
        ];
        let method = if self.random.random_bool(0.95) {
            method
        } else {
            self.pick(&methods)
        };
        let path = if self.random.random_bool(0.95) {
            path
        } else {
            let path = self.changed(path.as_bytes());
            format!("/{}", self.in_path(&path))
        };
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\n").into_bytes();
        let body = self.headers(&mut bytes, method);
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&body);
        Request {
            method,
            path,
            bytes,
        }
    }

    fn callback(&mut self) -> (&'static str, String) {
        let id = self.perhaps(&TAGS, b"1");
        let path = format!("/diagnosiskeys/callback/{}", self.in_path(&id));
        if self.random.random_bool(0.3) {
            return ("DELETE", path);
        }
        let url = self.perhaps(&URLS, b"https://receiver.example/told");
        ("PUT", format!("{path}?url={}", self.in_path(&url)))
    }

    /// Writes the headers; returns the body that they announce.
    fn headers(&mut self, out: &mut Vec<u8>, method: &str) -> Vec<u8> {
        let thumbprint = self.thumbprint.clone();
        let thumbprint = self.perhaps(&THUMBPRINTS, thumbprint.as_bytes());
        let mut headers = vec![
            ("X-SSL-Client-SHA256", thumbprint),
            ("X-SSL-Client-DN", self.perhaps(&NAMES, b"C=DE")),
            ("Accept", self.perhaps(&MEDIA_TYPES, b"*/*")),
        ];
        let mut body = Vec::new();
        if method == "PUT" {
            let form = b"application/x-www-form-urlencoded";
            headers.push(("Content-Type", self.perhaps(&MEDIA_TYPES, form)));
            body = [
                b"url=",
                self.perhaps(&URLS, b"https%3A%2F%2Fa.b%2F").as_slice(),
            ]
            .concat();
            out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        } else if method == "POST" {
            let at = self.random.random_range(0..self.uploads.len());
            let (good, signature) = (
                self.uploads[at].body.clone(),
                self.uploads[at].signature.clone(),
            );
            let good_type = b"application/protobuf; version=1.0";
            headers.push(("Content-Type", self.perhaps(&MEDIA_TYPES, good_type)));
            headers.push((
                "batchTag",
                self.perhaps(&TAGS, format!("t-{at}").as_bytes()),
            ));
            headers.push(("batchSignature", self.signature(&signature)));
            body = self.perhaps(&BODIES, &good);
            out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        } else if self.random.random_bool(0.5) {
            headers.push(("batchTag", self.batch_tag()));
        }
        if self.random.random_bool(0.1) {
            let again = self.random.random_range(0..headers.len());
            let again = (headers[again].0, self.changed(&headers[again].1.clone()));
            headers.push(again);
        }
        if self.random.random_bool(0.05) {
            let gone = self.random.random_range(0..headers.len());
            headers.remove(gone);
        }
        for (name, value) in headers {
            out.extend_from_slice(format!("{name}: ").as_bytes());
            // A line break would begin another header, or the body.
            out.extend(value.into_iter().filter(|byte| !b"\r\n".contains(byte)));
            out.extend_from_slice(b"\r\n");
        }
        body
    }

    fn signature(&mut self, good: &str) -> Vec<u8> {
        if self.random.random_bool(LEFT_ALONE) {
            return good.as_bytes().to_vec();
        }
        if self.random.random_bool(0.2) {
            return self.changed(good.as_bytes());
        }
        // Inside the base64, where it is parsed as CMS.
        let der = STANDARD.decode(good).unwrap();
        STANDARD.encode(self.changed(&der)).into_bytes()
    }

    fn date(&mut self) -> String {
        let date = self.perhaps(&DATES, TODAY.as_bytes());
        self.in_path(&date)
    }

    fn batch_tag(&mut self) -> Vec<u8> {
        self.perhaps(&TAGS, b"20210601-1")
    }

    /// As a path segment: percent-encoded, sometimes only as far as HTTP requires.
    fn in_path(&mut self, bytes: &[u8]) -> String {
        let everything = self.random.random_bool(0.5);
        let mut out = String::new();
        for byte in bytes {
            let plain = byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
            let tolerable = byte.is_ascii_graphic() && !b"?#".contains(byte);
            if plain || (tolerable && !everything) {
                out.push(char::from(*byte));
            } else {
                out.push_str(&format!("%{byte:02x}"));
            }
        }
        out
    }

    /// Usually the valid value, otherwise one of the list or a mutated one.
    fn perhaps(&mut self, others: &[&'static [u8]], good: &[u8]) -> Vec<u8> {
        if self.random.random_bool(LEFT_ALONE) {
            return good.to_vec();
        }
        let base = if self.random.random_bool(0.7) {
            self.pick(others)
        } else {
            good
        };
        if self.random.random_bool(0.5) {
            base.to_vec()
        } else {
            self.changed(base)
        }
    }

    fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        *values.choose(&mut self.random).unwrap()
    }

    /// One to four mutations.
    fn changed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..self.random.random_range(1..=4) {
            // The end is a special position.
            let at = match self.random.random_range(0..4) {
                0 => bytes.len(),
                _ => self.random.random_range(0..=bytes.len()),
            };
            let end = (at + self.random.random_range(0..16)).min(bytes.len());
            match self.random.random_range(0..6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.random.random_range(0..8),
                1 if at < bytes.len() => bytes[at] = self.random.random(),
                2 => bytes.truncate(at),
                3 => drop(bytes.drain(at..end)),
                4 => {
                    let times = self.random.random_range(1..100);
                    let piece = bytes[at..end].repeat(times);
                    drop(bytes.splice(at..at, piece));
                }
                _ => {
                    let piece = self.pick(&PIECES);
                    drop(bytes.splice(at..at, piece.iter().copied()));
                }
            }
        }
        bytes
    }
}

/// Refusals neither close the connection nor leave anything behind.
#[tokio::test]
async fn keeps_a_connection_through_refusals() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.proxy().await;
    let upload = signed_upload("DE", 0..3);
    let head = upload.head("DE", "t");
    for bad in [
        head.replace("C=DE", "C="),
        head.replace("; version=1.0", ""),
        head.replace("batchTag: t", "batchTag: é"),
        head.replace("batchSignature: ", "batchSignature: !"),
    ] {
        let refused = raw.ask(&bad, &upload.body).await;
        assert_eq!(refused.status(), 400, "{refused:?}");
    }
    assert_eq!(raw.ask(&head, &upload.body).await.status(), 201);
    let path = format!("/diagnosiskeys/download/{TODAY}");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = raw.get(&get(&path, "IT", "")).await;
        if answer.status() == 200 {
            assert_eq!(answer.body, upload.body);
            return;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
        tokio::task::yield_now().await;
    }
}
