//! Bundle: a batch's keys as a segment, sealed; the segment as JSON; a download batch cut.

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::{
    Backend, BenchDatabase, EngineOptions, FULL, Installation, RSA_2048, SIZES, bench, criterion,
    group, keys, slow_group, upload, wait_for_batches,
};
use criterion::{Criterion, criterion_group, criterion_main};
use engine::decode::decode;
use engine::wire::json::write_segment;

fn segments(criterion: &mut Criterion) {
    let mut group = group(criterion, "bundle");
    let backend = Backend::of(RSA_2048);
    let keys = keys();
    for size in SIZES {
        let body = backend.body(0, size);
        let batch = decode(&body, size).expect("well-formed");
        bench(&mut group, "segment", size, |b| {
            b.iter(|| black_box(&batch).encode_segment());
        });
        let segment = batch.encode_segment();
        bench(&mut group, "seal", size, |b| {
            b.iter(|| keys.seal(black_box(&segment), b"DE"));
        });
        let sealed = keys.seal(&segment, b"DE");
        bench(&mut group, "unseal", size, |b| {
            b.iter(|| keys.unseal(sealed.clone(), b"DE"));
        });
        bench(&mut group, "json", size, |b| {
            b.iter(|| {
                let mut out = Vec::with_capacity(segment.len() * 4);
                write_segment(&mut out, black_box(&segment));
                out
            });
        });
    }
    group.finish();
}

/// From the answer to an upload that completes a download batch until the batch can be downloaded.
/// Cuts keep a distance of `limits::CUT_INTERVAL`, which signing the next upload takes the most of.
fn cuts(criterion: &mut Criterion) {
    let mut group = slow_group(criterion, "bundle");
    let backend = Backend::of(RSA_2048);
    let installation =
        Installation::start(&BenchDatabase::Sqlite, "bundle", EngineOptions::default());
    let mut cut = 0;
    bench(&mut group, "cut", FULL, |b| {
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                cut += 1;
                upload(&installation.engine, backend.upload(cut, FULL)).wait();
                let started = Instant::now();
                wait_for_batches(&installation.engine, cut);
                spent += started.elapsed();
            }
            spent
        });
    });
    group.finish();
}

criterion_group! { name = benches; config = criterion(); targets = segments, cuts }
criterion_main!(benches);
