//! Criterion as all benches use it.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{Bencher, BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};

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
