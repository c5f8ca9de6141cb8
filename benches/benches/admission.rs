//! Admission: a permit acquired and released, and a refusal.

use benches::{bench, criterion, group};
use criterion::{Criterion, criterion_group, criterion_main};
use engine::admission::Admission;
use engine::domain::Country;

const BODY_BYTES: usize = 300_000;

fn permits(criterion: &mut Criterion) {
    let mut group = group(criterion, "admission");
    let country = Country::parse("DE").expect("two letters");
    let admission = Admission::default();
    bench(&mut group, "permit", 1, |b| {
        b.iter(|| drop(admission.admit(country, BODY_BYTES).expect("not full")));
    });
    let full = Admission::new(1, 4 * BODY_BYTES);
    let _permit = full.admit(country, BODY_BYTES).expect("not full");
    bench(&mut group, "refusal", 1, |b| {
        b.iter(|| full.admit(country, BODY_BYTES).expect_err("full"));
    });
    group.finish();
}

criterion_group! { name = benches; config = criterion(); targets = permits }
criterion_main!(benches);
