//! Decode: a body to flat arrays.

use std::hint::black_box;

use benches::{Backend, RSA_2048, SIZES, bench, criterion, group};
use criterion::{Criterion, criterion_group, criterion_main};
use engine::decode::decode;
use engine::wire::json;

fn bodies(criterion: &mut Criterion) {
    let mut group = group(criterion, "decode");
    let backend = Backend::of(RSA_2048);
    for size in SIZES {
        let protobuf = backend.body(0, size);
        bench(&mut group, "protobuf", size, |b| {
            b.iter(|| decode(black_box(&protobuf), size));
        });
        let body = backend.json_upload(0, size).body;
        bench(&mut group, "json", size, |b| {
            b.iter(|| {
                let transcoded = json::to_protobuf(black_box(&body), size).expect("JSON");
                decode(&transcoded, size).map(|batch| batch.key_count())
            });
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = criterion(); targets = bodies }
criterion_main!(benches);
