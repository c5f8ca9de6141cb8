//! Keys as JSON objects, written by hand: derived serialization looks for characters to escape in
//! the names of the members, too, and took 5 % more instructions for a batch.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::REPORT_TYPES;
use crate::wire::protobuf::{KeyMessages, read_key};

/// What stands between two segments that are not empty.
pub const SEPARATOR: &[u8] = b",";

const OWN_SEGMENT: &str = "segments are encoded by this gateway from keys that it decoded";

/// Appends the keys of an encoded protobuf segment as JSON objects joined with commas, all eight
/// members always (wire §6.1). Nothing for a segment without keys.
///
/// # Panics
/// When `protobuf_segment` is not what [`crate::wire::protobuf::write_key`] makes.
pub fn write_segment(out: &mut Vec<u8>, protobuf_segment: &[u8]) {
    let mut messages = KeyMessages::new(protobuf_segment);
    let mut separator = &b""[..];
    while let Some(message) = messages.next_message().expect(OWN_SEGMENT) {
        out.extend_from_slice(separator);
        separator = SEPARATOR;
        write_key(out, message).expect("a vector takes whatever is written to it");
    }
}

fn write_key(out: &mut Vec<u8>, message: &[u8]) -> std::io::Result<()> {
    // The members in the order of the schema, which puts the countries before the origin: they are
    // written while the message is read a second time.
    let key = read_key(message, |_| {}).expect(OWN_SEGMENT);
    out.extend_from_slice(br#"{"keyData":""#);
    write_base64(out, key.key_data);
    write!(
        out,
        r#"","rollingStartIntervalNumber":{},"rollingPeriod":{},"transmissionRiskLevel":{},"visitedCountries":["#,
        key.rolling_start, key.rolling_period, key.risk_level
    )?;
    write_countries(out, message)?;
    out.extend_from_slice(br#"],"origin":"#);
    serde_json::to_writer(&mut *out, key.origin)?;
    out.extend_from_slice(br#","reportType":"#);
    match report_type_name(key.report_type) {
        Some(name) => write!(out, "\"{name}\"")?,
        None => write!(out, "{}", key.report_type)?,
    }
    write!(
        out,
        r#","days_since_onset_of_symptoms":{}}}"#,
        key.days_since_onset
    )
}

fn write_countries(out: &mut Vec<u8>, message: &[u8]) -> std::io::Result<()> {
    let mut separator = &b""[..];
    let mut written = Ok(());
    let on_country = |country: &str| {
        out.extend_from_slice(separator);
        separator = SEPARATOR;
        if let Err(error) = serde_json::to_writer(&mut *out, country) {
            written = Err(error.into());
        }
    };
    read_key(message, on_country).expect(OWN_SEGMENT);
    written
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    let encoded = bytes.len().div_ceil(3).saturating_mul(4);
    out.resize(start.saturating_add(encoded), b'=');
    if let Some(place) = out.get_mut(start..) {
        STANDARD
            .encode_slice(bytes, place)
            .expect("the space is exact");
    }
}

fn report_type_name(number: i32) -> Option<&'static str> {
    let number = usize::try_from(number).ok()?;
    REPORT_TYPES.get(number).copied()
}
