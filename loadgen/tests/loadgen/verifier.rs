//! The verifier, against deliveries that are honest and deliveries that are not. What the gateway
//! should serve is written down here from the protocol: each other participant's uploads, whole and
//! in the same order.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::domain::{Country, Day, UnixMillis};
use loadgen::record::{Fate, Record, RecordedUpload};
use loadgen::verify::{Delivery, Expected, Findings, Received, VerifyError, judge};
use loadgen::workload::{PreparedUpload, Workload, signed_bytes};

use crate::support::{Key, Pki, country, pki};

/// Three participants with three uploads each: 10, 10 and 5 keys.
struct Scene {
    pki: Pki,
    uploads: Vec<PreparedUpload>,
    record: Record,
}

/// One download batch as one participant receives it: the uploads' bodies, kept apart.
#[derive(Clone)]
struct Batch {
    tag: String,
    next: String,
    slices: Vec<Vec<u8>>,
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
        pki,
        uploads,
        record,
    }
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
            let theirs = self.uploads.iter().filter(|upload| {
                upload.spec.index + 1 == number && upload.spec.country != receiver
            });
            Batch {
                tag: format!("20210601-{number}"),
                next: if number < 3 {
                    format!("20210601-{}", number + 1)
                } else {
                    "null".into()
                },
                slices: theirs.map(|upload| upload.body.to_vec()).collect(),
            }
        };
        (1..=3).map(batch).collect()
    }

    fn expected(&self) -> Result<Expected, VerifyError> {
        Expected::of(std::slice::from_ref(&self.record), &self.pki.participants)
    }

    /// What the verifier finds when everybody receives what `tamper` leaves.
    fn findings(&self, tamper: impl Fn(&str, &mut Vec<Batch>)) -> Findings {
        let expected = Arc::new(self.expected().unwrap());
        let deliver = |receiver: &str| {
            let mut batches = self.batches(country(receiver));
            tamper(receiver, &mut batches);
            let mut delivery = Delivery::new(Arc::clone(&expected), country(receiver));
            for Batch { tag, next, slices } in &batches {
                delivery.take(&Received {
                    tag,
                    next,
                    body: &slices.concat(),
                });
            }
            delivery
        };
        judge(&expected, ["DE", "FR", "IT"].map(deliver).into(), false).findings
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
};

#[test]
fn finds_nothing_wrong_with_an_honest_delivery() {
    let scene = scene();
    assert_eq!(scene.findings(|_, _| ()), CLEAN);
    let expected = Arc::new(scene.expected().unwrap());
    let mut delivery = Delivery::new(Arc::clone(&expected), country("DE"));
    assert_eq!(expected.keys_for(country("DE")), 50);
    for Batch { tag, next, slices } in scene.batches(country("DE")) {
        assert!(!delivery.is_complete());
        delivery.take(&Received {
            tag: &tag,
            next: &next,
            body: &slices.concat(),
        });
    }
    assert!(delivery.is_complete());
    assert_eq!(delivery.delivered(), 50);
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
            unverified: 1,
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
            unverified: 1,
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
            unverified: 1,
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
    assert_eq!(found, Findings { own: 10, ..CLEAN });
}

#[test]
fn finds_a_signature_that_does_not_fit_the_keys() {
    let mut scene = scene();
    // DE's first upload gets the signature of its second, then one that FR made.
    scene.record.uploads[0].batch_signature = scene.record.uploads[1].batch_signature.clone();
    assert_eq!(
        scene.findings(|_, _| ()),
        Findings {
            unverified: 2,
            ..CLEAN
        }
    );
    let signed = signed_bytes(&scene.uploads[0].body).unwrap();
    let at = UnixMillis(1_622_505_600_000);
    let fr = &scene.pki.participants[1];
    let forged = fr.signer.sign(&signed, at, loadgen::signer::Encoding::Der);
    scene.record.uploads[0].batch_signature = STANDARD.encode(forged);
    assert_eq!(
        scene.findings(|_, _| ()),
        Findings {
            unverified: 2,
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
        }
    });
    assert_eq!(
        found, CLEAN,
        "no two participants share both FR's and IT's uploads"
    );
    let found = scene.findings_at_fr(|batches| {
        let moved = batches[0].slices.remove(0);
        batches[1].slices.insert(0, moved);
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
        let nobody = scene.findings(|receiver, batches| {
            if receiver != "DE" {
                batches[0].slices.remove(0);
            }
        });
        assert_eq!(nobody, CLEAN, "nobody");
        let one = scene.findings_at_fr(|batches| drop(batches[0].slices.remove(0)));
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
                unverified: 1,
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
            ..CLEAN
        }
    );
}

#[test]
fn judges_keys_by_their_content_however_they_are_encoded() {
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
