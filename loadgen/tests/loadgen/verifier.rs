//! The verifier, against deliveries that are honest and deliveries that are not. What the gateway
//! should serve is written down here from the protocol: each other participant's uploads, whole and
//! in the same order.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::domain::{Country, Day, UnixMillis};
use loadgen::protocol::signed_bytes;
use loadgen::record::{Fate, Record, RecordedUpload};
use loadgen::verify::{
    Auditor, Delivery, Expected, Findings, Received, SigningCertificate, Verdict, VerifyError,
    check_deliveries,
};
use loadgen::workload::{PreparedUpload, Workload};
use serde_json::{Value, json};

use crate::support::{Key, Pki, country, openssl, pki};

/// Three participants with three uploads each: 10, 10 and 5 keys.
struct Scene {
    pki: Pki,
    thumbprints: BTreeMap<String, String>,
    uploads: Vec<PreparedUpload>,
    record: Record,
}

/// One download batch as one participant receives it: the uploads' bodies, kept apart, and the
/// entries of its audit, the participant's own last.
#[derive(Clone)]
struct Batch {
    tag: String,
    next: String,
    slices: Vec<Vec<u8>>,
    audit: Vec<Value>,
}

fn scene() -> Scene {
    let pki = pki(&[("DE", Key::P256), ("FR", Key::Rsa), ("IT", Key::P256)]);
    let day = Day::parse_iso("2021-06-01").unwrap();
    let shares = ["DE", "FR", "IT"].map(|code| (country(code), 25));
    let workload = Workload::new(9, 10, day, &shares);
    let at = UnixMillis(day.start_unix_seconds() * 1000);
    let uploads = workload.prepare(&pki.participants, at, |_| ()).unwrap();
    let record = Record {
        profile: "test".to_owned(),
        seed: workload.seed,
        countries: workload.countries,
        uploads: uploads.iter().map(recorded).collect(),
    };
    Scene {
        thumbprints: thumbprints(&pki),
        pki,
        uploads,
        record,
    }
}

/// By `COUNTRY/NAME`, as OpenSSL computes them.
fn thumbprints(pki: &Pki) -> BTreeMap<String, String> {
    let names = ["DE", "FR", "IT"]
        .into_iter()
        .flat_map(|code| ["authentication", "signing"].map(|name| format!("{code}/{name}")));
    let thumbprint = |name: String| {
        let path = pki.folder.path().join(format!("{name}.pem"));
        let path = path.to_str().unwrap();
        let output = openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", path]);
        let text = String::from_utf8(output.stdout).unwrap();
        let digits = text.trim().rsplit('=').next().unwrap().replace(':', "");
        // The form of the reference: without leading zero digits, unless it is only one.
        let digits = digits.to_lowercase();
        let short = digits.trim_start_matches('0');
        let legacy = if short.len() < 63 { short } else { &digits };
        (name, legacy.to_owned())
    };
    names.map(thumbprint).collect()
}

fn recorded(upload: &PreparedUpload) -> RecordedUpload {
    RecordedUpload {
        spec: upload.spec.clone(),
        fate: Fate::Stored,
        signed_digest: upload.signed_digest,
        batch_signature: upload.batch_signature.clone(),
    }
}

impl Scene {
    /// Three batches of three uploads each, one of each country, without the receiver's own.
    fn batches(&self, receiver: Country) -> Vec<Batch> {
        let batch = |number: u32| {
            let all = self
                .uploads
                .iter()
                .filter(|upload| upload.spec.index + 1 == number);
            let (own, theirs): (Vec<_>, Vec<_>) =
                all.partition(|upload| upload.spec.country == receiver);
            Batch {
                audit: theirs
                    .iter()
                    .chain(&own)
                    .map(|upload| self.entry(upload))
                    .collect(),
                tag: format!("20210601-{number}"),
                next: if number < 3 {
                    format!("20210601-{}", number + 1)
                } else {
                    "null".into()
                },
                slices: theirs.iter().map(|upload| upload.body.to_vec()).collect(),
            }
        };
        (1..=3).map(batch).collect()
    }

    /// What the audit says of an upload (wire §15), thumbprints from OpenSSL.
    fn entry(&self, upload: &PreparedUpload) -> Value {
        let country = upload.spec.country.to_string();
        let (uploader, vouched_uploader) = self.pki.vouched(&country, "authentication");
        let (signer, vouched_signer) = self.pki.vouched(&country, "signing");
        json!({
            "country": country,
            "uploadedTime": "2021-06-01T09:12:33.120Z",
            "uploaderCertificate": uploader,
            "uploaderThumbprint": self.thumbprints[&format!("{country}/authentication")],
            "uploaderOperatorSignature": vouched_uploader,
            "signingCertificate": signer,
            "uploaderSigningThumbprint": self.thumbprints[&format!("{country}/signing")],
            "signingCertificateOperatorSignature": vouched_signer,
            "amount": upload.spec.key_count,
            "batchSignature": upload.batch_signature,
        })
    }

    fn expected(&self) -> Result<Expected, VerifyError> {
        Expected::of(std::slice::from_ref(&self.record), &self.pki.participants)
    }

    /// What the verifier finds when everybody receives what `tamper` leaves.
    fn findings(&self, tamper: impl Fn(&str, &mut Vec<Batch>)) -> Findings {
        self.verdict(self.expected().unwrap(), tamper).findings
    }

    /// The same without a record.
    fn audited(&self, tamper: impl Fn(&mut Vec<Batch>)) -> Verdict {
        let expected = Expected::of(&[], &self.pki.participants).unwrap();
        self.verdict(expected, |receiver, batches| {
            if receiver == "FR" {
                tamper(batches);
            }
        })
    }

    fn auditor(&self) -> Arc<Auditor> {
        let anchor = SigningCertificate::from_der(&self.pki.anchor()).unwrap();
        Arc::new(Auditor::new(anchor))
    }

    fn verdict(&self, expected: Expected, tamper: impl Fn(&str, &mut Vec<Batch>)) -> Verdict {
        let (expected, auditor) = (Arc::new(expected), self.auditor());
        let deliver = |receiver: &str| {
            let mut batches = self.batches(country(receiver));
            tamper(receiver, &mut batches);
            let (expected, auditor) = (Arc::clone(&expected), Arc::clone(&auditor));
            let mut delivery = Delivery::new(expected, auditor, country(receiver));
            for batch in &batches {
                batch.deliver(&mut delivery);
            }
            delivery
        };
        check_deliveries(&expected, ["DE", "FR", "IT"].map(deliver).into(), false)
    }

    /// The same, when FR alone receives something else.
    fn findings_at_fr(&self, tamper: impl Fn(&mut Vec<Batch>)) -> Findings {
        self.findings(|receiver, batches| {
            if receiver == "FR" {
                tamper(batches);
            }
        })
    }
}

impl Batch {
    /// Without its first upload, as if that had never been stored.
    fn lose_first(&mut self) {
        self.slices.remove(0);
        self.audit.remove(0);
    }

    fn deliver(&self, delivery: &mut Delivery) {
        let audit = serde_json::to_vec(&self.audit).unwrap();
        delivery.take(&Received {
            tag: &self.tag,
            next: &self.next,
            body: &self.slices.concat(),
            audit: Some(&audit),
        });
    }
}

/// The encoded keys of a slice, each with its tag and length.
fn keys(slice: &[u8]) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let mut rest = slice;
    while !rest.is_empty() {
        // `keys` fields of less than 128 bytes: a tag and one byte of length.
        let (key, behind) = rest.split_at(2 + rest[1] as usize);
        keys.push(key.to_vec());
        rest = behind;
    }
    keys
}

fn change_keys(slice: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut all = keys(slice);
    change(&mut all);
    *slice = all.concat();
}

const CLEAN: Findings = Findings {
    missing: 0,
    duplicate: 0,
    unverified: 0,
    unexpected: 0,
    own: 0,
    disordered: 0,
    tags: 0,
    disagreements: 0,
    malformed: 0,
    audit_unreadable: 0,
    audit_missing: 0,
    audit_unknown: 0,
    audit_amounts: 0,
    audit_order: 0,
    audit_contradictions: 0,
};

#[test]
fn finds_nothing_wrong_with_an_honest_delivery() {
    let scene = scene();
    assert_eq!(scene.findings(|_, _| ()), CLEAN);
    let expected = Arc::new(scene.expected().unwrap());
    let mut delivery = Delivery::new(Arc::clone(&expected), scene.auditor(), country("DE"));
    assert_eq!(expected.keys_for(country("DE")), 50);
    for batch in scene.batches(country("DE")) {
        assert!(!delivery.is_complete());
        batch.deliver(&mut delivery);
    }
    assert!(delivery.is_complete());
    assert_eq!(delivery.delivered(), 50);
}

#[test]
fn waits_for_the_audit_of_its_own_last_upload() {
    let scene = scene();
    let expected = Arc::new(scene.expected().unwrap());
    let mut delivery = Delivery::new(Arc::clone(&expected), scene.auditor(), country("DE"));
    let mut batches = scene.batches(country("DE"));
    let own = batches[2].audit.pop().unwrap();
    batches[2].next = "20210601-4".into();
    for batch in &batches {
        batch.deliver(&mut delivery);
    }
    assert!(!delivery.is_complete(), "its own may be in a batch to come");
    let last = Batch {
        tag: "20210601-4".into(),
        next: "null".into(),
        slices: Vec::new(),
        audit: vec![own],
    };
    last.deliver(&mut delivery);
    assert!(delivery.is_complete());
    assert_eq!(
        check_deliveries(&expected, vec![delivery], false).findings,
        CLEAN
    );
}

#[test]
fn finds_a_missing_key() {
    let found = scene().findings_at_fr(|batches| {
        change_keys(&mut batches[0].slices[0], |keys| drop(keys.remove(3)));
    });
    assert_eq!(
        found,
        Findings {
            missing: 1,
            // Cut by the audit, the upload behind it is wrong, too.
            unverified: 2,
            audit_amounts: 1,
            ..CLEAN
        }
    );
}

#[test]
fn finds_a_missing_upload() {
    let found = scene().findings_at_fr(|batches| drop(batches[1].slices.remove(0)));
    assert_eq!(
        found,
        Findings {
            missing: 10,
            unverified: 2,
            audit_amounts: 1,
            ..CLEAN
        }
    );
}

#[test]
fn finds_a_delivery_that_stops_early() {
    let found = scene().findings_at_fr(|batches| drop(batches.pop()));
    // The batch that was announced never came.
    assert_eq!(
        found,
        Findings {
            missing: 10,
            unverified: 2,
            tags: 1,
            audit_missing: 3,
            ..CLEAN
        }
    );
}

#[test]
fn finds_a_key_that_comes_twice() {
    let found = scene().findings_at_fr(|batches| {
        change_keys(&mut batches[0].slices[0], |keys| {
            keys.insert(3, keys[3].clone());
        });
    });
    assert_eq!(
        found,
        Findings {
            duplicate: 1,
            disordered: 1,
            unverified: 2,
            audit_amounts: 1,
            ..CLEAN
        }
    );
}

#[test]
fn finds_an_upload_that_comes_again_in_a_later_batch() {
    let found = scene().findings_at_fr(|batches| {
        let again = batches[0].slices[0].clone();
        batches[2].slices.push(again);
    });
    assert_eq!(
        found,
        Findings {
            duplicate: 10,
            disordered: 1,
            audit_amounts: 1,
            ..CLEAN
        }
    );
}

#[test]
fn finds_keys_in_another_order_although_they_still_verify() {
    let found = scene()
        .findings_at_fr(|batches| change_keys(&mut batches[0].slices[0], |keys| keys.swap(2, 5)));
    assert_eq!(
        found,
        Findings {
            disordered: 1,
            ..CLEAN
        }
    );
}

#[test]
fn finds_uploads_that_are_mixed() {
    let found = scene().findings_at_fr(|batches| {
        let [first, second] = [0, 1].map(|at| keys(&batches[0].slices[at]));
        let mixed = first
            .iter()
            .zip(&second)
            .flat_map(|(a, b)| [a.clone(), b.clone()]);
        batches[0].slices = mixed.collect();
    });
    assert_eq!(
        (found.missing, found.duplicate, found.unexpected),
        (0, 0, 0)
    );
    assert_eq!(found.unverified, 2);
    assert!(found.disordered > 0, "{found:?}");
}

#[test]
fn finds_a_changed_byte_of_key_data() {
    let found = scene().findings_at_fr(|batches| {
        change_keys(&mut batches[0].slices[0], |keys| keys[9][10] ^= 1);
    });
    assert_eq!(
        found,
        Findings {
            missing: 1,
            unexpected: 1,
            unverified: 1,
            ..CLEAN
        }
    );
}

#[test]
fn finds_a_changed_field_in_every_place_of_an_upload() {
    let scene = scene();
    for at in 0..10 {
        let found = scene.findings_at_fr(|batches| {
            // Rolling period, the third field: 144, as 0x18 0x90 0x01.
            change_keys(&mut batches[0].slices[0], |keys| {
                let period = keys[at]
                    .windows(3)
                    .rposition(|window| window == [0x18, 0x90, 1]);
                keys[at][period.unwrap() + 1] = 0x8f;
            });
        });
        assert_eq!(
            (found.missing, found.unexpected, found.unverified),
            (1, 1, 1),
            "key {at}"
        );
    }
}

#[test]
fn finds_ones_own_keys() {
    let scene = scene();
    let own = scene
        .uploads
        .iter()
        .find(|upload| upload.spec.country == country("FR"))
        .unwrap();
    let found = scene.findings_at_fr(|batches| batches[1].slices.push(own.body.to_vec()));
    assert_eq!(
        found,
        Findings {
            own: 10,
            audit_amounts: 1,
            ..CLEAN
        }
    );
}

#[test]
fn finds_gaps_and_forks_in_the_chain_of_tags() {
    let scene = scene();
    let tags = |change: &dyn Fn(&mut Vec<Batch>)| {
        let found = scene.findings_at_fr(change);
        assert_eq!(
            Findings {
                tags: 0,
                disagreements: 0,
                ..found
            },
            CLEAN
        );
        found.tags
    };
    let rename = |batch: &mut Batch, tag: &str| tag.clone_into(&mut batch.tag);
    let announce = |batch: &mut Batch, tag: &str| tag.clone_into(&mut batch.next);
    assert_eq!(tags(&|_| ()), 0);
    // A gap: 1, 2, 4.
    let gap = |batches: &mut Vec<Batch>| {
        announce(&mut batches[1], "20210601-4");
        rename(&mut batches[2], "20210601-4");
    };
    assert_eq!(tags(&gap), 1);
    // Another batch than the announced one, and a chain that begins with number 2.
    assert_eq!(tags(&|batches| announce(&mut batches[0], "20210601-7")), 1);
    assert_eq!(tags(&|batches| batches.rotate_left(1)), 3);
    // No announcement, and spellings that are none.
    assert_eq!(tags(&|batches| announce(&mut batches[0], "null")), 1);
    assert_eq!(tags(&|batches| announce(&mut batches[2], "")), 1);
    assert_eq!(tags(&|batches| rename(&mut batches[2], "20210601-03")), 1);
    // The next day begins with number 1, on any later day.
    let next_day = |tag: &str| {
        tags(&|batches| {
            announce(&mut batches[1], tag);
            rename(&mut batches[2], tag);
        })
    };
    assert_eq!(next_day("20210602-1"), 0);
    assert_eq!(next_day("20210630-1"), 0);
    assert_eq!(next_day("20210602-3"), 1);
    assert_eq!(next_day("20210531-1"), 1);
}

#[test]
fn finds_participants_that_see_uploads_in_different_orders_or_batches() {
    let scene = scene();
    // DE and IT share FR's uploads with FR, but FR does not receive them: only DE's and IT's
    // uploads can be seen in different orders, by whom they reach.
    let found = scene.findings(|receiver, batches| {
        if receiver == "DE" {
            batches[0].slices.swap(0, 1);
            batches[0].audit.swap(0, 1);
        }
    });
    assert_eq!(
        found, CLEAN,
        "no two participants share both FR's and IT's uploads"
    );
    let found = scene.findings_at_fr(|batches| {
        let moved = batches[0].slices.remove(0);
        batches[1].slices.insert(0, moved);
        let moved = batches[0].audit.remove(0);
        batches[1].audit.insert(0, moved);
    });
    assert_eq!(
        found,
        Findings {
            disagreements: 1,
            ..CLEAN
        },
        "FR and IT share DE's uploads"
    );
}

#[test]
fn lets_an_unacknowledged_upload_reach_everybody_or_nobody() {
    let mut scene = scene();
    for fate in [Fate::Unknown(None), Fate::Unknown(Some(503))] {
        // DE's first upload.
        scene.record.uploads[0].fate = fate;
        assert_eq!(scene.findings(|_, _| ()), CLEAN, "everybody");
        let nobody = scene.findings(|receiver, batches| match receiver {
            "DE" => drop(batches[0].audit.pop()),
            _ => batches[0].lose_first(),
        });
        assert_eq!(nobody, CLEAN, "nobody");
        let one = scene.findings_at_fr(|batches| batches[0].lose_first());
        assert_eq!(
            one,
            Findings {
                missing: 10,
                ..CLEAN
            },
            "IT alone"
        );
        let half = scene.findings_at_fr(|batches| {
            change_keys(&mut batches[0].slices[0], |keys| keys.truncate(5));
        });
        assert_eq!(
            half,
            Findings {
                missing: 5,
                unverified: 2,
                audit_amounts: 1,
                ..CLEAN
            },
            "half of it"
        );
    }
}

#[test]
fn finds_keys_of_an_upload_that_was_refused() {
    let mut scene = scene();
    scene.record.uploads[0].fate = Fate::Refused(207);
    assert_eq!(
        scene.findings(|_, _| ()),
        Findings {
            unexpected: 20,
            audit_unknown: 3,
            ..CLEAN
        }
    );
}

#[test]
fn compares_keys_by_their_content_however_they_are_encoded() {
    let found = scene().findings(|_, batches| {
        for slice in batches.iter_mut().flat_map(|batch| &mut batch.slices) {
            change_keys(slice, |keys| {
                for key in keys {
                    // An unknown field 15 behind the known ones.
                    key[1] += 2;
                    key.extend([0x78, 1]);
                }
            });
        }
    });
    assert_eq!(found, CLEAN);
}

#[test]
fn finds_a_body_that_is_no_batch() {
    let found = scene().findings_at_fr(|batches| batches[2].slices.push(vec![0x0a, 0x7f]));
    assert_eq!(
        found,
        Findings {
            malformed: 1,
            audit_amounts: 1,
            ..CLEAN
        }
    );
}

#[test]
fn refuses_a_record_that_does_not_fit_its_seed() {
    let mut scene = scene();
    scene.record.seed.number += 1;
    assert!(matches!(scene.expected(), Err(VerifyError::Record(_))));
    scene.record.seed.number -= 1;
    scene.pki.participants.remove(0);
    assert!(matches!(
        scene.expected(),
        Err(VerifyError::NoParticipant(_))
    ));
}

/// What is found at FR, by the record and without it, when an audit is tampered with.
#[track_caller]
fn check_audit(
    tamper: impl Fn(&Scene, &mut Vec<Batch>),
    expected: Findings,
    unrecorded: Findings,
    failure: &[&str],
) {
    let scene = scene();
    let found = scene.findings_at_fr(|batches| tamper(&scene, batches));
    assert_eq!(found, expected, "by the record");
    let verdict = scene.audited(|batches| tamper(&scene, batches));
    assert_eq!(verdict.findings, unrecorded, "without a record");
    let failures: Vec<_> = verdict.failures.keys().map(ToString::to_string).collect();
    assert_eq!(failures, failure);
}

/// The same, when one upload cannot be proven and nothing else is wrong.
#[track_caller]
fn check_unproven(tamper: impl Fn(&Scene, &mut Vec<Batch>), failure: &str) {
    let expected = Findings {
        unverified: 1,
        ..CLEAN
    };
    check_audit(tamper, expected, expected, &[failure]);
}

#[test]
fn audits_an_honest_gateway_without_any_record() {
    let verdict = scene().audited(|_| ());
    assert_eq!(verdict.findings, CLEAN);
    assert!(verdict.failures.is_empty());
    assert_eq!(verdict.delivered, 150);
}

#[test]
fn finds_a_tampered_key_without_any_record() {
    let tamper = |_: &Scene, batches: &mut Vec<Batch>| {
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
    let tamper = |_: &Scene, batches: &mut Vec<Batch>| batches[0].slices.swap(0, 1);
    let found = Findings {
        unverified: 2,
        ..CLEAN
    };
    let failure = "a key originates in another country";
    check_audit(tamper, found, found, &[failure]);
}

#[test]
fn finds_an_audit_in_another_order_than_the_keys() {
    let tamper = |_: &Scene, batches: &mut Vec<Batch>| batches[0].audit.swap(0, 1);
    let found = Findings {
        unverified: 2,
        ..CLEAN
    };
    let failure = "a key originates in another country";
    check_audit(tamper, found, found, &[failure]);
}

#[test]
fn finds_ones_own_uploads_before_others() {
    let tamper = |_: &Scene, batches: &mut Vec<Batch>| batches[0].audit.rotate_right(1);
    let found = Findings {
        audit_order: 1,
        ..CLEAN
    };
    check_audit(tamper, found, found, &[]);
}

#[test]
fn finds_wrong_amounts() {
    let fewer = |_: &Scene, batches: &mut Vec<Batch>| batches[0].audit[0]["amount"] = json!(9);
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
    let more = |_: &Scene, batches: &mut Vec<Batch>| batches[0].audit[1]["amount"] = json!(11);
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
    // Nobody downloads one's own keys: only the record knows how many they are.
    let own = |_: &Scene, batches: &mut Vec<Batch>| batches[0].audit[2]["amount"] = json!(9);
    let recorded = Findings {
        audit_contradictions: 1,
        ..CLEAN
    };
    check_audit(own, recorded, CLEAN, &[]);
}

#[test]
fn finds_foreign_signatures() {
    // FR signs DE's keys.
    let forged = |scene: &Scene, batches: &mut Vec<Batch>| {
        let signed = signed_bytes(&scene.uploads[0].body).unwrap();
        let fr = &scene.pki.participants[1];
        let at = UnixMillis(1_622_505_600_000);
        let signature = fr.signer.sign(&signed, at, loadgen::signer::Encoding::Der);
        batches[0].audit[0]["batchSignature"] = json!(STANDARD.encode(signature));
    };
    check_unproven(forged, "the batch signature is wrong");
    let broken = |_: &Scene, batches: &mut Vec<Batch>| {
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
    let failure = "the batch signature is no CMS SignedData of one signer";
    check_audit(broken, recorded, found, &[failure]);
}

#[test]
fn finds_the_signature_of_another_upload() {
    // DE's first upload is shown with the signature of DE's second.
    let tamper = |scene: &Scene, batches: &mut Vec<Batch>| {
        batches[0].audit[0]["batchSignature"] = json!(scene.uploads[1].batch_signature);
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
    let tamper = |scene: &Scene, batches: &mut Vec<Batch>| {
        let own = &scene.uploads[3];
        assert_eq!(own.spec.country, country("FR"));
        let signed = signed_bytes(&own.body).unwrap();
        let at = UnixMillis(1_622_505_600_000);
        let de = &scene.pki.participants[0];
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
        let missing = |_: &Scene, batches: &mut Vec<Batch>| batches[0].audit[0][member] = json!("");
        check_unproven(missing, &failure);
        // The signature over IT's certificate.
        let foreign = |_: &Scene, batches: &mut Vec<Batch>| {
            batches[0].audit[0][member] = batches[0].audit[1][member].clone();
        };
        check_unproven(foreign, &failure);
    }
}

#[test]
fn believes_in_no_other_operator() {
    let scene = scene();
    let other = pki(&[("DE", Key::P256)]);
    let anchor = SigningCertificate::from_der(&other.anchor()).unwrap();
    let auditor = Arc::new(Auditor::new(anchor));
    let expected = Arc::new(scene.expected().unwrap());
    let mut delivery = Delivery::new(Arc::clone(&expected), auditor, country("DE"));
    for batch in scene.batches(country("DE")) {
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
        move |_: &Scene, batches: &mut Vec<Batch>| batches[0].audit[0][member] = json!(value)
    };
    let nothing = set("signingCertificate", "");
    check_unproven(nothing, &failure("is no certificate"));
    let crlf = |_: &Scene, batches: &mut Vec<Batch>| {
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
    // IT's certificate, vouched for and with its thumbprint, in DE's place.
    let members = [
        "signingCertificate",
        "uploaderSigningThumbprint",
        "signingCertificateOperatorSignature",
    ];
    let foreign = |_: &Scene, batches: &mut Vec<Batch>| {
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
    let null = |_: &Scene, batches: &mut Vec<Batch>| {
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
    let scene = scene();
    let expected = Arc::new(scene.expected().unwrap());
    let mut delivery = Delivery::new(Arc::clone(&expected), scene.auditor(), country("FR"));
    for batch in scene.batches(country("FR")) {
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
    let own = |_: &Scene, batches: &mut Vec<Batch>| drop(batches[0].audit.pop());
    let recorded = Findings {
        audit_missing: 1,
        ..CLEAN
    };
    check_audit(own, recorded, CLEAN, &[]);
    let last = |_: &Scene, batches: &mut Vec<Batch>| drop(batches[0].audit.remove(1));
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
