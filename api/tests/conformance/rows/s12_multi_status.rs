//! §12: the 207 answer.

use serde_json::{Value, json};

use super::{Difference, Row, Section, covered_by, differs, same};
use crate::World;
use crate::support::backend::{Upload, ask, download};
use crate::support::batch::{Key, from_protobuf};
use crate::support::raw::Answer;

pub(super) const SECTION: Section = Section {
    name: "s12_multi_status",
    heading: "§12 The 207 answer",
    rows: ROWS,
    prepare: World::new,
};

/// Positions 1 and 3 of five are stored already, by another upload.
fn mixed(world: &World) -> (Upload, Answer) {
    let stored = Upload::fresh(world, "DE", 2).store(world).keys;
    let mut keys: Vec<Key> = Upload::fresh(world, "DE", 5).keys;
    keys[3] = stored[0].clone();
    keys[1] = stored[1].clone();
    let upload = Upload::of(world, "DE", keys);
    let answer = upload.send(world);
    (upload, answer)
}

fn outcomes(created: &[u32], duplicates: &[u32]) -> Value {
    json!({ "201": created, "409": duplicates, "500": [] })
}

const ROWS: &[Row] = &[
    same(
        "§12.1",
        "shape",
        "always labelled plain `application/json`, no `batchTag` header, always all three members",
        |world| {
            let stored = Upload::fresh(world, "DE", 1).store(world);
            let again = Upload::of(world, "DE", stored.keys).request();
            for accept in ["application/json", "application/json; version=1.0", "*/*"] {
                let answer = ask(world, &again.clone().set("Accept", accept)).expect(207);
                assert_eq!(
                    answer.header("Content-Type"),
                    Some("application/json"),
                    "{accept}"
                );
                assert_eq!(answer.any_case("batchTag"), None);
                assert_eq!(answer.json().as_object().unwrap().len(), 3);
            }
        },
    ),
    same(
        "§12.2",
        "positions",
        "the arrays hold zero-based positions in the request, not in the order of signing",
        |world| assert_eq!(mixed(world).1.json(), outcomes(&[0, 2, 4], &[1, 3])),
    ),
    same(
        "§12.3",
        "all_or_nothing",
        "nothing is stored when one key fails: `201` means \"would have been\"",
        |world| {
            let (upload, _) = mixed(world);
            let tag = world.cut();
            let answer = download(world, "IT", &world.today(), Some(&tag)).expect(200);
            let found = from_protobuf(&answer.body);
            for at in [0, 2, 4] {
                assert!(!found.contains(&upload.keys[at]));
            }
            let rest = [0, 2, 4].map(|at| upload.keys[at].clone());
            Upload::of(world, "DE", rest.into()).send(world).expect(201);
        },
    ),
    same(
        "§12.4",
        "duplicates",
        "`409`: stored by any upload of any country, or earlier in the same request; every \
         position once",
        |world| {
            let keys = Upload::fresh(world, "DE", 2).keys;
            let twice = [keys.clone(), keys].concat();
            let answer = Upload::of(world, "DE", twice).send(world).expect(207);
            assert_eq!(answer.json(), outcomes(&[0, 1], &[2, 3]));
        },
    ),
    differs(
        "§12.5",
        "no_failures",
        [
            "`500`: any other exception of a key",
            "always empty: a database that is away is a plain 503",
            "a key does not fail by itself, and a 207 must not hide an outage",
        ],
        |world| assert_eq!(mixed(world).1.json()["500"], json!([])),
    ),
    same(
        "§12.6",
        "the_tag_stays_free",
        "the tag stays free: FI sends the rest under the same tag",
        |world| {
            let (upload, _) = mixed(world);
            let rest = [0, 2, 4].map(|at| upload.keys[at].clone());
            let rest = Upload::of(world, "DE", rest.into()).tagged(&upload.tag);
            let answer = rest.send(world).expect(201);
            assert_eq!(answer.header("batchTag"), Some(upload.tag.as_str()));
        },
    ),
    same(
        "§12.7",
        "the_rest_is_signed_again",
        "the signature covers the whole batch: the rest has to be signed again",
        |world| {
            let (upload, _) = mixed(world);
            let rest = [0, 2, 4].map(|at| upload.keys[at].clone());
            let mut rest = Upload::of(world, "DE", rest.into());
            rest.signature = upload.signature;
            rest.send(world).expect_error(400, "Invalid signature");
        },
    ),
    covered_by(
        "§12.8",
        "duplicates are found only as long as keys are retained (2 days)",
        "api/tests/conformance/scenarios/history.rs::knows_duplicates_longer_than_they_can_be_downloaded",
        Some(Difference {
            gateway: "as long as the key could be uploaded, 15 days",
            reason: "a key that came once should not come again",
        }),
    ),
];
