//! Dedup: identities computed, probed, checked for repeats; and inserted by the writer.

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::{
    Backend, NOON, RSA_2048, SIZES, StageFixture, bench, criterion, group, random_identities,
};
use criterion::{Criterion, criterion_group, criterion_main};
use engine::decode::decode;
use engine::dedup::{find_repeats, identify};
use engine::domain::Seq;
use engine::verify::CanonicalBytes;

fn probes(criterion: &mut Criterion) {
    let mut group = group(criterion, "dedup");
    let backend = Backend::of(RSA_2048);
    let fixture = StageFixture::full();
    for size in SIZES {
        let body = backend.body(0, size);
        let canonical = CanonicalBytes::of(&decode(&body, size).expect("well-formed"));
        bench(&mut group, "identify", size, |b| {
            b.iter(|| identify(black_box(&canonical), &fixture.keys));
        });
        let identities = identify(&canonical, &fixture.keys);
        bench(&mut group, "probe", size, |b| {
            b.iter(|| {
                let known = fixture.set.shared().find_known(black_box(&identities));
                (known, find_repeats(&identities, canonical.order()))
            });
        });
    }
    group.finish();
}

fn inserts(criterion: &mut Criterion) {
    let mut group = group(criterion, "dedup");
    for size in SIZES {
        let mut set = StageFixture::full().set;
        let mut seed = 3;
        bench(&mut group, "insert", size, |b| {
            b.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    seed += 1;
                    let new = random_identities(seed, size as usize);
                    let started = Instant::now();
                    set.insert(&new, NOON.day(), Seq(seed));
                    spent += started.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = criterion(); targets = probes, inserts }
criterion_main!(benches);
