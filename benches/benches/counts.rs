//! Instruction counts of every CPU stage, by callgrind: the same for the same code, inputs and
//! compiler, whatever else the machine is doing.
//!
//! A function is `STAGE_SHAPE`, its benches are the keys of the upload; `perf` reads the counts of
//! `stage/shape/size` out of what gungraun writes and compares them with `perf-reports/baseline`.
//! Inputs are made before counting begins, and each function runs twice before it is counted, so
//! that tables are filled, the random generator is seeded and the allocator has its pages. Results
//! are dropped after counting has ended.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    reason = "what the macros of gungraun write"
)]

use std::hint::black_box;

use benches::{
    ECDSA_P256, FULL, NOON, RSA_2048, StageFixture, random_identities, recorded_upload,
    spread_download,
};
use engine::Overload;
use engine::admission::{Admission, Permit};
use engine::bundle::Download;
use engine::decode::{DecodedBatch, decode};
use engine::dedup::{IdentitySetWriter, find_repeats, identify};
use engine::domain::{ContentDigest, Country, Format, KeyIdentity, Seq, Thumbprint};
use engine::upload::{SealedBatch, UploadRequest};
use engine::validate::{ValidBatch, check_origins, validate};
use engine::verify::{CanonicalBytes, Exceptions, SignatureCheck, check_signature, signed_content};
use engine::wire::json;
use gungraun::{
    Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};

/// Lives while the process does: each bench is one process.
fn keep<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn country(code: &str) -> Country {
    Country::parse(code).expect("two letters")
}

fn rsa(keys: u32) -> &'static UploadRequest {
    keep(recorded_upload(RSA_2048, keys, Format::Protobuf))
}

fn p256(keys: u32) -> &'static UploadRequest {
    keep(recorded_upload(ECDSA_P256, keys, Format::Protobuf))
}

fn as_json(keys: u32) -> &'static UploadRequest {
    keep(recorded_upload(RSA_2048, keys, Format::Json))
}

fn decoded(keys: u32) -> DecodedBatch<'static> {
    decode(&rsa(keys).body, keys).expect("well-formed")
}

fn valid(request: &'static UploadRequest) -> ValidBatch<'static> {
    let batch = decode(&request.body, FULL).expect("well-formed");
    validate(batch, NOON).expect("valid")
}

/// Runs the work twice on the inputs of the counted run.
fn warm<T: Copy, R>(input: T, work: impl Fn(T) -> R) -> T {
    for _ in 0..2 {
        drop(black_box(work(black_box(input))));
    }
    input
}

// Admission --------------------------------------------------------------------------------------

type Gate = (&'static Admission, Country);

fn take(gate: Gate) -> Result<Permit, Overload> {
    gate.0.admit(gate.1, 300_000)
}

fn open_gate(_: u32) -> Gate {
    warm((keep(Admission::default()), country("DE")), take)
}

fn shut_gate(_: u32) -> Gate {
    let admission = keep(Admission::new(1, 4 << 20));
    let _ = keep(admission.admit(country("DE"), 300_000).expect("not full"));
    warm((admission, country("DE")), take)
}

#[library_benchmark]
#[bench::k1(args = (1), setup = open_gate)]
fn admission_permit(gate: Gate) {
    drop(black_box(take(gate)));
}

#[library_benchmark]
#[bench::k1(args = (1), setup = shut_gate)]
fn admission_refusal(gate: Gate) -> Result<Permit, Overload> {
    take(gate)
}

// Decode -----------------------------------------------------------------------------------------

type Body = (&'static [u8], u32);

fn of_protobuf((body, keys): Body) -> DecodedBatch<'static> {
    decode(body, keys).expect("well-formed")
}

fn of_json((body, keys): Body) -> Vec<u8> {
    json::to_protobuf(body, keys).expect("JSON")
}

fn protobuf_body(keys: u32) -> Body {
    warm((&*rsa(keys).body, keys), of_protobuf)
}

fn json_body(keys: u32) -> Body {
    warm((&*as_json(keys).body, keys), of_json)
}

#[library_benchmark]
#[bench::k1(args = (1), setup = protobuf_body)]
#[bench::k100(args = (100), setup = protobuf_body)]
#[bench::k5000(args = (5000), setup = protobuf_body)]
fn decode_protobuf(body: Body) -> DecodedBatch<'static> {
    of_protobuf(body)
}

// JSON to protobuf: what comes before decoding.
#[library_benchmark]
#[bench::k1(args = (1), setup = json_body)]
#[bench::k100(args = (100), setup = json_body)]
#[bench::k5000(args = (5000), setup = json_body)]
fn decode_json(body: Body) -> Vec<u8> {
    of_json(body)
}

// Validate ---------------------------------------------------------------------------------------

fn ready_to_validate(keys: u32) -> DecodedBatch<'static> {
    for _ in 0..2 {
        drop(black_box(validate(decoded(keys), NOON)));
    }
    decoded(keys)
}

fn ready_for_origins(keys: u32) -> &'static DecodedBatch<'static> {
    let check = |batch: &'static DecodedBatch<'static>| check_origins(batch, country(RSA_2048));
    warm(keep(decoded(keys)), check)
}

#[library_benchmark]
#[bench::k1(args = (1), setup = ready_to_validate)]
#[bench::k100(args = (100), setup = ready_to_validate)]
#[bench::k5000(args = (5000), setup = ready_to_validate)]
fn validate_rules(batch: DecodedBatch<'static>) -> ValidBatch<'static> {
    validate(batch, NOON).expect("valid")
}

#[library_benchmark]
#[bench::k1(args = (1), setup = ready_for_origins)]
#[bench::k100(args = (100), setup = ready_for_origins)]
#[bench::k5000(args = (5000), setup = ready_for_origins)]
fn validate_origins(batch: &'static DecodedBatch<'static>) {
    check_origins(batch, country(RSA_2048)).expect("its own keys");
}

// Verify -----------------------------------------------------------------------------------------

#[derive(Clone, Copy)]
struct Signed {
    request: &'static UploadRequest,
    batch: &'static ValidBatch<'static>,
    fixture: &'static StageFixture,
}

fn signature(signed: Signed) -> Thumbprint {
    let content = signed_content(signed.batch);
    let check = SignatureCheck {
        batch_signature: &signed.request.batch_signature,
        signed_bytes: content.signed_bytes(),
        content: content.digest(),
        keys: signed.batch.keys(),
        exceptions: Exceptions::default(),
        trust: &signed.fixture.trust,
        now: NOON,
    };
    check_signature(&check)
        .expect("the signature holds")
        .thumbprint
}

fn signed(request: &'static UploadRequest) -> Signed {
    let signed = Signed {
        request,
        batch: keep(valid(request)),
        fixture: keep(StageFixture::small()),
    };
    warm(signed, signature)
}

fn signed_rsa(keys: u32) -> Signed {
    signed(rsa(keys))
}

fn signed_p256(keys: u32) -> Signed {
    signed(p256(keys))
}

fn content(batch: &'static ValidBatch<'static>) -> ContentDigest {
    *signed_content(batch).digest()
}

fn ready_for_content(keys: u32) -> &'static ValidBatch<'static> {
    warm(keep(valid(rsa(keys))), content)
}

// Canonical text, order and SHA-256.
#[library_benchmark]
#[bench::k1(args = (1), setup = ready_for_content)]
#[bench::k100(args = (100), setup = ready_for_content)]
#[bench::k5000(args = (5000), setup = ready_for_content)]
fn verify_content(batch: &'static ValidBatch<'static>) -> ContentDigest {
    content(batch)
}

#[library_benchmark]
#[bench::k1(args = (1), setup = signed_rsa)]
#[bench::k100(args = (100), setup = signed_rsa)]
#[bench::k5000(args = (5000), setup = signed_rsa)]
fn verify_rsa_2048(signed: Signed) -> Thumbprint {
    signature(signed)
}

#[library_benchmark]
#[bench::k1(args = (1), setup = signed_p256)]
#[bench::k100(args = (100), setup = signed_p256)]
#[bench::k5000(args = (5000), setup = signed_p256)]
fn verify_ecdsa_p256(signed: Signed) -> Thumbprint {
    signature(signed)
}

// Dedup ------------------------------------------------------------------------------------------

#[derive(Clone, Copy)]
struct Known {
    fixture: &'static StageFixture,
    canonical: &'static CanonicalBytes,
    identities: &'static [KeyIdentity],
}

fn known(keys: u32) -> Known {
    let fixture = keep(StageFixture::small());
    let canonical = keep(CanonicalBytes::of(&decoded(keys)));
    Known {
        fixture,
        canonical,
        identities: keep(identify(canonical, &fixture.keys)),
    }
}

fn identities(known: Known) -> Vec<KeyIdentity> {
    identify(known.canonical, &known.fixture.keys)
}

fn probe(known: Known) -> (Vec<u32>, Vec<u32>) {
    let found = known.fixture.set.shared().find_known(known.identities);
    let repeats = find_repeats(known.identities, known.canonical.order());
    (found, repeats)
}

fn ready_to_identify(keys: u32) -> Known {
    warm(known(keys), identities)
}

fn ready_to_probe(keys: u32) -> Known {
    warm(known(keys), probe)
}

/// Identities that are new; a few of the set's shards grow for them, as they do in a gateway.
fn ready_to_insert(keys: u32) -> (IdentitySetWriter, Vec<KeyIdentity>) {
    let mut set = StageFixture::small().set;
    for seed in [3, 4] {
        set.insert(
            &random_identities(seed, keys as usize),
            NOON.day(),
            Seq(seed),
        );
    }
    (set, random_identities(5, keys as usize))
}

#[library_benchmark]
#[bench::k1(args = (1), setup = ready_to_identify)]
#[bench::k100(args = (100), setup = ready_to_identify)]
#[bench::k5000(args = (5000), setup = ready_to_identify)]
fn dedup_identify(known: Known) -> Vec<KeyIdentity> {
    identities(known)
}

#[library_benchmark]
#[bench::k1(args = (1), setup = ready_to_probe)]
#[bench::k100(args = (100), setup = ready_to_probe)]
#[bench::k5000(args = (5000), setup = ready_to_probe)]
fn dedup_probe(known: Known) -> (Vec<u32>, Vec<u32>) {
    probe(known)
}

#[library_benchmark]
#[bench::k1(args = (1), setup = ready_to_insert)]
#[bench::k100(args = (100), setup = ready_to_insert)]
#[bench::k5000(args = (5000), setup = ready_to_insert)]
fn dedup_insert(
    input: (IdentitySetWriter, Vec<KeyIdentity>),
) -> (IdentitySetWriter, Vec<KeyIdentity>) {
    let (mut set, new) = input;
    set.insert(&new, NOON.day(), Seq(5));
    (set, new)
}

// Bundle -----------------------------------------------------------------------------------------

type Segment = (&'static StageFixture, &'static [u8]);

fn sealed((fixture, segment): Segment) -> Vec<u8> {
    fixture.keys.seal(segment, b"DEbench")
}

fn written_as_json((_, segment): Segment) -> Vec<u8> {
    let mut out = Vec::with_capacity(segment.len() * 4);
    json::write_segment(&mut out, segment);
    out
}

fn segment(keys: u32) -> Segment {
    let segment = keep(decoded(keys).encode_segment());
    (keep(StageFixture::small()), segment)
}

fn ready_to_encode(keys: u32) -> &'static DecodedBatch<'static> {
    warm(keep(decoded(keys)), DecodedBatch::encode_segment)
}

fn ready_to_seal(keys: u32) -> Segment {
    warm(segment(keys), sealed)
}

fn ready_for_json(keys: u32) -> Segment {
    warm(segment(keys), written_as_json)
}

#[library_benchmark]
#[bench::k1(args = (1), setup = ready_to_encode)]
#[bench::k100(args = (100), setup = ready_to_encode)]
#[bench::k5000(args = (5000), setup = ready_to_encode)]
fn bundle_segment(batch: &'static DecodedBatch<'static>) -> Vec<u8> {
    batch.encode_segment()
}

#[library_benchmark]
#[bench::k1(args = (1), setup = ready_to_seal)]
#[bench::k100(args = (100), setup = ready_to_seal)]
#[bench::k5000(args = (5000), setup = ready_to_seal)]
fn bundle_seal(segment: Segment) -> Vec<u8> {
    sealed(segment)
}

#[library_benchmark]
#[bench::k1(args = (1), setup = ready_for_json)]
#[bench::k100(args = (100), setup = ready_for_json)]
#[bench::k5000(args = (5000), setup = ready_for_json)]
fn bundle_json(segment: Segment) -> Vec<u8> {
    written_as_json(segment)
}

// Serve ------------------------------------------------------------------------------------------

fn assembled(download: &'static Download) -> usize {
    download.chunks().map(|chunk| black_box(chunk).len()).sum()
}

fn in_protobuf(keys: u32) -> &'static Download {
    warm(keep(spread_download(keys, Format::Protobuf)), assembled)
}

fn in_json(keys: u32) -> &'static Download {
    warm(keep(spread_download(keys, Format::Json)), assembled)
}

// The cost of a download beyond its lookup: taking its chunks one after the other.
#[library_benchmark]
#[bench::k1(args = (1), setup = in_protobuf)]
#[bench::k100(args = (100), setup = in_protobuf)]
#[bench::k5000(args = (5000), setup = in_protobuf)]
fn serve_protobuf(download: &'static Download) -> usize {
    assembled(download)
}

#[library_benchmark]
#[bench::k1(args = (1), setup = in_json)]
#[bench::k100(args = (100), setup = in_json)]
#[bench::k5000(args = (5000), setup = in_json)]
fn serve_json(download: &'static Download) -> usize {
    assembled(download)
}

// Walk -------------------------------------------------------------------------------------------

type Walk = (&'static StageFixture, &'static UploadRequest);

fn walked((fixture, request): Walk) -> Box<SealedBatch> {
    fixture.walk(request)
}

fn walk_with(request: &'static UploadRequest) -> Walk {
    warm((keep(StageFixture::small()), request), walked)
}

fn rsa_walk(keys: u32) -> Walk {
    walk_with(rsa(keys))
}

fn p256_walk(keys: u32) -> Walk {
    walk_with(p256(keys))
}

fn json_walk(keys: u32) -> Walk {
    walk_with(as_json(keys))
}

#[library_benchmark]
#[bench::k1(args = (1), setup = rsa_walk)]
#[bench::k100(args = (100), setup = rsa_walk)]
#[bench::k5000(args = (5000), setup = rsa_walk)]
fn walk_rsa_2048(walk: Walk) -> Box<SealedBatch> {
    walked(walk)
}

#[library_benchmark]
#[bench::k1(args = (1), setup = p256_walk)]
#[bench::k100(args = (100), setup = p256_walk)]
#[bench::k5000(args = (5000), setup = p256_walk)]
fn walk_ecdsa_p256(walk: Walk) -> Box<SealedBatch> {
    walked(walk)
}

#[library_benchmark]
#[bench::k1(args = (1), setup = json_walk)]
#[bench::k100(args = (100), setup = json_walk)]
#[bench::k5000(args = (5000), setup = json_walk)]
fn walk_rsa_2048_json(walk: Walk) -> Box<SealedBatch> {
    walked(walk)
}

library_benchmark_group!(
    name = admission,
    benchmarks = [admission_permit, admission_refusal]
);
library_benchmark_group!(name = decoding, benchmarks = [decode_protobuf, decode_json]);
library_benchmark_group!(
    name = validation,
    benchmarks = [validate_rules, validate_origins]
);
library_benchmark_group!(
    name = verification,
    benchmarks = [verify_content, verify_rsa_2048, verify_ecdsa_p256]
);
library_benchmark_group!(
    name = deduplication,
    benchmarks = [dedup_identify, dedup_probe, dedup_insert]
);
library_benchmark_group!(
    name = bundling,
    benchmarks = [bundle_segment, bundle_seal, bundle_json]
);
library_benchmark_group!(name = serving, benchmarks = [serve_protobuf, serve_json]);
library_benchmark_group!(
    name = walking,
    benchmarks = [walk_rsa_2048, walk_ecdsa_p256, walk_rsa_2048_json]
);

// mimalloc returns memory after some time, which is the only thing here that depends on a clock.
main!(
    config = LibraryBenchmarkConfig::default()
        .tool(Callgrind::with_args(["--cache-sim=no"]))
        .env("MIMALLOC_PURGE_DELAY", "-1"),
    library_benchmark_groups = [
        admission,
        decoding,
        validation,
        verification,
        deduplication,
        bundling,
        serving,
        walking
    ]
);
