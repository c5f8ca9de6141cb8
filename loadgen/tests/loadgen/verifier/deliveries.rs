//! Keys that are missing, double, changed, out of order.

use std::sync::Arc;

use loadgen::record::Outcome;
use loadgen::verify::{Delivery, Findings, VerifyError, check_deliveries};

use super::fixture::{Batch, CLEAN, change_keys, fixture, keys};
use crate::support::country;

#[test]
fn finds_nothing_wrong_with_an_honest_delivery() {
    let fixture = fixture();
    assert_eq!(fixture.findings(|_, _| ()), CLEAN);
    let expected = Arc::new(fixture.expected().unwrap());
    let mut delivery = Delivery::new(Arc::clone(&expected), fixture.auditor(), country("DE"));
    assert_eq!(expected.keys_for(country("DE")), 50);
    for batch in fixture.batches(country("DE")) {
        assert!(!delivery.is_complete());
        batch.deliver(&mut delivery);
    }
    assert!(delivery.is_complete());
    assert_eq!(delivery.delivered(), 50);
}

#[test]
fn waits_for_the_audit_of_its_own_last_upload() {
    let fixture = fixture();
    let expected = Arc::new(fixture.expected().unwrap());
    let mut delivery = Delivery::new(Arc::clone(&expected), fixture.auditor(), country("DE"));
    let mut batches = fixture.batches(country("DE"));
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
    let found = fixture().findings_at_fr(|batches| {
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
    let found = fixture().findings_at_fr(|batches| drop(batches[1].slices.remove(0)));
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
    let found = fixture().findings_at_fr(|batches| drop(batches.pop()));
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
    let found = fixture().findings_at_fr(|batches| {
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
    let found = fixture().findings_at_fr(|batches| {
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
    let found = fixture()
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
    let found = fixture().findings_at_fr(|batches| {
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
    let found = fixture().findings_at_fr(|batches| {
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
    let fixture = fixture();
    for at in 0..10 {
        let found = fixture.findings_at_fr(|batches| {
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
    let fixture = fixture();
    let own = fixture
        .uploads
        .iter()
        .find(|upload| upload.spec.country == country("FR"))
        .unwrap();
    let found = fixture.findings_at_fr(|batches| batches[1].slices.push(own.body.to_vec()));
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
    let fixture = fixture();
    let tags = |change: &dyn Fn(&mut Vec<Batch>)| {
        let found = fixture.findings_at_fr(change);
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
    // No announcement, and malformed ones.
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
    let fixture = fixture();
    // DE and IT share FR's uploads with FR, but FR does not receive them: only DE's and IT's
    // uploads can be seen in different orders, by whom they reach.
    let found = fixture.findings(|receiver, batches| {
        if receiver == "DE" {
            batches[0].slices.swap(0, 1);
            batches[0].audit.swap(0, 1);
        }
    });
    assert_eq!(
        found, CLEAN,
        "no two participants share both FR's and IT's uploads"
    );
    let found = fixture.findings_at_fr(|batches| {
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
    let mut fixture = fixture();
    for outcome in [Outcome::Unknown(None), Outcome::Unknown(Some(503))] {
        // DE's first upload.
        fixture.record.uploads[0].outcome = outcome;
        assert_eq!(fixture.findings(|_, _| ()), CLEAN, "everybody");
        let to_none = fixture.findings(|receiver, batches| match receiver {
            "DE" => drop(batches[0].audit.pop()),
            _ => batches[0].lose_first(),
        });
        assert_eq!(to_none, CLEAN, "delivered to none");
        let one = fixture.findings_at_fr(|batches| batches[0].lose_first());
        assert_eq!(
            one,
            Findings {
                missing: 10,
                ..CLEAN
            },
            "IT alone"
        );
        let half = fixture.findings_at_fr(|batches| {
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
    let mut fixture = fixture();
    fixture.record.uploads[0].outcome = Outcome::Refused(207);
    assert_eq!(
        fixture.findings(|_, _| ()),
        Findings {
            unexpected: 20,
            audit_unknown: 3,
            ..CLEAN
        }
    );
}

#[test]
fn compares_keys_by_their_content_however_they_are_encoded() {
    let found = fixture().findings(|_, batches| {
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
    let found = fixture().findings_at_fr(|batches| batches[2].slices.push(vec![0x0a, 0x7f]));
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
    let mut fixture = fixture();
    fixture.record.seed.number += 1;
    assert!(matches!(fixture.expected(), Err(VerifyError::Record(_))));
    fixture.record.seed.number -= 1;
    fixture.pki.participants.remove(0);
    assert!(matches!(
        fixture.expected(),
        Err(VerifyError::NoParticipant(_))
    ));
}
