//! Hostile bytes: seeded mutations of the test vectors, fed to everything that reads what others
//! sent. No panic, output bounded by the input, and nothing verifies that was not signed.
//!
//! Each test runs for two seconds; `EFGS_FUZZ_SECONDS` says otherwise, `EFGS_SEED` chooses another
//! seed. A failure prints the line that runs the one input again. What each input is fed to, and
//! what must hold, is in `fuzz/src/lib.rs`, which the guided fuzzers use, too.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::seal::Keys;
use rand::Rng;

#[path = "../../../fuzz/src/lib.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a crate of its own for the fuzz targets"
)]
mod entries;
mod mutate;
mod run;
mod samples;

use entries::SignedUpload;
use mutate::{BER, JSON, PROTOBUF, TEXT, change, grow_keys, grow_list, mutate, pick};
use run::{corpus, fuzz};
use samples::{case_files, files, folder, registry, signed_uploads};

#[test]
fn survives_protobuf_bodies() {
    let mut seeds = case_files("batch.pb");
    seeds.extend(files(&folder().join("protobuf-malformed"), "bin"));
    fuzz("survives_protobuf_bodies", |random| {
        entries::protobuf_body(&mutate(random, &seeds, PROTOBUF));
    });
}

#[test]
fn survives_json_bodies() {
    let seeds = case_files("batch.json");
    fuzz("survives_json_bodies", |random| {
        entries::json_body(&mutate(random, &seeds, JSON));
    });
}

#[test]
fn works_in_proportion_to_a_long_list() {
    let (json, protobuf) = (case_files("batch.json"), case_files("batch.pb"));
    fuzz("works_in_proportion_to_a_long_list", |random| {
        if random.random_bool(0.5) {
            let mut body = pick(random, &json).clone();
            grow_list(random, &mut body);
            entries::json_body(&body);
        } else {
            let mut body = pick(random, &protobuf).clone();
            grow_keys(random, &mut body);
            entries::protobuf_body(&body);
        }
    });
}

#[test]
fn accepts_no_signature_whose_signed_parts_changed() {
    let (trust, samples) = (registry(), signed_uploads());
    let decode = |sample: &SignedUpload| STANDARD.decode(&sample.header).unwrap_or_default();
    let seeds: Vec<_> = samples.iter().map(decode).collect();
    fuzz(
        "accepts_no_signature_whose_signed_parts_changed",
        |random| {
            let at = random.random_range(0..samples.len());
            // Splices come from all signatures, the rest is this one's.
            let mut message = seeds[at].clone();
            for _ in 0..random.random_range(1..=3) {
                change(random, &mut message, &seeds, BER);
            }
            let header = STANDARD.encode(&message);
            entries::batch_signature(&trust, &samples[at], &header);
        },
    );
}

#[test]
fn survives_text_in_place_of_base64() {
    let (trust, samples) = (registry(), signed_uploads());
    let header = |sample: &SignedUpload| sample.header.clone().into_bytes();
    let seeds: Vec<_> = samples.iter().map(header).collect();
    fuzz("survives_text_in_place_of_base64", |random| {
        let at = random.random_range(0..samples.len());
        let mut header = seeds[at].clone();
        change(random, &mut header, &seeds, TEXT);
        entries::batch_signature(&trust, &samples[at], &String::from_utf8_lossy(&header));
    });
}

#[test]
fn accepts_a_signature_only_for_the_signed_keys() {
    let (trust, samples) = (registry(), signed_uploads());
    let bodies: Vec<_> = samples.iter().map(|sample| sample.body.clone()).collect();
    fuzz("accepts_a_signature_only_for_the_signed_keys", |random| {
        let at = random.random_range(0..samples.len());
        let mut body = bodies[at].clone();
        change(random, &mut body, &bodies, PROTOBUF);
        entries::signed_body(&trust, &samples[at], &body);
    });
}

#[test]
fn survives_certificates() {
    let (anchor, row) = entries::sample_certificate();
    let pem = files(&folder().join("pki"), "pem");
    let contents = |pem: &Vec<u8>| pem::parse(pem).map(pem::Pem::into_contents).ok();
    let der: Vec<_> = pem.iter().filter_map(contents).collect();
    assert!(der.len() > 30, "the vectors hold certificates");
    let listed = [row.pem.as_bytes().to_vec()];
    fuzz("survives_certificates", |random| {
        let input = match random.random_range(0..4) {
            0 => mutate(random, &listed, TEXT),
            1 => mutate(random, &pem, TEXT),
            _ => mutate(random, &der, BER),
        };
        entries::certificate(&anchor, &row, &input);
    });
}

#[test]
fn survives_tags_and_dates() {
    let seeds: Vec<_> = [
        "2020-10-06",
        "2020-10-06+02:00",
        "2024-02-29Z",
        "20201006-17",
        "20201006",
        "DE",
        "2020-10-5-Ab+/==-1",
        "5de1809c416802b51df9e57fb38adba9f1408d807e2ede3c5d4d8bd8ffaa28aa",
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec();
    fuzz("survives_tags_and_dates", |random| {
        let input = mutate(random, &seeds, TEXT);
        entries::short_text(&String::from_utf8_lossy(&input));
    });
}

#[test]
fn survives_state_files() {
    let digest = "07".repeat(32);
    let whole = format!(
        "efgs state file 1\nepoch 2\nrow 931 1602028800000 {digest}\nbatch 5 20201007-3 {digest}\n\
         cutting 20201007-4\n"
    );
    fuzz("survives_state_files", |random| {
        let input = mutate(random, &[whole.clone().into_bytes()], TEXT);
        engine::fuzzing::state_file(&String::from_utf8_lossy(&input));
    });
}

#[test]
fn survives_rows_of_a_reference_database() {
    let (trust, _) = entries::sample_upload();
    let keys = Keys::parse(&Keys::generate_text()).unwrap();
    let row = b"0123456789abcdef\n2696400\n144\n3\nFR,PL\nDE\nCONFIRMED_TEST\n-3".to_vec();
    fuzz("survives_rows_of_a_reference_database", |random| {
        let input = mutate(random, std::slice::from_ref(&row), TEXT);
        engine::fuzzing::import_columns(&trust, &keys, &input);
    });
}

/// The inputs that the guided fuzzers keep, on every run.
#[test]
fn survives_the_corpora() {
    let (trust, sample) = entries::sample_upload();
    let (anchor, row) = entries::sample_certificate();
    let keys = Keys::parse(&Keys::generate_text()).unwrap();
    corpus("protobuf_body", entries::protobuf_body);
    corpus("json_body", entries::json_body);
    corpus("signed_body", |body| {
        entries::signed_body(&trust, &sample, body);
    });
    corpus("certificate", |bytes| {
        entries::certificate(&anchor, &row, bytes);
    });
    corpus("import_columns", |bytes| {
        engine::fuzzing::import_columns(&trust, &keys, bytes);
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    corpus("batch_signature", |bytes| {
        entries::batch_signature(&trust, &sample, &text(bytes));
    });
    corpus("short_text", |bytes| entries::short_text(&text(bytes)));
    corpus("state_file", |bytes| {
        engine::fuzzing::state_file(&text(bytes));
    });
}
