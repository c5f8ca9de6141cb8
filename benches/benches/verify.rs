//! Verify: canonical text, order, digest, signature. `rsa_2048` and `ecdsa_p256` are the whole
//! stage; the others are its parts.

use std::hint::black_box;

use aws_lc_rs::digest::{SHA256, digest};
use benches::{Backend, NOON, RSA_2048, SHAPES, SIZES, bench, certificate_list, criterion, group};
use criterion::{Criterion, criterion_group, criterion_main};
use engine::decode::decode;
use engine::upload::UploadRequest;
use engine::validate::validate;
use engine::verify::{CanonicalBytes, Exceptions, SignatureCheck, check_signature, signed_content};

fn parts(criterion: &mut Criterion) {
    let mut group = group(criterion, "verify");
    let backend = Backend::of(RSA_2048);
    for size in SIZES {
        let body = backend.body(0, size);
        let batch = decode(&body, size).expect("well-formed");
        bench(&mut group, "canonical_text", size, |b| {
            b.iter(|| CanonicalBytes::of(black_box(&batch)));
        });
        let canonical = CanonicalBytes::of(&batch);
        let signed_bytes = canonical.signed_bytes();
        bench(&mut group, "sha256", size, |b| {
            b.iter(|| digest(&SHA256, black_box(&signed_bytes)));
        });
    }
    group.finish();
}

fn signatures(criterion: &mut Criterion) {
    let mut group = group(criterion, "verify");
    let trust = certificate_list();
    for (shape, code) in SHAPES {
        let backend = Backend::of(code);
        for size in SIZES {
            let UploadRequest {
                body,
                batch_signature,
                ..
            } = backend.upload(0, size);
            let batch = decode(&body, size).expect("well-formed");
            let batch = validate(batch, NOON).expect("valid");
            bench(&mut group, shape, size, |b| {
                b.iter(|| {
                    let content = signed_content(black_box(&batch));
                    let check = SignatureCheck {
                        batch_signature: &batch_signature,
                        signed_bytes: content.signed_bytes(),
                        content: content.digest(),
                        keys: batch.keys(),
                        exceptions: Exceptions::default(),
                        trust: &trust,
                        now: NOON,
                    };
                    check_signature(&check).expect("the signature holds")
                });
            });
            let content = signed_content(&batch);
            let check = SignatureCheck {
                batch_signature: &batch_signature,
                signed_bytes: content.signed_bytes(),
                content: content.digest(),
                keys: batch.keys(),
                exceptions: Exceptions::default(),
                trust: &trust,
                now: NOON,
            };
            bench(&mut group, &format!("{shape}_signature"), size, |b| {
                b.iter(|| check_signature(black_box(&check)).expect("the signature holds"));
            });
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = criterion(); targets = parts, signatures }
criterion_main!(benches);
