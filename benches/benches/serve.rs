//! Serve: the answer to a download, all its chunks taken. `cold` is read back from the database.

use benches::{
    Backend, BenchDatabase, ECDSA_P256, EngineOptions, Installation, RSA_2048, SIZES, bench,
    criterion, download, group, upload, wait_for_batches,
};
use criterion::{Criterion, criterion_group, criterion_main};
use engine::domain::Format;

fn downloads(criterion: &mut Criterion) {
    let mut group = group(criterion, "serve");
    for (shape, format, cache_bytes_max) in [
        (
            "protobuf",
            Format::Protobuf,
            EngineOptions::default().cache_bytes_max,
        ),
        (
            "json",
            Format::Json,
            EngineOptions::default().cache_bytes_max,
        ),
        ("cold", Format::Protobuf, 0),
    ] {
        for size in SIZES {
            let engine_shape = EngineOptions {
                bundle_keys: size,
                cache_bytes_max,
            };
            let installation = Installation::start(&BenchDatabase::Sqlite, "serve", engine_shape);
            let engine = &installation.engine;
            upload(engine, Backend::of(RSA_2048).upload(1, size)).wait();
            wait_for_batches(engine, 1);
            let reader = Backend::of(ECDSA_P256).country;
            bench(&mut group, shape, size, |b| {
                b.iter(|| {
                    let answer = download(engine, reader, None, format).expect("a batch");
                    answer.chunks().map(|chunk| chunk.len()).sum::<usize>()
                });
            });
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = criterion(); targets = downloads }
criterion_main!(benches);
