//! §8: the validation of keys.

use super::{Row, Section, differs, same};
use crate::World;
use crate::support::backend::Upload;
use crate::support::batch::Key;
use crate::support::raw::Answer;

pub(super) const SECTION: Section = Section {
    name: "s08_validation",
    heading: "§8 Validation of keys",
    rows: ROWS,
    prepare: World::new,
};

/// Uploads a valid key and a changed one; the signature covers both.
fn send(world: &World, change: impl FnOnce(&mut Key)) -> Answer {
    let mut keys = Upload::fresh(world, "DE", 2).keys;
    change(&mut keys[1]);
    Upload::of(world, "DE", keys).send(world)
}

/// The second key breaks a rule, whose text in the reference this is.
#[track_caller]
fn breaks(world: &World, tail: &str, change: impl FnOnce(&mut Key)) {
    let answer = send(world, change).expect(400);
    let message = answer.message();
    let reason = format!("uploadDiagnosisKeys.body: Validation of diagnosis key failed: {tail}");
    assert!(message.contains(&reason), "{message}");
    let general = "uploadDiagnosisKeys.body: One or more diagnosis keys are not valid";
    assert!(message.contains(general), "{message}");
    assert_eq!(answer.json()["keyIndex"], 1);
}

#[track_caller]
fn obeys(world: &World, change: impl FnOnce(&mut Key)) {
    send(world, change).expect(201);
}

/// The interval in which it is noon on 2021-06-01: `date -u -d 2021-06-01T12:00:00Z +%s` / 600.
const NOON_INTERVAL: u32 = 2_704_248;
/// Midnight of 2021-05-17, the same way.
const OLDEST_INTERVAL: u32 = 2_702_016;

const ROWS: &[Row] = &[
    same(
        "§8.1",
        "key_data_is_there",
        "`keyData` is empty: 400",
        |world| {
            breaks(world, "The keydata is empty or null.", |key| {
                key.key_data.clear();
            });
        },
    ),
    same(
        "§8.2",
        "key_data_has_16_bytes",
        "`keyData` has not 16 bytes: 400",
        |world| {
            breaks(world, "The keydata is not 16 bytes.", |key| {
                key.key_data.push(0);
            });
            breaks(world, "The keydata is not 16 bytes.", |key| {
                key.key_data.truncate(15);
            });
        },
    ),
    same(
        "§8.3",
        "rolling_start",
        "the start lies before midnight UTC 15 days ago, or after the next interval: 400",
        |world| {
            let tail = "Invalid rolling start interval number.";
            breaks(world, tail, |key| key.rolling_start = OLDEST_INTERVAL - 1);
            obeys(world, |key| key.rolling_start = OLDEST_INTERVAL);
            obeys(world, |key| key.rolling_start = NOON_INTERVAL + 1);
            breaks(world, tail, |key| key.rolling_start = NOON_INTERVAL + 2);
        },
    ),
    same(
        "§8.4",
        "rolling_period",
        "the rolling period is not 1 to 144: 400",
        |world| {
            let tail = "Invalid rolling period.";
            breaks(world, tail, |key| key.rolling_period = 0);
            obeys(world, |key| key.rolling_period = 1);
            obeys(world, |key| key.rolling_period = 144);
            breaks(world, tail, |key| key.rolling_period = 145);
        },
    ),
    same(
        "§8.5",
        "risk_level",
        "the risk level is neither 0 to 8 nor 2147483647: 400",
        |world| {
            let tail = "Invalid transmission risk level.";
            breaks(world, tail, |key| key.risk_level = -1);
            obeys(world, |key| key.risk_level = 0);
            obeys(world, |key| key.risk_level = 8);
            breaks(world, tail, |key| key.risk_level = 9);
            obeys(world, |key| key.risk_level = i32::MAX);
        },
    ),
    differs(
        "§8.6",
        "what_is_not_judged",
        [
            "days since onset, report type, countries and the syntax of the origin are not validated",
            "the same but for report types outside the enumeration, countries with a comma, a \
             control character or outside ASCII, and more than 287 characters of them: 400",
            "no client could read the first; the canonical form of the others is ambiguous (S-4), JSON \
             makes control characters six times as long, and the reference's column takes 287",
        ],
        |world| {
            obeys(world, |key| key.days_since_onset = 100_000);
            obeys(world, |key| key.visited = vec!["Atlantis".to_owned()]);
            breaks(world, "Invalid report type.", |key| key.report_type = 6);
            let tail = "Countries must be ASCII without commas and control characters.";
            breaks(world, tail, |key| key.visited = vec!["DE,FR".to_owned()]);
            breaks(world, tail, |key| key.visited = vec!["É".to_owned()]);
            breaks(world, tail, |key| key.visited = vec!["D\u{1}".to_owned()]);
            obeys(world, |key| key.visited = vec!["FR".to_owned(); 96]);
            let tail = "The visited countries have more than 287 characters.";
            breaks(world, tail, |key| key.visited = vec!["FR".to_owned(); 97]);
        },
    ),
    differs(
        "§8.7",
        "which_key",
        [
            "the message never says which key it was",
            "the familiar message, and beside it `keyIndex` and `reason`",
            "a backend can take the key out and send the others (#233)",
        ],
        |world| {
            let answer = send(world, |key| key.rolling_period = 145)
                .expect(400)
                .json();
            assert_eq!(answer["keyIndex"], 1);
            assert_eq!(answer["reason"], "rolling_period");
        },
    ),
    same(
        "§8.8",
        "one_key_fails_all",
        "one key that breaks a rule fails the whole batch (#233)",
        |world| {
            let mut upload = Upload::fresh(world, "DE", 2);
            let good = upload.keys[0].clone();
            upload.keys[1].rolling_period = 145;
            Upload::of(world, "DE", upload.keys).send(world).expect(400);
            Upload::of(world, "DE", vec![good]).send(world).expect(201);
        },
    ),
    same(
        "§8.9",
        "unaligned_start",
        "a start that is not midnight is fine",
        |world| obeys(world, |key| key.rolling_start -= 77),
    ),
];
