//! What the benches share: seeded inputs, participants with real keys, installations. The same
//! inputs on every machine and in every run.
//!
//! Bench ids are `stage/shape/size`; sizes are keys in an upload, and throughput is in keys. Run by
//! `cargo bench` they measure; run by `cargo test` each does its work once, with small inputs around
//! it, so that none rots.

mod backend;
mod bundles;
mod ground;
pub mod http;
mod installation;
mod record;
pub mod site;

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{Bencher, BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use engine::domain::{KeyIdentity, UnixMillis};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use backend::{Backend, ECDSA_P256, RSA_2048, SHAPES, record_signatures, recorded_upload};
pub use bundles::spread_download;
pub use ground::Ground;
pub use installation::{
    Installation, Pending, Place, Shape, certificate_list, download, fill, keys, places, upload,
    wait_for_batches,
};

/// As in the gateway.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keys in an upload: the smallest, a small backend's, and the largest that there is.
pub const SIZES: [u32; 3] = [1, 100, 5000];

/// The largest upload.
pub const FULL: u32 = 5000;

/// 2021-06-01T12:00:00Z, when the certificates of the fixtures are valid.
pub const NOON: UnixMillis = UnixMillis(1_622_548_800_000);

/// Whether figures are wanted (`cargo bench`), or only a proof that the bench works (`cargo test`).
pub fn measures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// `full` for a measurement, `small` for a proof that it works.
pub fn scaled(full: usize, small: usize) -> usize {
    if measures() { full } else { small }
}

/// Criterion as all benches use it.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args()
}

/// A stage's group, for work of microseconds to milliseconds.
pub fn group<'c>(criterion: &'c mut Criterion, stage: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(stage);
    group.sampling_mode(SamplingMode::Auto);
    group
}

/// A stage's group, for work that waits for a disk: fewer samples.
pub fn slow_group<'c>(criterion: &'c mut Criterion, stage: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(stage);
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group
}

/// Runs the bench `stage/shape/size`; its throughput is in keys.
pub fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    shape: &str,
    keys: u32,
    routine: impl FnMut(&mut Bencher<'_>),
) {
    group.throughput(Throughput::Elements(u64::from(keys)));
    group.bench_function(BenchmarkId::new(shape, keys), routine);
}

/// Identities that have nothing to do with any key.
pub fn random_identities(seed: u64, count: usize) -> Vec<KeyIdentity> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut identity = || {
        let mut bytes = [0; 16];
        random.fill_bytes(&mut bytes);
        KeyIdentity(bytes)
    };
    (0..count).map(|_| identity()).collect()
}
