//! Validate: the rules of every key, and the origins.

use benches::{Backend, NOON, RSA_2048, SIZES, bench, criterion, group};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use engine::decode::decode;
use engine::validate::{check_origins, validate};

fn rules(criterion: &mut Criterion) {
    let mut group = group(criterion, "validate");
    let backend = Backend::of(RSA_2048);
    for size in SIZES {
        let body = backend.body(0, size);
        let decoded = || decode(&body, size).expect("well-formed");
        bench(&mut group, "rules", size, |b| {
            b.iter_batched(
                decoded,
                |batch| validate(batch, NOON).expect("valid"),
                BatchSize::SmallInput,
            );
        });
        let batch = decoded();
        bench(&mut group, "origins", size, |b| {
            b.iter(|| check_origins(&batch, backend.country));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = criterion(); targets = rules }
criterion_main!(benches);
