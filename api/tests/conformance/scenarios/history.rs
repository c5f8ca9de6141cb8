//! Restarts, days that pass, and what is kept for how long.

use std::time::{Duration, Instant};

use crate::support::backend::{Backend, PROTOBUF, Upload, audit, download};
use crate::support::batch::from_protobuf;
use crate::support::pki::member;
use crate::support::world::{Databases, Kind, World};

pub(super) fn keeps_everything_over_a_restart(databases: &Databases, kind: Kind) {
    let mut world = World::new(databases, kind);
    let stored = Upload::fresh(&world, "DE", 3).store(&world);
    world.cut();
    let waiting = Upload::fresh(&world, "IT", 2).store(&world);
    let before = download(&world, "ES", "2021-06-01", None).expect(200);
    let audited = audit(&world, "ES", "2021-06-01", "20210601-1").expect(200);
    world.stop();
    world.start();
    let after = download(&world, "ES", "2021-06-01", Some("20210601-1")).expect(200);
    assert_eq!(after.body, before.body);
    let again = audit(&world, "ES", "2021-06-01", "20210601-1").expect(200);
    assert_eq!(again.body, audited.body);
    // Answered uploads are remembered: replay, taken tag, duplicates.
    stored.send(&world).expect(201);
    Upload::fresh(&world, "DE", 1)
        .tagged(&stored.tag)
        .send(&world)
        .expect(409);
    Upload::of(&world, "DE", stored.keys)
        .send(&world)
        .expect(207);
    assert_eq!(world.cut(), "20210601-2");
    let next = download(&world, "ES", "2021-06-01", Some("20210601-2")).expect(200);
    assert_eq!(from_protobuf(&next.body), waiting.keys);
}

pub(super) fn numbers_batches_without_gaps_and_links_them_across_days(
    databases: &Databases,
    kind: Kind,
) {
    let world = World::new(databases, kind);
    let cut = || {
        Upload::fresh(&world, "DE", 1).store(&world);
        world.cut()
    };
    let mut tags = vec![cut(), cut()];
    world.pass_days(2);
    tags.extend([cut(), cut(), cut()]);
    assert_eq!(
        tags,
        [
            "20210601-1",
            "20210601-2",
            "20210603-1",
            "20210603-2",
            "20210603-3"
        ]
    );
    let mut it = Backend::connect(&world, "IT");
    let mut found = Vec::new();
    let mut next = None;
    loop {
        let answer = it
            .download("2021-06-01", next.as_deref(), PROTOBUF)
            .expect(200);
        found.push(answer.header("batchTag").unwrap().to_owned());
        match answer.header("nextBatchTag").unwrap() {
            "null" => break,
            tag => next = Some(tag.to_owned()),
        }
    }
    assert_eq!(found, tags);
    // A day without batches begins with the first of a later one.
    let later = it.download("2021-06-02", None, PROTOBUF).expect(200);
    assert_eq!(later.header("batchTag"), Some("20210603-1"));
}

pub(super) fn stops_serving_what_is_too_old(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    Upload::fresh(&world, "DE", 2).store(&world);
    let tag = world.cut();
    world.pass_days(2);
    let whole = download(&world, "IT", "2021-06-01", Some(&tag)).expect(200);
    assert_eq!(from_protobuf(&whole.body).len(), 2);
    let entries = audit(&world, "IT", "2021-06-01", &tag).expect(200).json();
    assert_eq!(entries[0]["amount"], 2);
    world.pass_days(1);
    let gone = "Requested date is too old!";
    download(&world, "IT", "2021-06-01", None).expect_error(410, gone);
    download(&world, "IT", "2021-06-01", Some(&tag)).expect_error(410, gone);
    audit(&world, "IT", "2021-06-01", &tag).expect_error(410, gone);
    let message = "Given date does is not after or equals the requested batchTag";
    download(&world, "IT", "2021-06-02", Some(&tag)).expect_error(400, message);
}

pub(super) fn knows_duplicates_longer_than_they_can_be_downloaded(
    databases: &Databases,
    kind: Kind,
) {
    let mut world = World::new(databases, kind);
    let stored = Upload::fresh(&world, "DE", 1).store(&world);
    world.pass_days(14);
    let again = Upload::of(&world, "DE", stored.keys.clone());
    again.send(&world).expect(207);
    world.stop();
    world.start();
    Upload::of(&world, "DE", stored.keys)
        .send(&world)
        .expect(207);
}

pub(super) fn audits_what_was_uploaded_before_a_revocation(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    Upload::fresh(&world, "DE", 1).store(&world);
    let tag = world.cut();
    let before = audit(&world, "IT", "2021-06-01", &tag).expect(200);
    world.revoke(&member("DE").authentication);
    world.revoke(&member("DE").signing);
    let begun = Instant::now();
    while download(&world, "DE", "2021-06-01", None).status != 403 {
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    let after = audit(&world, "IT", "2021-06-01", &tag).expect(200);
    assert_eq!(after.body, before.body);
}
