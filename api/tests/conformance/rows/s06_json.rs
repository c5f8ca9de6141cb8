//! §6: JSON bodies.

use serde_json::{Value, json};

use super::{Row, Section, differs, same};
use crate::World;
use crate::support::backend::{JSON, Upload, ask, download_request};
use crate::support::batch::{Key, from_json, key_to_json, to_json};
use crate::support::raw::Answer;
use crate::support::world::{Databases, Kind};

pub(super) const SECTION: Section = Section {
    name: "s06_json",
    heading: "§6 JSON",
    rows: ROWS,
    prepare,
};

/// IT has uploaded a key of default values, DE nothing that others can download.
fn prepare(databases: &Databases, kind: Kind) -> World {
    let world = World::new(databases, kind);
    Upload::of(&world, "IT", vec![bare_key(&world)]).store(&world);
    world.cut();
    world
}

/// All optional fields have their defaults.
fn bare_key(world: &World) -> Key {
    let mut key = Upload::fresh(world, "IT", 1).keys.remove(0);
    key.report_type = 0;
    key.risk_level = 0;
    key.days_since_onset = 0;
    key.visited.clear();
    key
}

fn downloaded(world: &World, country: &str) -> Answer {
    let request = download_request(country, "2021-06-01").set("Accept", JSON);
    ask(world, &request.with("batchTag", "20210601-1")).expect(200)
}

/// Uploads JSON that is equivalent to `upload`.
fn send(world: &World, upload: &Upload, body: impl Into<Vec<u8>>) -> Answer {
    ask(world, &upload.json_request().body(body))
}

/// One key as changed JSON is read as the key that was signed.
#[track_caller]
fn means(world: &World, change: impl FnOnce(&mut Value)) {
    let upload = Upload::fresh(world, "DE", 1);
    let mut key = key_to_json(&upload.keys[0]);
    change(&mut key);
    send(world, &upload, json!({ "keys": [key] }).to_string()).expect(201);
}

/// Usual JSON with a replacement is read as what was signed.
#[track_caller]
fn text_means(world: &World, from: &str, to: &str) {
    let upload = Upload::fresh(world, "DE", 1);
    let body = replaced(&upload, from, to);
    send(world, &upload, body).expect(201);
}

/// The same, but it is refused.
#[track_caller]
fn text_refused(world: &World, from: &str, to: &str) {
    let upload = Upload::fresh(world, "DE", 1);
    let body = replaced(&upload, from, to);
    assert_eq!(
        send(world, &upload, body).expect(400).code(),
        "malformed_batch"
    );
}

#[track_caller]
fn replaced(upload: &Upload, from: &str, to: &str) -> String {
    let body = String::from_utf8(to_json(&upload.keys)).unwrap();
    assert!(body.contains(from), "{body}");
    body.replacen(from, to, 1)
}

/// A body that is not a batch.
#[track_caller]
fn refused(world: &World, body: &str) {
    let upload = Upload::fresh(world, "DE", 1);
    send(world, &upload, body).expect(400);
}

const LENIENT: &str = "the body is JSON (RFC 8259), no client sends anything else";

const ROWS: &[Row] = &[
    same(
        "§6.1.1",
        "member_names",
        "members are named as in the schema, the last one in snake_case; nothing else is written",
        |world| {
            // The tests' parser refuses everything else.
            assert_eq!(from_json(&downloaded(world, "DE").body).len(), 1);
        },
    ),
    differs(
        "§6.1.2",
        "defaults_are_written",
        [
            "members at their default are left out (#207)",
            "all eight members of every key are written",
            "PL reads a missing `reportType` as a fault, and loses the batch",
        ],
        |world| {
            let [key] = from_json(&downloaded(world, "DE").body).try_into().unwrap();
            assert_eq!(
                (
                    key.report_type,
                    key.risk_level,
                    key.days_since_onset,
                    key.visited.len()
                ),
                (0, 0, 0, 0)
            );
        },
    ),
    differs(
        "§6.1.3",
        "empty_batch_is_written",
        [
            "a batch without keys is `{}`",
            "`{\"keys\":[]}`",
            "every client takes both; a list that is always there is simpler to read",
        ],
        |world| assert_eq!(downloaded(world, "IT").body, b"{\"keys\":[]}"),
    ),
    differs(
        "§6.1.4",
        "blanks",
        [
            "a blank after each colon",
            "none",
            "JSON gives blanks no meaning, and they cost a tenth of the bytes",
        ],
        |world| assert!(!downloaded(world, "DE").body.contains(&b' ')),
    ),
    same(
        "§6.1.5",
        "values",
        "`keyData` in standard base64 with padding, enumerations by name, numbers unsigned where \
         the schema says so",
        |world| {
            let key = &downloaded(world, "DE").json()["keys"][0];
            let key_data = key["keyData"].as_str().unwrap();
            assert!(key_data.len() == 24 && key_data.ends_with("=="), "{key}");
            assert_eq!(key["reportType"], "UNKNOWN");
            assert!(key["rollingStartIntervalNumber"].is_u64());
        },
    ),
    same(
        "§6.2.1",
        "order_and_unknown_members",
        "any order of members, blanks, unknown members of any kind",
        |world| {
            means(world, |key| {
                key["unknown"] = json!("x");
                key["more"] = json!({"a": [1, {"b": null}]});
                key["list"] = json!([1, 2]);
            });
            let upload = Upload::fresh(world, "DE", 1);
            let pretty: Value = serde_json::from_slice(&to_json(&upload.keys)).unwrap();
            let pretty = serde_json::to_string_pretty(&pretty).unwrap();
            send(world, &upload, pretty).expect(201);
            let upload = Upload::fresh(world, "DE", 1);
            let key = key_to_json(&upload.keys[0]);
            let reversed: Vec<_> = key.as_object().unwrap().iter().rev().collect();
            let members = reversed
                .iter()
                .map(|(name, value)| format!("\"{name}\":{value}"));
            let members = members.collect::<Vec<_>>().join(" , ");
            let body = format!("{{\"x\":1,\"keys\":[{{{members}}}]}}");
            send(world, &upload, body).expect(201);
        },
    ),
    differs(
        "§6.2.2",
        "empty_unknown_members",
        [
            "an unknown member whose value is `{}` or `[]`: 400",
            "passed over like any other",
            "an accident of the library",
        ],
        |world| {
            means(world, |key| key["unknown"] = json!({}));
            means(world, |key| key["unknown"] = json!([]));
        },
    ),
    differs(
        "§6.2.3",
        "camel_case",
        [
            "`daysSinceOnsetOfSymptoms` is passed over: the value is 0; so is `KeyData`",
            "both names of the last member are read; `KeyData` is passed over",
            "the standard mapping of protobuf writes camelCase",
        ],
        |world| {
            text_means(
                world,
                "days_since_onset_of_symptoms",
                "daysSinceOnsetOfSymptoms",
            );
            let upload = Upload::fresh(world, "DE", 1);
            let body = replaced(&upload, "keyData", "KeyData");
            let answer = send(world, &upload, body).expect(400);
            assert_eq!(answer.json()["reason"], "key_data_present");
        },
    ),
    differs(
        "§6.2.4",
        "members_by_number",
        [
            "a member named by its number (`\"6\": \"DE\"`) is that field",
            "passed over as unknown",
            "no client sends it",
        ],
        |world| means(world, |key| key["6"] = json!("FR")),
    ),
    differs(
        "§6.2.5",
        "numbers",
        [
            "numbers plain, quoted, hexadecimal or octal, within their range; no fractions",
            "plain or quoted decimals within their range",
            LENIENT,
        ],
        |world| {
            means(world, |key| {
                key["rollingPeriod"] = json!("144");
                key["days_since_onset_of_symptoms"] = json!("-2");
            });
            for number in [
                "0x90",
                "\"0x90\"",
                "0144",
                "144.5",
                "1.44e2",
                "4294967296",
                "-1",
            ] {
                text_refused(
                    world,
                    "\"rollingPeriod\":144",
                    &format!("\"rollingPeriod\":{number}"),
                );
            }
        },
    ),
    differs(
        "§6.2.6",
        "enumerations",
        [
            "an enumeration by name, quoted or bare, or by number; unknown names, lower case and \
             `\"1\"`: 400",
            "by quoted name or by number; the rest: 400",
            LENIENT,
        ],
        |world| {
            means(world, |key| key["reportType"] = json!(1));
            let name = "\"CONFIRMED_TEST\"";
            for other in ["CONFIRMED_TEST", "\"confirmed_test\"", "\"1\"", "\"NEW\""] {
                text_refused(world, name, other);
            }
        },
    ),
    differs(
        "§6.2.7",
        "null",
        [
            "`null` counts as absent, but `\"keyData\": null`: 400",
            "`null` counts as absent; a key without `keyData` breaks a rule: 400",
            "one meaning for all members",
        ],
        |world| {
            let mut upload = Upload::fresh(world, "DE", 1);
            upload.keys[0].visited.clear();
            upload.keys[0].risk_level = 0;
            let upload = Upload::of(world, "DE", upload.keys);
            let mut key = key_to_json(&upload.keys[0]);
            key["visitedCountries"] = Value::Null;
            key["transmissionRiskLevel"] = Value::Null;
            send(world, &upload, json!({ "keys": [key.clone()] }).to_string()).expect(201);
            key["keyData"] = Value::Null;
            let answer = send(world, &upload, json!({ "keys": [key] }).to_string()).expect(400);
            assert_eq!(answer.json()["reason"], "key_data_present");
        },
    ),
    same(
        "§6.2.8",
        "repeated_members",
        "of a repeated member the last counts; repeated lists are joined",
        |world| {
            let origin = "\"origin\":\"DE\"";
            text_means(world, origin, &format!("\"origin\":\"FR\",{origin}"));
            let visited = "\"visitedCountries\":[\"FR\",\"AT\"]";
            let twice = "\"visitedCountries\":[\"FR\"],\"visitedCountries\":[\"AT\"]";
            text_means(world, visited, twice);
        },
    ),
    same(
        "§6.2.9",
        "base64",
        "padding may be missing; the URL-safe alphabet or a line break: 400 `Invalid Base64 in \
         JSON object`",
        |world| {
            text_means(world, "==\"", "\"");
            for key_data in ["-_-_-_-_-_-_-_-_-_-_-w==", "AAAA\\nAAAAAAAAAAAAAAAAAA=="] {
                let upload = Upload::fresh(world, "DE", 1);
                let body = format!("{{\"keys\":[{{\"keyData\":\"{key_data}\"}}]}}");
                let answer = send(world, &upload, body);
                answer.expect_error(400, "Invalid Base64 in JSON object");
            }
        },
    ),
    differs(
        "§6.2.10",
        "escapes",
        [
            "escapes as in JSON, but `\\/`: 400",
            "all escapes of JSON",
            "PHP and others write `\\/`",
        ],
        |world| {
            text_means(world, "\"DE\"", "\"\\u0044E\"");
            text_means(
                world,
                "\"visitedCountries\"",
                "\"x\":\"\\/\\n\\\"\",\"visitedCountries\"",
            );
            let upload = escaped_slash(world);
            let body = String::from_utf8(to_json(&upload.keys)).unwrap();
            send(world, &upload, body.replace('/', "\\/")).expect(201);
        },
    ),
    differs(
        "§6.2.11",
        "no_json_leniencies",
        [
            "missing commas, trailing commas, comments and unquoted names are taken",
            "400",
            LENIENT,
        ],
        |world| {
            text_refused(world, ",\"rollingPeriod\"", " \"rollingPeriod\"");
            text_refused(world, "[\"FR\",\"AT\"]", "[\"FR\",\"AT\",]");
            text_refused(world, "{\"keys\"", "# comment\n{\"keys\"");
            text_refused(world, "\"keys\"", "keys");
        },
    ),
    same(
        "§6.2.12",
        "no_batch",
        "`[]`, `null`, trailing junk, single quotes, nothing: 400",
        |world| {
            for body in ["[]", "null", "{}x", "{'keys':[]}", "", "1", "\"keys\""] {
                refused(world, body);
            }
        },
    ),
    same("§6.2.13", "invalid_json", "invalid JSON: 400", |world| {
        refused(world, "{\"keys\":[{");
        refused(world, "{\"keys\":{}}");
        refused(world, "\u{feff}{\"keys\":[]}");
    }),
];

/// A key whose base64 has a slash.
fn escaped_slash(world: &World) -> Upload {
    loop {
        let upload = Upload::fresh(world, "DE", 1);
        if to_json(&upload.keys).contains(&b'/') {
            return upload;
        }
    }
}
