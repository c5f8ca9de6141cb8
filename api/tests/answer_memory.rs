//! Memory of the real program while peers take nothing of many answers: it stays within the cache that
//! the settings name, or the readers' share of it, however much is stored.
//!
//! By hand with more: `EFGS_DRILL_BATCHES` (of 5000 keys), `EFGS_DRILL_ENTRIES` (of an audit),
//! `EFGS_DRILL_CACHE_BYTES`; with another program: `EFGS_DRILL_PROGRAM`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests; the figures are printed"
)]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::domain::Country;
use engine::{Clock, SystemClock};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use testkit::digest::sha256;
use testkit::keys::{KeyGenerator, Seed};
use testkit::local::{Gateway, GatewayOptions, initialise_for};
use testkit::participants::{self, Participant};
use testkit::ports::free_port;
use testkit::protocol::signed_bytes;
use testkit::signer::Encoding;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

const MEBIBYTE: u64 = 1 << 20;
const CODES: [&str; 3] = ["DE", "ES", "IT"];
/// HTTP/2 connections that take nothing.
const CONNECTIONS: usize = 5;
/// HTTP/1 connections that read nothing.
const READERS: usize = 60;

fn number(variable: &str, default: u32) -> u32 {
    let text = std::env::var(variable).ok();
    text.map_or(default, |text| text.parse().unwrap())
}

/// The real program in proxy mode.
struct Drill {
    gateway: Gateway,
    proxy: SocketAddr,
    participants: Vec<Participant>,
    generator: KeyGenerator,
    _folder: TempDir,
}

impl Drill {
    fn start(cache_bytes: u32, bundle_keys: u32, settings: &[(&str, &str)]) -> Self {
        let program = std::env::var_os("EFGS_DRILL_PROGRAM").map(PathBuf::from);
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_efgs").into());
        let folder = tempfile::tempdir().unwrap();
        initialise_for(&program, folder.path(), None, &CODES).unwrap();
        let proxy = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let mut options = GatewayOptions::new(&program, folder.path());
        let mut set = |name: &str, value: &str| {
            options
                .environment
                .push((format!("EFGS__{name}"), value.to_owned()));
        };
        set("PROXY__LISTEN", &proxy.to_string());
        set("BUNDLE__CACHE_BYTES_MAX", &cache_bytes.to_string());
        set("BUNDLE__KEYS_MAX", &bundle_keys.to_string());
        set("BUNDLE__PACED", "false");
        for (name, value) in settings {
            set(name, value);
        }
        let gateway = Gateway::start(options).unwrap();
        let countries = CODES.map(|code| Country::parse(code).unwrap());
        let seed = Seed {
            number: 1,
            keys_total: 5000,
            upload_keys: 5000,
            day: SystemClock.now().day(),
        };
        Self {
            gateway,
            proxy,
            participants: participants::read(&folder.path().join("pki")).unwrap(),
            generator: KeyGenerator::new(seed, &countries),
            _folder: folder,
        }
    }

    fn request(&self, code: &str, path: &str, accept: &str) -> http::request::Builder {
        let mut participants = self.participants.iter();
        let participant = participants
            .find(|one| one.country.as_str() == code)
            .unwrap();
        let thumbprint = sha256(&participant.authentication.chain[0]);
        let hex: String = thumbprint
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Request::builder()
            .uri(format!("http://gateway{path}"))
            .header("Host", "gateway")
            .header("X-SSL-Client-SHA256", hex)
            .header("X-SSL-Client-DN", format!("C={code}"))
            .header("Accept", format!("application/{accept}; version=1.0"))
    }

    /// Uploads as DE.
    async fn upload(&self, sender: &mut Http1, index: u32, key_count: u32) {
        let uploader = &self.participants[0];
        let body = self.generator.body(uploader.country, index, key_count);
        let content = signed_bytes(&body).unwrap();
        let now = SystemClock.now();
        let signature = uploader
            .signer
            .sign_base64(&content, now, Encoding::BerIndefinite);
        let request = self
            .request("DE", "/diagnosiskeys/upload", "json")
            .method("POST")
            .header("Content-Type", "application/protobuf; version=1.0")
            .header("batchTag", format!("drill-{index}"))
            .header("batchSignature", signature);
        let answer = ask(sender, request.body(Full::new(body.into())).unwrap()).await;
        assert_eq!(answer.status(), 201);
        answer.into_body().collect().await.unwrap();
    }

    /// The names of the first `count` download batches, once they are cut.
    async fn tags(&self, sender: &mut Http1, count: usize) -> Vec<String> {
        let path = format!("/diagnosiskeys/download/{}", SystemClock.now().day());
        let mut tags = vec![];
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut wanted = None;
        while tags.len() < count {
            assert!(Instant::now() < deadline, "no more than {tags:?}");
            let mut request = self.request("ES", &path, "protobuf");
            if let Some(tag) = &wanted {
                request = request.header("batchTag", tag);
            }
            let answer = ask(sender, request.body(Full::default()).unwrap()).await;
            let header = |name| answer.headers().get(name)?.to_str().ok().map(str::to_owned);
            let (tag, next) = (header("batchTag"), header("nextBatchTag"));
            answer.into_body().collect().await.unwrap();
            let is_next = tag.is_some() && tags.last() != tag.as_ref();
            tags.extend(tag.filter(|_| is_next));
            wanted = next.filter(|next| next != "null").or(wanted);
        }
        tags
    }

    fn status(&self, field: &str) -> u64 {
        let id = self.gateway.process_id().unwrap();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        let kibibytes = line.split_whitespace().nth(1).unwrap();
        kibibytes.parse::<u64>().unwrap() << 10
    }

    /// Resident memory now; from here on the peak is measured.
    fn resident(&self) -> u64 {
        let id = self.gateway.process_id().unwrap();
        fs::write(format!("/proc/{id}/clear_refs"), "5").unwrap();
        self.status("VmRSS:")
    }

    fn growth(&self, attack: &str, before: u64, answers: &BTreeMap<u16, u32>) -> u64 {
        let peak = self.status("VmHWM:");
        println!(
            "{attack}: {} to {} MiB, answers {answers:?}",
            before / MEBIBYTE,
            peak / MEBIBYTE
        );
        peak.saturating_sub(before)
    }
}

type Http1 = http1::SendRequest<Full<Bytes>>;
type Http2 = http2::SendRequest<Full<Bytes>>;

async fn http1(address: SocketAddr) -> Http1 {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A peer whose system takes no more than a few kilobytes that it does not read.
async fn slow_reader(address: SocketAddr) -> Http1 {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = TokioIo::new(socket.connect(address).await.unwrap());
    let (sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A peer that never opens a window.
async fn closed_windows(address: SocketAddr) -> Http2 {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(0);
    let (sender, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut Http1, request: Request<Full<Bytes>>) -> Response<Incoming> {
    sender.ready().await.unwrap();
    sender.send_request(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_no_more_than_its_cache_for_streams_whose_windows_stay_closed() {
    let batches = number("EFGS_DRILL_BATCHES", 24);
    let cache_bytes = number("EFGS_DRILL_CACHE_BYTES", 4 << 20);
    let drill = Drill::start(cache_bytes, 5000, &[]);
    let mut sender = http1(drill.proxy).await;
    for index in 0..batches {
        drill.upload(&mut sender, index, 5000).await;
    }
    let tags = drill.tags(&mut sender, batches as usize).await;
    let path = format!("/diagnosiskeys/download/{}", SystemClock.now().day());
    let before = drill.resident();
    let mut asking = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let sender = closed_windows(drill.proxy).await;
        for tag in tags.iter().skip(connection).step_by(CONNECTIONS) {
            let request = drill.request("ES", &path, "json").header("batchTag", tag);
            let mut sender = sender.clone();
            asking.spawn(async move {
                sender.ready().await.ok()?;
                sender
                    .send_request(request.body(Full::default()).unwrap())
                    .await
                    .ok()
            });
        }
    }
    let mut answers = BTreeMap::new();
    let mut held = Vec::new();
    for answer in asking.join_all().await.into_iter().flatten() {
        *answers.entry(answer.status().as_u16()).or_insert(0) += 1;
        held.push(answer);
    }
    let growth = drill.growth("closed windows", before, &answers);
    // A quarter of what may be in use, a bundle that is converted, and what the allocator keeps.
    let most = u64::from(cache_bytes).max(16 * MEBIBYTE) / 4 + 12 * MEBIBYTE;
    assert!(growth < most, "{} MiB more", growth / MEBIBYTE);
    assert!(answers[&200] > 0, "its share is answered: {answers:?}");
    drop(held);
    // The other participant still has its own share.
    let request = drill
        .request("IT", &path, "json")
        .header("batchTag", &tags[0]);
    let answer = ask(&mut sender, request.body(Full::default()).unwrap()).await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_one_audit_for_all_that_read_it_slowly() {
    let entries = number("EFGS_DRILL_ENTRIES", 1000);
    let cut_when_full = [
        ("BUNDLE__MAX_DELAY_MS", "3600000"),
        ("UPLOAD__KEYS_MAX", "1"),
    ];
    let drill = Drill::start(64 << 20, entries, &cut_when_full);
    let mut sender = http1(drill.proxy).await;
    for index in 0..entries {
        drill.upload(&mut sender, index, 1).await;
    }
    let tags = drill.tags(&mut sender, 1).await;
    let day = SystemClock.now().day();
    let path = format!("/diagnosiskeys/audit/download/{day}/{}", tags[0]);
    let request = || {
        drill
            .request("ES", &path, "json")
            .body(Full::default())
            .unwrap()
    };
    let audit = ask(&mut sender, request()).await;
    let audit_bytes = audit.into_body().collect().await.unwrap().to_bytes().len();
    let before = drill.resident();
    let mut answers = BTreeMap::new();
    let mut held = Vec::new();
    for _ in 0..READERS {
        let mut reader = slow_reader(drill.proxy).await;
        let answer = ask(&mut reader, request()).await;
        *answers.entry(answer.status().as_u16()).or_insert(0) += 1;
        held.push((reader, answer));
    }
    println!("the audit has {audit_bytes} bytes");
    let growth = drill.growth("slow readers of an audit", before, &answers);
    let all = (READERS * audit_bytes) as u64;
    assert!(growth < all / 4, "{} of {} KiB", growth >> 10, all >> 10);
    assert!(answers[&200] > 0, "{answers:?}");
}
