//! The walk: an upload through all CPU stages, from its body to the sealed batch, on one core.

use benches::{
    Backend, NOON, SHAPES, SIZES, bench, certificate_list, criterion, group, keys,
    random_identities, scaled,
};
use criterion::{Criterion, criterion_group, criterion_main};
use engine::ManualClock;
use engine::admission::Admission;
use engine::dedup::{IdentitySetWriter, TagIndex};
use engine::domain::Seq;
use engine::settings::UploadSettings;
use engine::upload::{Prepared, Surroundings, UploadRequest, prepare};

/// Four worst days: more than the caches of any processor hold.
const KNOWN: usize = 4_000_000;

fn walks(criterion: &mut Criterion) {
    let mut group = group(criterion, "walk");
    let mut set = IdentitySetWriter::new(Seq::ZERO);
    set.insert(
        &random_identities(2, scaled(KNOWN, 10_000)),
        NOON.day(),
        Seq(1),
    );
    let (settings, keys, trust) = (UploadSettings::default(), keys(), certificate_list());
    let (tags, clock) = (TagIndex::default(), ManualClock::new(NOON));
    let around = Surroundings {
        settings: &settings,
        legacy_sha1: &[],
        keys: &keys,
        trust: &trust,
        set: set.shared(),
        tags: &tags,
        clock: &clock,
    };
    let admission = Admission::default();
    let walk = |request: &UploadRequest| {
        let permit = admission.admit(request.country, request.body.len());
        match prepare(request, permit.expect("there is room"), &around) {
            Ok(Prepared::Sealed(batch)) => batch,
            other => panic!("not stored: {other:?}"),
        }
    };
    for (shape, code) in SHAPES {
        let backend = Backend::of(code);
        for size in SIZES {
            let request = backend.upload(0, size);
            bench(&mut group, shape, size, |b| b.iter(|| walk(&request)));
            let request = backend.json_upload(0, size);
            let shape = format!("{shape}_json");
            bench(&mut group, &shape, size, |b| b.iter(|| walk(&request)));
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = criterion(); targets = walks }
criterion_main!(benches);
