//! Persist: an upload through the whole engine, up to the answer after the commit. The requests are
//! signed before the clock starts. Starting with an empty database, and with ten million keys
//! stored.

use std::time::{Duration, Instant};

use benches::{
    Backend, BenchDatabase, ECDSA_P256, EngineOptions, FULL, Installation, PendingUpload, SIZES,
    bench, bench_databases, criterion, fill, scaled, slow_group, upload,
};
use criterion::{Criterion, criterion_group, criterion_main};
use engine::upload::UploadRequest;

/// Concurrent uploads, all of one participant: fewer than its share of the batches in flight.
const AT_ONCE: usize = 16;

/// Keys stored before the second half is measured.
const STORED: usize = 10_000_000;

fn uploads(criterion: &mut Criterion) {
    for place in bench_databases() {
        on(criterion, &place, 0);
        on(criterion, &place, scaled(STORED, 10_000));
    }
}

fn on(criterion: &mut Criterion, place: &BenchDatabase, stored: usize) {
    let mut group = slow_group(criterion, "persist");
    let backend = Backend::of(ECDSA_P256);
    let (name, database) = match stored {
        0 => (place.name().to_owned(), "persist"),
        _ => (format!("{}_stored", place.name()), "persist_stored"),
    };
    let installation = Installation::start(place, database, EngineOptions::default());
    let mut index = fill(&installation.engine, &backend, 0, stored as u64);
    let mut next = |key_count| {
        index += 1;
        backend.upload(index, key_count)
    };
    for size in SIZES {
        bench(&mut group, &name, size, |b| {
            b.iter_custom(|iterations| store(&installation, iterations, || vec![next(size)]));
        });
    }
    // The effect of group commit; throughput counts the keys of all uploads.
    let at_once = scaled(AT_ONCE, 2);
    let shape = format!("{name}_{at_once}_at_once");
    let keys = FULL * u32::try_from(at_once).expect("few");
    bench(&mut group, &shape, keys, |b| {
        b.iter_custom(|iterations| {
            let requests = || (0..at_once).map(|_| next(FULL)).collect();
            store(&installation, iterations, requests)
        });
    });
    group.finish();
}

/// Stores requests, all of a group concurrently.
fn store(
    installation: &Installation,
    iterations: u64,
    mut requests: impl FnMut() -> Vec<UploadRequest>,
) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..iterations {
        let requests = requests();
        let started = Instant::now();
        let send = |request| upload(&installation.engine, request);
        let pending: Vec<PendingUpload> = requests.into_iter().map(send).collect();
        pending.into_iter().for_each(PendingUpload::wait);
        spent += started.elapsed();
    }
    spent
}

criterion_group! { name = benches; config = criterion(); targets = uploads }
criterion_main!(benches);
