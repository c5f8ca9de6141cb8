//! §7: protobuf bodies.

use super::{Row, Section, covered_by, differs, same};
use crate::World;
use crate::support::backend::{Upload, ask, download};
use crate::support::batch::{Key, field, from_protobuf, to_protobuf, varint};
use crate::support::raw::Answer;
use crate::support::world::{Databases, Kind};

pub(super) const SECTION: Section = Section {
    name: "s07_protobuf",
    heading: "§7 Protobuf",
    rows: ROWS,
    prepare,
};

fn prepare(databases: &Databases, kind: Kind) -> World {
    let world = World::new(databases, kind);
    let keys = [i32::MIN, -4000, -1, 0, 1, 4000, i32::MAX].map(|days| {
        let mut key = Upload::fresh(&world, "DE", 1).keys.remove(0);
        key.days_since_onset = days;
        key
    });
    Upload::of(&world, "DE", keys.into()).store(&world);
    let upload = Upload::fresh(&world, "DE", 1);
    let body = with_unknown_fields(&upload.keys[0]);
    ask(&world, &upload.request().body(body)).expect(201);
    world.cut();
    world
}

/// The fields of one key, without the frame of the batch.
fn message(key: &Key) -> Vec<u8> {
    let framed = to_protobuf(std::slice::from_ref(key));
    framed[2..].to_vec()
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, 1, message);
    out
}

fn with_unknown_fields(key: &Key) -> Vec<u8> {
    let mut message = message(key);
    field(&mut message, 15, b"unknown");
    message.extend([14 << 3, 0x96, 0x01]);
    let mut body = framed(&message);
    field(&mut body, 9, b"unknown");
    body
}

/// Sends the fields of a key, equivalent to the key of a signed upload.
fn send(world: &World, change: impl FnOnce(&Key) -> Vec<u8>) -> Answer {
    let upload = Upload::fresh(world, "DE", 1);
    let body = framed(&change(&upload.keys[0]));
    ask(world, &upload.request().body(body))
}

fn number(tag: u8, value: u64) -> Vec<u8> {
    let mut out = vec![tag << 3];
    varint(&mut out, value);
    out
}

const ROWS: &[Row] = &[
    same(
        "§7.1",
        "unknown_fields",
        "unknown fields are passed over, not stored and not signed",
        |world| {
            let answer = download(world, "IT", "2021-06-01", Some("20210601-1")).expect(200);
            // The tests' parser fails on fields that the schema does not have.
            assert_eq!(from_protobuf(&answer.body).len(), 8);
        },
    ),
    same(
        "§7.2",
        "last_scalar_wins",
        "of a repeated scalar the last counts",
        |world| {
            let twice = |key: &Key| [number(3, 7), number(2, 1), message(key)].concat();
            send(world, twice).expect(201);
        },
    ),
    differs(
        "§7.3",
        "unknown_enumeration_number",
        [
            "an unknown `reportType` is read, signed and verified, then cannot be stored: its \
             position under `500` in a 207",
            "400 with the key's position and the rule",
            "no client could read such a key; the sender is told at once what is wrong",
        ],
        |world| {
            let mut upload = Upload::fresh(world, "DE", 2);
            upload.keys[1].report_type = 9;
            let answer = Upload::of(world, "DE", upload.keys).send(world).expect(400);
            let json = answer.json();
            assert_eq!(
                (&json["keyIndex"], &json["reason"]),
                (&1.into(), &"report_type".into())
            );
        },
    ),
    same(
        "§7.4",
        "numbers_from_2_31",
        "numbers from 2^31 break the rules of ranges: 400",
        |world| {
            let late = |key: &Key| [message(key), number(2, 1 << 31)].concat();
            let answer = send(world, late).expect(400);
            assert_eq!(answer.json()["reason"], "rolling_start");
        },
    ),
    same(
        "§7.5",
        "malformed",
        "text that is no UTF-8, a truncated message: 400",
        |world| {
            let no_text = |key: &Key| [message(key), b"\x32\x02\xff\xfe".to_vec()].concat();
            send(world, no_text).expect_error(400, "Failed to read request");
            let cut = |key: &Key| [message(key), b"\x32\x09DE".to_vec()].concat();
            send(world, cut).expect_error(400, "Failed to read request");
        },
    ),
    same(
        "§7.6",
        "known_field_of_another_wire_type",
        "a known number with another wire type is an unknown field",
        |world| {
            let odd = |key: &Key| [message(key), b"\x1a\x01x".to_vec()].concat();
            send(world, odd).expect(201);
        },
    ),
    same(
        "§7.7",
        "long_varints",
        "varints beyond 32 bits are cut to their low 32 bits",
        |world| {
            let long = |key: &Key| {
                let high = 7 << 32 | u64::from(key.rolling_start);
                [message(key), number(2, high)].concat()
            };
            send(world, long).expect(201);
        },
    ),
    same(
        "§7.8",
        "days_since_onset_as_sent",
        "`days_since_onset_of_symptoms` is not validated, any int32 survives",
        |world| {
            let answer = download(world, "IT", "2021-06-01", Some("20210601-1")).expect(200);
            let days = from_protobuf(&answer.body)
                .into_iter()
                .map(|key| key.days_since_onset);
            let expected = [i32::MIN, -4000, -1, 0, 1, 4000, i32::MAX, -2];
            assert_eq!(days.collect::<Vec<_>>(), expected);
        },
    ),
    same(
        "§7.9",
        "nothing_for_this_caller",
        "a batch with nothing for its reader: 200 with zero bytes",
        |world| {
            let answer = download(world, "DE", "2021-06-01", Some("20210601-1")).expect(200);
            assert!(answer.body.is_empty());
            assert_eq!(answer.header("Content-Length"), Some("0"));
        },
    ),
    covered_by(
        "§7.10",
        "21 malformed bodies made for a decoder are refused",
        "engine/tests/vectors.rs::refuses_every_malformed_body",
        None,
    ),
];
