//! Keys as JSON objects.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

use crate::domain::REPORT_TYPES;
use crate::wire::protobuf::{KeyFields, KeyMessages, read_key};

/// What stands between two segments that are not empty.
pub const SEPARATOR: &[u8] = b",";

/// Appends the keys of an encoded protobuf segment as JSON objects joined with commas, all eight
/// members always (wire §6.1). Nothing for a segment without keys.
///
/// # Panics
/// When `protobuf_segment` is not what [`crate::wire::protobuf::write_key`] makes.
pub fn write_segment(out: &mut Vec<u8>, protobuf_segment: &[u8]) {
    const OWN_SEGMENT: &str = "segments are encoded by this gateway from keys that it decoded";
    let mut messages = KeyMessages::new(protobuf_segment);
    let mut countries = Vec::new();
    let mut separator = &b""[..];
    while let Some(message) = messages.next_message().expect(OWN_SEGMENT) {
        out.extend_from_slice(separator);
        separator = SEPARATOR;
        countries.clear();
        let fields = read_key(message, |country| countries.push(country)).expect(OWN_SEGMENT);
        let key = WrittenKey::new(&fields, &countries);
        serde_json::to_writer(&mut *out, &key).expect("a vector takes whatever is written to it");
    }
}

/// A key as it is written, its members in the order of the schema.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenKey<'a> {
    #[serde(serialize_with = "write_base64")]
    key_data: &'a [u8],
    rolling_start_interval_number: u32,
    rolling_period: u32,
    transmission_risk_level: i32,
    visited_countries: &'a [&'a str],
    origin: &'a str,
    report_type: WrittenReportType,
    #[serde(rename = "days_since_onset_of_symptoms")]
    days_since_onset: i32,
}

/// By its name if it has one.
#[derive(Serialize)]
#[serde(untagged)]
enum WrittenReportType {
    Name(&'static str),
    Number(i32),
}

impl<'a> WrittenKey<'a> {
    fn new(fields: &KeyFields<'a>, visited_countries: &'a [&'a str]) -> Self {
        Self {
            key_data: fields.key_data,
            rolling_start_interval_number: fields.rolling_start,
            rolling_period: fields.rolling_period,
            transmission_risk_level: fields.risk_level,
            visited_countries,
            origin: fields.origin,
            report_type: report_type(fields.report_type),
            days_since_onset: fields.days_since_onset,
        }
    }
}

fn report_type(number: i32) -> WrittenReportType {
    let name = usize::try_from(number)
        .ok()
        .and_then(|at| REPORT_TYPES.get(at));
    name.map_or(WrittenReportType::Number(number), |name| {
        WrittenReportType::Name(name)
    })
}

fn write_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}
