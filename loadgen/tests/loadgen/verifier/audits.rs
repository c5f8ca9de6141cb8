//! What the audit says, against the keys.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::domain::UnixMillis;
use loadgen::protocol::signed_bytes;
use loadgen::verify::{
    Auditor, Delivery, Findings, Received, SigningCertificate, check_deliveries,
};
use serde_json::{Value, json};

use super::fixture::{Batch, CLEAN, Fixture, change_keys, fixture};
use crate::support::{Key, country, pki};

/// What is found at FR, by the record and without it, when an audit is tampered with.
#[track_caller]
fn check_audit(
    tamper: impl Fn(&Fixture, &mut Vec<Batch>),
    expected: Findings,
    unrecorded: Findings,
    failure: &[&str],
) {
    let fixture = fixture();
    let found = fixture.findings_at_fr(|batches| tamper(&fixture, batches));
    assert_eq!(found, expected, "by the record");
    let verdict = fixture.audited(|batches| tamper(&fixture, batches));
    assert_eq!(verdict.findings, unrecorded, "without a record");
    let failures: Vec<_> = verdict.failures.keys().map(ToString::to_string).collect();
    assert_eq!(failures, failure);
}

/// The same, when one upload cannot be proven and nothing else is wrong.
#[track_caller]
fn check_unproven(tamper: impl Fn(&Fixture, &mut Vec<Batch>), failure: &str) {
    let expected = Findings {
        unverified: 1,
        ..CLEAN
    };
    check_audit(tamper, expected, expected, &[failure]);
}

#[test]
fn audits_an_honest_gateway_without_any_record() {
    let verdict = fixture().audited(|_| ());
    assert_eq!(verdict.findings, CLEAN);
    assert!(verdict.failures.is_empty());
    assert_eq!(verdict.delivered, 150);
}

#[test]
fn finds_a_tampered_key_without_any_record() {
    let tamper = |_: &Fixture, batches: &mut Vec<Batch>| {
        change_keys(&mut batches[0].slices[0], |keys| keys[9][10] ^= 1);
    };
    let recorded = Findings {
        missing: 1,
        unexpected: 1,
        unverified: 1,
        ..CLEAN
    };
    let alone = Findings {
        unverified: 1,
        ..CLEAN
    };
    let failure = "the batch signature is over other keys";
    check_audit(tamper, recorded, alone, &[failure]);
}

#[test]
fn finds_slices_that_are_swapped() {
    let tamper = |_: &Fixture, batches: &mut Vec<Batch>| batches[0].slices.swap(0, 1);
    let found = Findings {
        unverified: 2,
        ..CLEAN
    };
    let failure = "a key originates in another country";
    check_audit(tamper, found, found, &[failure]);
}

#[test]
fn finds_an_audit_in_another_order_than_the_keys() {
    let tamper = |_: &Fixture, batches: &mut Vec<Batch>| batches[0].audit.swap(0, 1);
    let found = Findings {
        unverified: 2,
        ..CLEAN
    };
    let failure = "a key originates in another country";
    check_audit(tamper, found, found, &[failure]);
}

#[test]
fn finds_ones_own_uploads_before_others() {
    let tamper = |_: &Fixture, batches: &mut Vec<Batch>| batches[0].audit.rotate_right(1);
    let found = Findings {
        audit_order: 1,
        ..CLEAN
    };
    check_audit(tamper, found, found, &[]);
}

#[test]
fn finds_wrong_amounts() {
    let fewer = |_: &Fixture, batches: &mut Vec<Batch>| batches[0].audit[0]["amount"] = json!(9);
    let found = Findings {
        unverified: 2,
        audit_amounts: 1,
        ..CLEAN
    };
    let recorded = Findings {
        audit_contradictions: 1,
        ..found
    };
    let failures = [
        "a key originates in another country",
        "the batch signature is over other keys",
    ];
    check_audit(fewer, recorded, found, &failures);
    let more = |_: &Fixture, batches: &mut Vec<Batch>| batches[0].audit[1]["amount"] = json!(11);
    let found = Findings {
        unverified: 1,
        audit_amounts: 1,
        ..CLEAN
    };
    let recorded = Findings {
        audit_contradictions: 1,
        ..found
    };
    let failures = ["the batch has fewer keys than the audit says"];
    check_audit(more, recorded, found, &failures);
    // Nobody downloads its own keys: only the record knows how many they are.
    let own = |_: &Fixture, batches: &mut Vec<Batch>| batches[0].audit[2]["amount"] = json!(9);
    let recorded = Findings {
        audit_contradictions: 1,
        ..CLEAN
    };
    check_audit(own, recorded, CLEAN, &[]);
}

#[test]
fn finds_foreign_signatures() {
    // FR signs DE's keys.
    let forged = |fixture: &Fixture, batches: &mut Vec<Batch>| {
        let signed = signed_bytes(&fixture.uploads[0].body).unwrap();
        let fr = &fixture.pki.participants[1];
        let at = UnixMillis(1_622_505_600_000);
        let signature = fr.signer.sign(&signed, at, loadgen::signer::Encoding::Der);
        batches[0].audit[0]["batchSignature"] = json!(STANDARD.encode(signature));
    };
    check_unproven(forged, "the batch signature is wrong");
    let broken = |_: &Fixture, batches: &mut Vec<Batch>| {
        batches[0].audit[0]["batchSignature"] = json!("MIIB");
    };
    let found = Findings {
        unverified: 1,
        ..CLEAN
    };
    let recorded = Findings {
        audit_missing: 1,
        audit_unknown: 1,
        unverified: 2,
        ..found
    };
    let failure = "the batch signature is not a CMS SignedData with one signer";
    check_audit(broken, recorded, found, &[failure]);
}

#[test]
fn finds_the_signature_of_another_upload() {
    // DE's first upload is shown with the signature of DE's second.
    let tamper = |fixture: &Fixture, batches: &mut Vec<Batch>| {
        batches[0].audit[0]["batchSignature"] = json!(fixture.uploads[1].batch_signature);
    };
    let recorded = Findings {
        unverified: 1,
        audit_missing: 1,
        audit_contradictions: 1,
        ..CLEAN
    };
    let alone = Findings {
        unverified: 1,
        // Its content seems to come twice, and first in another batch than to the others.
        duplicate: 10,
        disagreements: 1,
        ..CLEAN
    };
    let failure = "the batch signature is over other keys";
    check_audit(tamper, recorded, alone, &[failure]);
}

#[test]
fn finds_ones_own_upload_with_a_signature_that_is_not_ones_own() {
    let tamper = |fixture: &Fixture, batches: &mut Vec<Batch>| {
        let own = &fixture.uploads[3];
        assert_eq!(own.spec.country, country("FR"));
        let signed = signed_bytes(&own.body).unwrap();
        let at = UnixMillis(1_622_505_600_000);
        let de = &fixture.pki.participants[0];
        let signature = de.signer.sign(&signed, at, loadgen::signer::Encoding::Der);
        batches[0].audit[2]["batchSignature"] = json!(STANDARD.encode(signature));
    };
    check_unproven(tamper, "the batch signature is wrong");
}

#[test]
fn finds_missing_and_foreign_operator_signatures() {
    for (member, certificate) in [
        ("uploaderOperatorSignature", "uploader"),
        ("signingCertificateOperatorSignature", "signing"),
    ] {
        let failure = format!("the {certificate} certificate has no valid operator signature");
        let missing =
            |_: &Fixture, batches: &mut Vec<Batch>| batches[0].audit[0][member] = json!("");
        check_unproven(missing, &failure);
        // The signature over IT's certificate.
        let foreign = |_: &Fixture, batches: &mut Vec<Batch>| {
            batches[0].audit[0][member] = batches[0].audit[1][member].clone();
        };
        check_unproven(foreign, &failure);
    }
}

#[test]
fn believes_in_no_other_operator() {
    let fixture = fixture();
    let other = pki(&[("DE", Key::P256)]);
    let anchor = SigningCertificate::from_der(&other.anchor()).unwrap();
    let auditor = Arc::new(Auditor::new(anchor));
    let expected = Arc::new(fixture.expected().unwrap());
    let mut delivery = Delivery::new(Arc::clone(&expected), auditor, country("DE"));
    for batch in fixture.batches(country("DE")) {
        batch.deliver(&mut delivery);
    }
    let found = check_deliveries(&expected, vec![delivery], false).findings;
    // Six uploads of the others, three of its own.
    assert_eq!(found.unverified, 9);
}

#[test]
fn finds_certificates_that_are_not_what_is_said_of_them() {
    let failure = |what: &str| format!("the signing certificate {what}");
    let set = |member: &'static str, value: &'static str| {
        move |_: &Fixture, batches: &mut Vec<Batch>| batches[0].audit[0][member] = json!(value)
    };
    let nothing = set("signingCertificate", "");
    check_unproven(nothing, &failure("is not a certificate"));
    let crlf = |_: &Fixture, batches: &mut Vec<Batch>| {
        let pem = batches[0].audit[0]["signingCertificate"].as_str().unwrap();
        batches[0].audit[0]["signingCertificate"] = json!(pem.replace('\n', "\r\n"));
    };
    check_unproven(crlf, &failure("is written in another form of PEM"));
    let expected = Findings {
        unverified: 1,
        ..CLEAN
    };
    let recorded = Findings {
        audit_contradictions: 1,
        ..expected
    };
    let failures = failure("has another thumbprint");
    let other = set("uploaderSigningThumbprint", "ab");
    check_audit(other, recorded, expected, &[&failures]);
    // IT's certificate, with its operator signature and thumbprint, in place of DE's.
    let members = [
        "signingCertificate",
        "uploaderSigningThumbprint",
        "signingCertificateOperatorSignature",
    ];
    let foreign = |_: &Fixture, batches: &mut Vec<Batch>| {
        for member in members {
            batches[0].audit[0][member] = batches[0].audit[1][member].clone();
        }
    };
    let failures = failure("is another country's");
    check_audit(foreign, recorded, expected, &[&failures]);
    // The certificates of these tests begin in 1975.
    let early = set("uploadedTime", "1970-01-01T00:00:00Z");
    let failures = "the uploader certificate was not valid at the time of the upload";
    check_unproven(early, failures);
}

#[test]
fn finds_an_audit_that_is_refused_or_has_a_null() {
    let null = |_: &Fixture, batches: &mut Vec<Batch>| {
        batches[0].audit[2]["uploaderCertificate"] = Value::Null;
    };
    let recorded = Findings {
        unverified: 2,
        audit_unreadable: 1,
        audit_missing: 3,
        ..CLEAN
    };
    let alone = Findings {
        audit_unreadable: 1,
        ..CLEAN
    };
    check_audit(null, recorded, alone, &[]);
    let fixture = fixture();
    let expected = Arc::new(fixture.expected().unwrap());
    let mut delivery = Delivery::new(Arc::clone(&expected), fixture.auditor(), country("FR"));
    for batch in fixture.batches(country("FR")) {
        delivery.take(&Received {
            tag: &batch.tag,
            next: &batch.next,
            body: &batch.slices.concat(),
            audit: None,
        });
    }
    let found = check_deliveries(&expected, vec![delivery], false).findings;
    let refused = Findings {
        unverified: 6,
        audit_unreadable: 3,
        audit_missing: 9,
        ..CLEAN
    };
    assert_eq!(found, refused);
}

#[test]
fn finds_an_upload_that_the_audit_leaves_out() {
    let own = |_: &Fixture, batches: &mut Vec<Batch>| drop(batches[0].audit.pop());
    let recorded = Findings {
        audit_missing: 1,
        ..CLEAN
    };
    check_audit(own, recorded, CLEAN, &[]);
    let last = |_: &Fixture, batches: &mut Vec<Batch>| drop(batches[0].audit.remove(1));
    let alone = Findings {
        audit_amounts: 1,
        ..CLEAN
    };
    let recorded = Findings {
        unverified: 1,
        audit_missing: 1,
        ..alone
    };
    check_audit(last, recorded, alone, &[]);
}
