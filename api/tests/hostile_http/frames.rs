//! HTTP/2 in no order: frames of valid connections, mutated, repeated and shuffled, sent to the
//! proxy port of a whole gateway. Every connection ends soon, and the gateway keeps working.
//!
//! `EFGS_SEED` and `EFGS_FUZZ_SECONDS` set the seed and the duration. `fuzz/fuzz_targets/http.rs`
//! does the same guided by coverage.

use std::time::{Duration, Instant};

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::attacks::http2::{self, Frame, PREFACE, frame};
use crate::number;
use crate::support::{Gateway, TODAY, Upload, get, signed_upload, thumbprint};

/// Far above what an answer takes, and below the time-outs of the gateway.
const END_TIME_MAX: Duration = Duration::from_secs(5);

#[tokio::test]
async fn survives_http2_frames() {
    let (seed, seconds) = (number("EFGS_SEED", 1), number("EFGS_FUZZ_SECONDS", 2));
    println!("hostile frames: EFGS_SEED={seed}");
    let gateway = Gateway::start().await;
    let upload = signed_upload("DE", 0..2);
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut connections, mut answered) = (0_u64, 0_u64);
    while Instant::now() < until || connections < 50 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(connections);
        let bytes = conversation(&mut random, &upload);
        let mut raw = gateway.proxy().await;
        let _refused = raw.try_write(&bytes).await;
        let _closed = raw.try_close_sending_side().await;
        let begun = Instant::now();
        let answer = raw.until_end().await;
        assert!(
            begun.elapsed() < END_TIME_MAX,
            "connection {connections} of EFGS_SEED={seed} does not end"
        );
        answered += u64::from(http2::has_headers(&answer));
        connections += 1;
    }
    println!("hostile frames: {connections} connections, {answered} with an answer");
    assert!(
        answered * 20 > connections,
        "enough are close to valid ones"
    );
    let answer = gateway
        .proxy()
        .await
        .get(&get("/diagnosiskeys", "DE", ""))
        .await;
    assert_eq!(answer.status(), 405, "{answer:?}");
}

/// The octets of a connection.
fn conversation(random: &mut ChaCha8Rng, upload: &Upload) -> Vec<u8> {
    let mut frames = frames(random, upload);
    if random.random_bool(0.15) {
        frames.shuffle(random);
    }
    let mut bytes = PREFACE.to_vec();
    for one in frames {
        let times = match random.random_range(0..20) {
            0 => random.random_range(2..200),
            1 => 0,
            _ => 1,
        };
        bytes.extend(one.repeat(times));
    }
    if random.random_bool(0.3) {
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(PREFACE.len()..bytes.len());
            bytes[at] = random.random();
        }
    }
    if random.random_bool(0.1) {
        bytes.truncate(random.random_range(0..bytes.len()));
    }
    bytes
}

/// Valid frames: settings, an upload, a download, and what is sent around them.
fn frames(random: &mut ChaCha8Rng, upload: &Upload) -> Vec<Vec<u8>> {
    let (length, print) = (upload.body.len().to_string(), thumbprint("DE"));
    let identity = [
        ("x-ssl-client-sha256", print.as_str()),
        ("x-ssl-client-dn", "C=DE"),
    ];
    let headers = [
        ("content-type", "application/protobuf; version=1.0"),
        ("content-length", length.as_str()),
        ("batchtag", "t"),
        ("batchsignature", upload.signature.as_str()),
    ];
    let post = [&identity[..], &headers].concat();
    let path = format!("/diagnosiskeys/download/{TODAY}");
    let window = [0, 1, 65_535, 0x7fff_ffff].choose(random).copied().unwrap();
    let mut frames = vec![
        http2::settings(&[(http2::INITIAL_WINDOW_SIZE, window)]),
        http2::request(1, "POST", "/diagnosiskeys/upload", &post, false),
        frame(Frame::Data, http2::END_STREAM, 1, &upload.body),
        http2::request(3, "GET", &path, &identity, true),
        http2::request(5, "GET", "/diagnosiskeys/callback", &identity, true),
    ];
    let others = [
        (Frame::Priority, 3, vec![0, 0, 0, 1, 5]),
        (Frame::Reset, 3, vec![0, 0, 0, 8]),
        (Frame::Settings, 0, Vec::new()),
        (Frame::PushPromise, 3, vec![0, 0, 0, 2]),
        (Frame::Ping, 0, vec![0; 8]),
        (Frame::GoAway, 0, vec![0; 8]),
        (Frame::WindowUpdate, 0, vec![0x7f, 0xff, 0xff, 0xff]),
        (Frame::WindowUpdate, 1, vec![0, 0, 0, 0]),
        (Frame::Continuation, 1, vec![0x82]),
        (Frame::Data, 7, vec![0; 100]),
    ];
    for _ in 0..random.random_range(0..4) {
        let (kind, stream, payload) = others.choose(random).unwrap();
        let flags = *[0, 1, 4, 5, 8, 0x20].choose(random).unwrap();
        let at = random.random_range(1..=frames.len());
        frames.insert(at, frame(*kind, flags, *stream, payload));
    }
    frames
}
