//! Limits of participants and of the gateway.

use std::time::{Duration, Instant};

use crate::support::backend::{Upload, download};
use crate::support::raw::{Answer, Raw};
use crate::support::world::{Databases, Kind, World};

/// Begins uploads, which wait to continue, until one is refused.
fn fill(world: &World, countries: &[&'static str]) -> (Vec<Raw>, Answer) {
    let mut held = Vec::new();
    for country in countries.iter().cycle().take(64) {
        let upload = Upload::fresh(world, country, 1);
        let mut raw = world.proxy();
        raw.send(upload.request().with("Expect", "100-continue").head());
        let answer = raw.answer(true);
        if answer.status != 100 {
            return (held, answer);
        }
        held.push(raw);
    }
    panic!("nothing was refused");
}

pub(super) fn throttles_a_participant_that_exceeds_its_share(databases: &Databases, kind: Kind) {
    let world = World::with(databases, kind, |options| {
        options.engine.upload.batches_in_flight_max = 8;
    });
    let (held, refused) = fill(&world, &["CZ"]);
    assert_eq!((held.len(), refused.status), (2, 429));
    let when = refused.header("Retry-After").unwrap();
    let when = httpdate::parse_http_date(when).unwrap();
    let now = Duration::from_millis(world.now().0);
    let wait = when.duration_since(std::time::UNIX_EPOCH).unwrap() - now;
    assert!((1..=60).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(refused.any_case("batchTag"), None);
    // Others are not affected, and it is temporary.
    Upload::fresh(&world, "DE", 1).store(&world);
    drop(held);
    let upload = Upload::fresh(&world, "CZ", 1);
    let begun = Instant::now();
    while upload.send(&world).status != 201 {
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

pub(super) fn says_when_it_is_full(databases: &Databases, kind: Kind) {
    let world = World::with(databases, kind, |options| {
        options.engine.upload.batches_in_flight_max = 4;
    });
    let (held, refused) = fill(&world, &["DE", "IT", "ES", "FI", "NL"]);
    assert_eq!((held.len(), refused.status), (4, 503));
    let seconds: u64 = refused.header("Retry-After").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
    // Downloads continue.
    download(&world, "DE", "2021-06-01", None).expect(404);
}
