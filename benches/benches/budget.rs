//! The budget: the cost per key of each step of the walk, on one core, with uploads of 5000 keys.
//!
//! Prints the fastest of many runs, which on a shared machine is more meaningful than the mean:
//! noise only ever makes a run slower. The figures of criterion are in the other files.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use benches::{Backend, FULL, NOON, SHAPES, StageFixture, random_identities, scaled};
use engine::decode::decode;
use engine::dedup::{find_repeats, identify};
use engine::domain::Seq;
use engine::validate::{check_origins, validate};
use engine::verify::{CanonicalBytes, Exceptions, SignatureCheck, check_signature, signed_content};
use engine::wire::json;

fn main() {
    let mut fixture = StageFixture::full();
    for (shape, code) in SHAPES {
        print(&format!("{shape}: body to sealed"), steps(&fixture, code));
    }
    beside(&mut fixture);
}

/// The steps of one upload, and the whole walk.
fn steps(fixture: &StageFixture, code: &str) -> Vec<(&'static str, Duration)> {
    let request = Backend::of(code).upload(0, FULL);
    let decoded = || decode(&request.body, FULL).expect("well-formed");
    let valid = validate(decoded(), NOON).expect("valid");
    let canonical = CanonicalBytes::of(valid.keys());
    let content = signed_content(&valid);
    let check = SignatureCheck {
        batch_signature: &request.batch_signature,
        signed_bytes: content.signed_bytes(),
        content: content.digest(),
        keys: valid.keys(),
        exceptions: Exceptions::default(),
        trust: &fixture.trust,
        now: NOON,
    };
    let (keys, set) = (&fixture.keys, fixture.set.shared());
    let identities = identify(&canonical, keys);
    let segment = valid.keys().encode_segment();
    let mut steps = vec![
        ("decode", time(decoded)),
        ("validate", fastest(decoded, |batch| validate(batch, NOON))),
        (
            "canonical text and order",
            time(|| CanonicalBytes::of(valid.keys())),
        ),
        ("SHA-256", time(|| digest(&SHA256, canonical.as_bytes()))),
        (
            "signature",
            time(|| check_signature(&check).expect("it holds")),
        ),
        (
            "origins",
            time(|| check_origins(valid.keys(), request.country)),
        ),
        ("identify", time(|| identify(&canonical, keys))),
        ("probe", time(|| set.find_known(&identities))),
        (
            "repeats",
            time(|| find_repeats(&identities, canonical.order())),
        ),
        ("encode segment", time(|| valid.keys().encode_segment())),
        ("seal", time(|| keys.seal(&segment, b"DE"))),
    ];
    steps.push(("sum", steps.iter().map(|(_, spent)| *spent).sum()));
    steps.push(("the walk, in one", time(|| fixture.walk(&request))));
    steps
}

/// Work on other databases, or only for some uploads.
fn beside(fixture: &mut StageFixture) {
    let backend = Backend::of(SHAPES[0].1);
    let request = backend.json_upload(0, FULL);
    let segment = backend.body(0, FULL);
    let mut seed = 10;
    let mut new = || {
        seed += 1;
        random_identities(seed, FULL as usize)
    };
    print(
        "beside the walk",
        vec![
            (
                "JSON to protobuf",
                time(|| json::to_protobuf(&request.body, FULL)),
            ),
            (
                "protobuf to JSON",
                fastest(Vec::new, |mut out| json::write_segment(&mut out, &segment)),
            ),
            (
                "insert into the set",
                fastest(&mut new, |new| fixture.set.insert(&new, NOON.day(), Seq(2))),
            ),
        ],
    );
}

fn time<T>(mut run: impl FnMut() -> T) -> Duration {
    fastest(|| (), |()| run())
}

/// The fastest of many runs; inputs are made before the clock starts, and results are dropped after
/// it stops.
fn fastest<I, T>(mut input: impl FnMut() -> I, mut run: impl FnMut(I) -> T) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..scaled(1000, 1) {
        let input = black_box(input());
        let started = Instant::now();
        let output = run(input);
        least = least.min(started.elapsed());
        drop(black_box(output));
    }
    least
}

fn print(title: &str, rows: Vec<(&'static str, Duration)>) {
    eprintln!("{title}, ns a key");
    for (name, spent) in rows {
        let nanos = spent.as_secs_f64() * 1e9 / f64::from(FULL);
        eprintln!("  {name:26}{nanos:8.1}");
    }
}
