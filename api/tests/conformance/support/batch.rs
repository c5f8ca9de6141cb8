//! Batches of keys as clients write and read them. Written from the schema and from wire
//! §6, §7 and §9 alone, so that the gateway is not compared with itself.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::domain::UnixMillis;
use serde_json::{Value, json};

use super::pki::sha256;

/// One `DiagnosisKey`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) key_data: Vec<u8>,
    pub(crate) rolling_start: u32,
    pub(crate) rolling_period: u32,
    pub(crate) risk_level: i32,
    pub(crate) visited: Vec<String>,
    pub(crate) origin: String,
    pub(crate) report_type: i32,
    pub(crate) days_since_onset: i32,
}

/// `ReportType`, by number.
pub(crate) const REPORT_TYPES: [&str; 6] = [
    "UNKNOWN",
    "CONFIRMED_TEST",
    "CONFIRMED_CLINICAL_DIAGNOSIS",
    "SELF_REPORT",
    "RECURSIVE",
    "REVOKED",
];

/// A unique key, valid at `now`.
pub(crate) fn fresh_key(origin: &str, now: UnixMillis) -> Key {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Key {
        key_data: sha256(&number.to_be_bytes())[..16].to_vec(),
        rolling_start: midnight_interval(now),
        rolling_period: 144,
        risk_level: 3,
        visited: vec!["FR".to_owned(), "AT".to_owned()],
        origin: origin.to_owned(),
        report_type: 1,
        days_since_onset: -2,
    }
}

/// That many fresh keys.
pub(crate) fn fresh_keys(origin: &str, now: UnixMillis, count: usize) -> Vec<Key> {
    (0..count).map(|_| fresh_key(origin, now)).collect()
}

/// The ten-minute interval at which the day of `now` begins.
pub(crate) fn midnight_interval(now: UnixMillis) -> u32 {
    u32::try_from(now.seconds() / 86_400 * 144).unwrap()
}

/// `DiagnosisKeyBatch` in protobuf, defaults left out, fields in the order of the schema.
pub(crate) fn to_protobuf(keys: &[Key]) -> Vec<u8> {
    let mut out = Vec::new();
    for key in keys {
        field(&mut out, 1, &message(key));
    }
    out
}

fn message(key: &Key) -> Vec<u8> {
    let mut out = Vec::new();
    if !key.key_data.is_empty() {
        field(&mut out, 1, &key.key_data);
    }
    number(&mut out, 2, u64::from(key.rolling_start));
    number(&mut out, 3, u64::from(key.rolling_period));
    number(&mut out, 4, i64::from(key.risk_level).cast_unsigned());
    for country in &key.visited {
        field(&mut out, 5, country.as_bytes());
    }
    if !key.origin.is_empty() {
        field(&mut out, 6, key.origin.as_bytes());
    }
    number(&mut out, 7, i64::from(key.report_type).cast_unsigned());
    let days = key.days_since_onset;
    let zigzag = (days << 1) ^ (days >> 31);
    number(&mut out, 8, u64::from(zigzag.cast_unsigned()));
    out
}

/// A length-delimited field.
pub(crate) fn field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn number(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value != 0 {
        out.push(tag << 3);
        varint(out, value);
    }
}

/// A base-128 number.
pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

/// Reads a `DiagnosisKeyBatch`; a field that the schema does not know fails the test.
pub(crate) fn from_protobuf(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(read_varint(&mut bytes), 1 << 3 | 2, "only `keys`");
        keys.push(read_message(read_bytes(&mut bytes)));
    }
    keys
}

fn read_message(mut bytes: &[u8]) -> Key {
    let mut key = Key {
        key_data: Vec::new(),
        rolling_start: 0,
        rolling_period: 0,
        risk_level: 0,
        visited: Vec::new(),
        origin: String::new(),
        report_type: 0,
        days_since_onset: 0,
    };
    let int32 = |value: u64| i32::try_from(value.cast_signed()).unwrap();
    while !bytes.is_empty() {
        match read_varint(&mut bytes) {
            0x0a => key.key_data = read_bytes(&mut bytes).to_vec(),
            0x10 => key.rolling_start = u32::try_from(read_varint(&mut bytes)).unwrap(),
            0x18 => key.rolling_period = u32::try_from(read_varint(&mut bytes)).unwrap(),
            0x20 => key.risk_level = int32(read_varint(&mut bytes)),
            0x2a => key.visited.push(read_text(&mut bytes)),
            0x32 => key.origin = read_text(&mut bytes),
            0x38 => key.report_type = int32(read_varint(&mut bytes)),
            0x40 => {
                let zigzag = u32::try_from(read_varint(&mut bytes)).unwrap();
                key.days_since_onset = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
            }
            other => panic!("field {other:#x}"),
        }
    }
    key
}

fn read_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn read_bytes<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let length = usize::try_from(read_varint(bytes)).unwrap();
    let (field, rest) = bytes.split_at(length);
    *bytes = rest;
    field
}

fn read_text(bytes: &mut &[u8]) -> String {
    String::from_utf8(read_bytes(bytes).to_vec()).unwrap()
}

/// The eight members of a key, named as in the schema.
pub(crate) fn key_to_json(key: &Key) -> Value {
    json!({
        "keyData": STANDARD.encode(&key.key_data),
        "rollingStartIntervalNumber": key.rolling_start,
        "rollingPeriod": key.rolling_period,
        "transmissionRiskLevel": key.risk_level,
        "visitedCountries": key.visited,
        "origin": key.origin,
        "reportType": REPORT_TYPES[usize::try_from(key.report_type).unwrap()],
        "days_since_onset_of_symptoms": key.days_since_onset,
    })
}

/// `{"keys":[…]}` with every member.
pub(crate) fn to_json(keys: &[Key]) -> Vec<u8> {
    let keys: Vec<Value> = keys.iter().map(key_to_json).collect();
    serde_json::to_vec(&json!({ "keys": keys })).unwrap()
}

/// Reads a batch as the strictest of the clients do: nothing beside `keys` (PL), nothing in a key
/// beside the eight members, names for enumerations (DK, NO), every member there (PL).
pub(crate) fn from_json(bytes: &[u8]) -> Vec<Key> {
    let value: Value = serde_json::from_slice(bytes).unwrap();
    let members = value.as_object().unwrap();
    assert_eq!(members.keys().collect::<Vec<_>>(), ["keys"]);
    let keys = value["keys"].as_array().unwrap();
    keys.iter().map(key_from_json).collect()
}

fn key_from_json(value: &Value) -> Key {
    assert_eq!(value.as_object().unwrap().len(), 8, "{value}");
    let text = |name: &str| value[name].as_str().unwrap().to_owned();
    let number = |name: &str| value[name].as_i64().unwrap();
    let report_type = text("reportType");
    let report_type = REPORT_TYPES.iter().position(|name| *name == report_type);
    let visited = value["visitedCountries"].as_array().unwrap().iter();
    Key {
        key_data: STANDARD.decode(text("keyData")).unwrap(),
        rolling_start: u32::try_from(number("rollingStartIntervalNumber")).unwrap(),
        rolling_period: u32::try_from(number("rollingPeriod")).unwrap(),
        risk_level: i32::try_from(number("transmissionRiskLevel")).unwrap(),
        visited: visited.map(|v| v.as_str().unwrap().to_owned()).collect(),
        origin: text("origin"),
        report_type: i32::try_from(report_type.unwrap()).unwrap(),
        days_since_onset: i32::try_from(number("days_since_onset_of_symptoms")).unwrap(),
    }
}

/// The text of one key: eight base64 fields, each followed by a dot (wire §9).
pub(crate) fn canonical_text(key: &Key) -> String {
    let int = |value: i32| STANDARD.encode(value.to_be_bytes());
    [
        STANDARD.encode(&key.key_data),
        int(key.rolling_start.cast_signed()),
        int(key.rolling_period.cast_signed()),
        int(key.risk_level),
        STANDARD.encode(key.visited.join(",")),
        STANDARD.encode(&key.origin),
        int(key.report_type),
        int(key.days_since_onset),
    ]
    .map(|field| field + ".")
    .concat()
}

/// What a batch signature covers: the texts ordered by their own base64, joined.
pub(crate) fn signed_bytes(keys: &[Key]) -> Vec<u8> {
    let mut texts: Vec<String> = keys.iter().map(canonical_text).collect();
    texts.sort_by_cached_key(|text| STANDARD.encode(text));
    texts.concat().into_bytes()
}
