//! §9: the canonical form, which is signed and compared to find duplicates.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Difference, Row, Section, covered_by, differs, same};
use crate::World;
use crate::support::backend::{Upload, fresh_tag};
use crate::support::batch::{Key, canonical_text, signed_bytes};
use crate::support::cms::SERVICE;
use crate::support::pki::{member, sha256};
use crate::support::raw::Answer;

pub(super) const SECTION: Section = Section {
    name: "s09_canonical",
    heading: "§9 Canonical bytes",
    rows: ROWS,
    prepare: World::new,
};

fn sha256_hex(content: &[u8]) -> String {
    sha256(content).map(|byte| format!("{byte:02x}")).concat()
}

/// Uploads keys with a signature over other content.
fn send_signed(world: &World, keys: Vec<Key>, content: &[u8]) -> Answer {
    let signer = &member("DE").signing;
    let upload = Upload {
        country: "DE",
        tag: fresh_tag(),
        signature: SERVICE.sign_base64(signer, content, world.now()),
        keys,
    };
    upload.send(world)
}

/// A key, whose canonical text has the base64 of these bytes at this position.
#[track_caller]
fn writes(world: &World, at: usize, bytes: &[u8], change: impl FnOnce(&mut Key)) {
    let mut key = Upload::fresh(world, "DE", 1).keys.remove(0);
    change(&mut key);
    let mut fields: Vec<String> = canonical_text(&key).split('.').map(str::to_owned).collect();
    assert_eq!(fields.len(), 9, "eight fields, each followed by a dot");
    fields[at] = STANDARD.encode(bytes);
    send_signed(world, vec![key], fields.join(".").as_bytes()).expect(201);
}

const ROWS: &[Row] = &[
    same("§9.1", "key_data", "`keyData`: the 16 bytes", |world| {
        let key_data = *b"0123456789abcdef";
        writes(world, 0, &key_data, |key| key.key_data = key_data.to_vec());
    }),
    same(
        "§9.2",
        "numbers",
        "rolling start, rolling period, risk level: 4 bytes, big endian",
        |world| {
            writes(world, 1, &[0x00, 0x29, 0x43, 0x78], |key| {
                key.rolling_start = 0x0029_4378;
            });
            writes(world, 2, &[0, 0, 0, 143], |key| key.rolling_period = 143);
            writes(world, 3, &[0x7f, 0xff, 0xff, 0xff], |key| {
                key.risk_level = i32::MAX;
            });
        },
    ),
    same(
        "§9.3",
        "visited_countries",
        "visited countries: joined with commas in the order sent; none: nothing between the dots",
        |world| {
            let countries = ["SE", "AT", "SE"].map(str::to_owned);
            writes(world, 4, b"SE,AT,SE", |key| key.visited = countries.into());
            writes(world, 4, b"", |key| key.visited.clear());
        },
    ),
    same("§9.4", "origin", "origin: US-ASCII", |world| {
        writes(world, 5, b"DE", |_| {});
    }),
    same(
        "§9.5",
        "report_type",
        "report type: its number, 4 bytes, big endian",
        |world| writes(world, 6, &[0, 0, 0, 5], |key| key.report_type = 5),
    ),
    same(
        "§9.6",
        "days_since_onset",
        "days since onset: two's complement, 4 bytes, big endian",
        |world| {
            writes(world, 7, &[0xff, 0xff, 0xf0, 0x60], |key| {
                key.days_since_onset = -4000;
            });
        },
    ),
    same(
        "§9.7",
        "example",
        "the example of the description: `7MvIfktc4v4oMI/Z8qe68w==.AC2l8A==.…`",
        |_| {
            let key = Key {
                key_data: STANDARD.decode("7MvIfktc4v4oMI/Z8qe68w==").unwrap(),
                rolling_start: 0x002d_a5f0,
                rolling_period: 144,
                risk_level: 3,
                visited: ["AT", "BE"].map(str::to_owned).into(),
                origin: "IE".to_owned(),
                report_type: 1,
                days_since_onset: 3,
            };
            let expected = "7MvIfktc4v4oMI/Z8qe68w==.AC2l8A==.AAAAkA==.AAAAAw==.QVQsQkU=.SUU=.\
                            AAAAAQ==.AAAAAw==.";
            assert_eq!(canonical_text(&key), expected);
        },
    ),
    covered_by(
        "§9.8",
        "characters outside ASCII become `?`",
        "engine/tests/vectors.rs::decides_every_case_as_the_suite_or_the_policy_table_says",
        Some(Difference {
            gateway: "such keys are refused with 400",
            reason: "different keys would have the same canonical text (S-4)",
        }),
    ),
    same(
        "§9.9",
        "order",
        "texts are ordered by their own base64, not as they are",
        |world| {
            let sorted = |keys: &Vec<Key>| {
                let mut texts: Vec<String> = keys.iter().map(canonical_text).collect();
                texts.sort();
                texts
            };
            // Of many a set of keys the two orders are the same.
            let keys = std::iter::repeat_with(|| Upload::fresh(world, "DE", 40).keys)
                .find(|keys| sorted(keys).concat().into_bytes() != signed_bytes(keys))
                .unwrap();
            let mut texts = sorted(&keys);
            let as_they_are = texts.concat().into_bytes();
            let right = signed_bytes(&keys);
            let refused = send_signed(world, keys.clone(), &as_they_are).expect(400);
            let refused = refused.json();
            assert_eq!(refused["reason"], "digest_mismatch");
            let advice = refused["advice"].as_str().unwrap();
            assert!(advice.contains("sorted by their texts"), "{advice}");
            // Tells the uploader what its signature would have to cover.
            texts.sort_by_cached_key(|text| STANDARD.encode(text));
            assert_eq!(
                refused["computed"],
                json!({
                    "sha256": sha256_hex(&right),
                    "keyCount": 40,
                    "firstText": texts[0],
                    "lastText": texts[39],
                })
            );
            send_signed(world, keys, &right).expect(201);
        },
    ),
    same(
        "§9.10",
        "request_order_is_free",
        "the order of the request does not matter to the signature",
        |world| {
            let mut keys = Upload::fresh(world, "DE", 9).keys;
            let content = signed_bytes(&keys);
            keys.reverse();
            send_signed(world, keys, &content).expect(201);
        },
    ),
    same(
        "§9.11",
        "empty_batch",
        "a batch without keys: zero bytes are signed",
        |world| {
            send_signed(world, Vec::new(), b"").expect(201);
            let refused = send_signed(world, Vec::new(), b"x");
            let refused = refused.expect_error(400, "Invalid signature").json();
            let computed = json!({"sha256": sha256_hex(b""), "keyCount": 0});
            assert_eq!(refused["computed"], computed);
        },
    ),
    differs(
        "§9.12",
        "malleable_countries",
        [
            "`[\"DE,FR\"]` and `[\"DE\",\"FR\"]` have the same bytes, `É` and `?` too",
            "a country with a comma or outside ASCII is refused with 400",
            "one text, one key",
        ],
        |world| {
            let mut keys = Upload::fresh(world, "DE", 1).keys;
            keys[0].visited = vec!["DE,FR".to_owned()];
            let content = signed_bytes(&keys);
            let answer = send_signed(world, keys, &content).expect(400);
            assert_eq!(answer.json()["reason"], "country_text");
        },
    ),
    same(
        "§9.13",
        "duplicates_in_all_fields",
        "a duplicate is equal in all fields: with another value it is a new key",
        |world| {
            let upload = Upload::fresh(world, "DE", 1).store(world);
            let again = |change: fn(&mut Key)| {
                let mut keys = upload.keys.clone();
                change(&mut keys[0]);
                Upload::of(world, "DE", keys).send(world)
            };
            again(|_| {}).expect(207);
            again(|key| key.days_since_onset += 1).expect(201);
            again(|key| key.risk_level += 1).expect(201);
            again(|key| key.visited.reverse()).expect(201);
            again(|key| key.report_type = 2).expect(201);
        },
    ),
    covered_by(
        "§9.14",
        "308 single keys and two shuffled batches made by another implementation",
        "engine/tests/vectors.rs::orders_shuffled_batches_as_they_are_signed",
        None,
    ),
];
