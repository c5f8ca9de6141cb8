//! The CPU stages on one core, relative to SHA-256 on the same core.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use benches::{Backend, ECDSA_P256, FULL, RSA_2048, StageFixture};
use engine::decode::decode;
use engine::upload::UploadRequest;
use engine::verify::CanonicalBytes;

use super::rates::ratio_of;
use crate::ratios::{Figure, Ratio};
use crate::run::Run;

/// Rounds of measurements that take milliseconds.
const CPU_ROUNDS: usize = 25;

/// A known amount of CPU work as a reference: it depends only on the core.
pub(super) struct Yardstick {
    fixture: StageFixture,
    rsa: UploadRequest,
    text: Vec<u8>,
}

impl Yardstick {
    pub(super) fn new() -> Self {
        let rsa = Backend::of(RSA_2048).upload(0, FULL);
        let decoded = decode(&rsa.body, FULL).expect("the generator writes well-formed bodies");
        let text = CanonicalBytes::of(&decoded).signed_bytes();
        Self {
            fixture: StageFixture::full(),
            rsa,
            text,
        }
    }

    /// Nanoseconds per key of SHA-256 over the signed text.
    pub(super) fn sha256(&self) -> f64 {
        fastest(10, || digest(&SHA256, black_box(&self.text)))
    }

    /// Nanoseconds per key of the walk from body to sealed.
    pub(super) fn walk(&self) -> f64 {
        fastest(10, || self.fixture.walk(&self.rsa))
    }
}

/// Nanoseconds per key of the fastest of some runs.
fn fastest<T>(times: usize, mut work: impl FnMut() -> T) -> f64 {
    let mut least = Duration::MAX;
    for _ in 0..times {
        let started = Instant::now();
        let output = work();
        least = least.min(started.elapsed());
        drop(black_box(output));
    }
    least.as_secs_f64() * 1e9 / f64::from(FULL)
}

pub(super) fn measure(yardstick: &Yardstick, run: &mut Run) -> anyhow::Result<()> {
    let p256 = Backend::of(ECDSA_P256).upload(0, FULL);
    let json = Backend::of(RSA_2048).json_upload(0, FULL);
    let [mut sha, mut rsa_walk, mut p256_walk, mut json_walk] = [const { Vec::new() }; 4];
    for _ in 0..CPU_ROUNDS {
        sha.push(yardstick.sha256());
        rsa_walk.push(yardstick.walk());
        p256_walk.push(fastest(10, || yardstick.fixture.walk(&p256)));
        json_walk.push(fastest(5, || yardstick.fixture.walk(&json)));
    }
    run.ratios.extend([
        Ratio::new("walk_rsa_2048/sha256", ratio_of(&rsa_walk, &sha)),
        Ratio::new("walk_ecdsa_p256/sha256", ratio_of(&p256_walk, &sha)),
        Ratio::new("walk_json/walk", ratio_of(&json_walk, &rsa_walk)),
    ]);
    run.figures.extend([
        Figure::new("CPU stages, RSA-2048", "ns/key", rsa_walk).against(350.0, 200.0),
        Figure::new("CPU stages, P-256", "ns/key", p256_walk).against(350.0, 200.0),
        Figure::new("CPU stages, RSA-2048, JSON", "ns/key", json_walk),
        Figure::new("SHA-256 of the signed text", "ns/key", sha),
    ]);
    Ok(())
}
