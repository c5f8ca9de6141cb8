//! Persist: an upload's way through the whole engine, to the answer after the commit. The requests
//! are signed before the clock starts.

use std::time::{Duration, Instant};

use benches::{
    Backend, ECDSA_P256, FULL, Installation, Pending, Place, SIZES, Shape, bench, criterion,
    places, slow_group, upload,
};
use criterion::{Criterion, criterion_group, criterion_main};
use engine::upload::UploadRequest;

/// Uploads at once: one participant's share of the batches in flight.
const AT_ONCE: u32 = 16;

fn uploads(criterion: &mut Criterion) {
    for place in places() {
        one_at_a_time(criterion, &place);
        many_at_once(criterion, &place);
    }
}

fn one_at_a_time(criterion: &mut Criterion, place: &Place) {
    let mut group = slow_group(criterion, "persist");
    let backend = Backend::of(ECDSA_P256);
    for size in SIZES {
        let name = format!("persist_{size}");
        let installation = Installation::start(place, &name, Shape::default());
        let mut index = 0;
        let mut next = || {
            index += 1;
            vec![backend.upload(index, size)]
        };
        bench(&mut group, place.name(), size, |b| {
            b.iter_custom(|iterations| store(&installation, iterations, &mut next));
        });
    }
    group.finish();
}

/// What group commit gives: throughput counts the keys of all of them.
fn many_at_once(criterion: &mut Criterion, place: &Place) {
    let mut group = slow_group(criterion, "persist");
    let backend = Backend::of(ECDSA_P256);
    let installation = Installation::start(place, "persist_group", Shape::default());
    let mut index = 0;
    let mut next = || {
        let uploads = index * AT_ONCE..(index + 1) * AT_ONCE;
        index += 1;
        uploads.map(|upload| backend.upload(upload, FULL)).collect()
    };
    let shape = format!("{}_{AT_ONCE}_at_once", place.name());
    bench(&mut group, &shape, FULL * AT_ONCE, |b| {
        b.iter_custom(|iterations| store(&installation, iterations, &mut next));
    });
    group.finish();
}

fn store(
    installation: &Installation,
    iterations: u64,
    next: &mut impl FnMut() -> Vec<UploadRequest>,
) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..iterations {
        let requests = next();
        let started = Instant::now();
        let send = |request| upload(&installation.engine, request);
        let pending: Vec<Pending> = requests.into_iter().map(send).collect();
        pending.into_iter().for_each(Pending::wait);
        spent += started.elapsed();
    }
    spent
}

criterion_group! { name = benches; config = criterion(); targets = uploads }
criterion_main!(benches);
