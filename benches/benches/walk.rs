//! The walk: an upload through all CPU stages, from its body to the sealed batch, on one core.

use benches::{Backend, SHAPES, SIZES, StageFixture, bench, criterion, group};
use criterion::{Criterion, criterion_group, criterion_main};

fn walks(criterion: &mut Criterion) {
    let mut group = group(criterion, "walk");
    let fixture = StageFixture::full();
    for (shape, code) in SHAPES {
        let backend = Backend::of(code);
        for size in SIZES {
            let request = backend.upload(0, size);
            bench(&mut group, shape, size, |b| {
                b.iter(|| fixture.walk(&request));
            });
            let request = backend.json_upload(0, size);
            bench(&mut group, &format!("{shape}_json"), size, |b| {
                b.iter(|| fixture.walk(&request));
            });
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = criterion(); targets = walks }
criterion_main!(benches);
