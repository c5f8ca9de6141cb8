//! JSON bodies (wire §6): read into the protobuf body that means the same, and written
//! from protobuf segments.
//!
//! - *In*: a JSON body, or a segment that this gateway encoded.
//! - *Out*: a protobuf body for [`crate::decode`]; the segment's keys as JSON objects.
//! - *Refuses*: what is not JSON after RFC 8259 or not of the expected shape
//!   ([`MalformedBatch`]); more keys than allowed, at the first key too many.
//! - *Assumes*: admission has bounded the size of the body.
//! - *Runs on*: a CPU job.
//!
//! Looser than the standard in nothing; looser than the schema where backends are: unknown members
//! of any shape are skipped, numbers may be quoted, `null` means absent, and the last field may be
//! spelled in either way. A key goes into the protobuf body as soon as it is read; one set of
//! buffers serves all keys.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;
use std::io::Write as _;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::{BodyError, MalformedBatch};
use super::protobuf::{KeyFields, KeyMessages, read_key, write_key};
use crate::domain::REPORT_TYPES;

/// What precedes the first segment of a JSON batch.
pub const OPENING: &[u8] = br#"{"keys":["#;

/// What stands between two segments that are not empty.
pub const SEPARATOR: &[u8] = b",";

/// What follows the last segment of a JSON batch.
pub const CLOSING: &[u8] = b"]}";

/// Standard alphabet; padding may be missing (wire §6.2), whole or in part.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Transcodes a JSON body to the protobuf body that means the same.
///
/// # Errors
/// [`BodyError::Malformed`], or [`BodyError::TooManyKeys`] as soon as a key beyond `keys_max`
/// begins.
pub fn to_protobuf(body: &[u8], keys_max: u32) -> Result<Vec<u8>, BodyError> {
    let text = std::str::from_utf8(body).map_err(|_| MalformedBatch::NotUtf8)?;
    let mut transcoder = Transcoder::new(body.len(), keys_max);
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json
        .deserialize_map(BatchVisitor(&mut transcoder))
        .and_then(|()| json.end());
    match (read, transcoder.rejection) {
        (Ok(()), _) => Ok(transcoder.out),
        (Err(_), Some(rejection)) => Err(rejection),
        (Err(_), None) => Err(MalformedBatch::Json.into()),
    }
}

/// Appends the keys of an encoded protobuf segment as JSON objects joined with commas, all eight
/// members always (wire §6.1). Nothing for a segment without keys.
///
/// # Panics
/// When `protobuf_segment` is not what [`write_key`] makes.
pub fn write_segment(out: &mut Vec<u8>, protobuf_segment: &[u8]) {
    let mut messages = KeyMessages::new(protobuf_segment);
    let mut first = true;
    while let Some(message) = messages.next_message().expect(OWN_SEGMENT) {
        if !first {
            out.extend_from_slice(SEPARATOR);
        }
        first = false;
        write_json_key(out, message).expect("a vector takes whatever is written to it");
    }
}

const OWN_SEGMENT: &str = "segments are encoded by this gateway from keys that it decoded";

fn write_json_key(out: &mut Vec<u8>, message: &[u8]) -> std::io::Result<()> {
    // Members in the order of the schema, which puts the countries before the origin: they are
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

/// Where keys go while they are read.
struct Transcoder {
    out: Vec<u8>,
    keys_max: u32,
    key_count: u32,
    /// Why reading stopped, if it is anything more special than JSON of a wrong shape.
    rejection: Option<BodyError>,
    key: KeyBuffers,
}

/// The key that is being read.
#[derive(Default)]
struct KeyBuffers {
    key_data: Vec<u8>,
    rolling_start: u32,
    rolling_period: u32,
    risk_level: i32,
    /// All visited countries, one after the other.
    visited: String,
    /// Where each of them ends.
    visited_ends: Vec<usize>,
    origin: String,
    report_type: i32,
    days_since_onset: i32,
}

impl Transcoder {
    fn new(body_bytes: usize, keys_max: u32) -> Self {
        Self {
            // A key takes 200 to 400 bytes as JSON, and 40 to 100 as protobuf.
            out: Vec::with_capacity(body_bytes / 4),
            keys_max,
            key_count: 0,
            rejection: None,
            key: KeyBuffers::default(),
        }
    }

    fn begin_key<E: serde::de::Error>(&mut self) -> Result<(), E> {
        if self.key_count >= self.keys_max {
            return Err(self.reject(BodyError::TooManyKeys { max: self.keys_max }));
        }
        self.key_count = self.key_count.saturating_add(1);
        self.key.clear();
        Ok(())
    }

    fn end_key(&mut self) {
        self.key.write(&mut self.out);
    }

    fn reject<E: serde::de::Error>(&mut self, rejection: BodyError) -> E {
        self.rejection = Some(rejection);
        E::custom("rejected")
    }
}

impl KeyBuffers {
    /// Makes room for the next key; the buffers keep their memory.
    fn clear(&mut self) {
        self.key_data.clear();
        self.visited.clear();
        self.visited_ends.clear();
        self.origin.clear();
        self.rolling_start = 0;
        self.rolling_period = 0;
        self.risk_level = 0;
        self.report_type = 0;
        self.days_since_onset = 0;
    }

    fn write(&self, out: &mut Vec<u8>) {
        let fields = KeyFields {
            key_data: &self.key_data,
            rolling_start: self.rolling_start,
            rolling_period: self.rolling_period,
            risk_level: self.risk_level,
            origin: &self.origin,
            report_type: self.report_type,
            days_since_onset: self.days_since_onset,
        };
        let starts = std::iter::once(&0).chain(&self.visited_ends);
        let countries = starts
            .zip(&self.visited_ends)
            .map(|(&start, &end)| self.visited.get(start..end).unwrap_or_default());
        write_key(out, &fields, countries);
    }

    fn push_country(&mut self, country: &str) {
        self.visited.push_str(country);
        self.visited_ends.push(self.visited.len());
    }
}

/// The body: an object of which only `keys` counts.
struct BatchVisitor<'t>(&'t mut Transcoder);

impl<'de> Visitor<'de> for BatchVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a batch of keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(is_keys) = members.next_key_seed(Text(|name: &str| name == "keys"))? {
            if is_keys {
                members.next_value_seed(KeysSeed(&mut *self.0))?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// `keys`: a list of objects, or `null`.
struct KeysSeed<'t>(&'t mut Transcoder);

impl<'de> DeserializeSeed<'de> for KeysSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for KeysSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of keys")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut keys: A) -> Result<(), A::Error> {
        while keys.next_element_seed(KeySeed(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

/// One key: an object.
struct KeySeed<'t>(&'t mut Transcoder);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.begin_key()?;
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(member) = members.next_key_seed(Text(Member::from_name))? {
            read_member(self.0, member, &mut members)?;
        }
        self.0.end_key();
        Ok(())
    }
}

/// A member of a key.
enum Member {
    KeyData,
    RollingStart,
    RollingPeriod,
    RiskLevel,
    VisitedCountries,
    Origin,
    ReportType,
    DaysSinceOnset,
    Unknown,
}

impl Member {
    fn from_name(name: &str) -> Self {
        match name {
            "keyData" => Self::KeyData,
            "rollingStartIntervalNumber" => Self::RollingStart,
            "rollingPeriod" => Self::RollingPeriod,
            "transmissionRiskLevel" => Self::RiskLevel,
            "visitedCountries" => Self::VisitedCountries,
            "origin" => Self::Origin,
            "reportType" => Self::ReportType,
            "days_since_onset_of_symptoms" | "daysSinceOnsetOfSymptoms" => Self::DaysSinceOnset,
            _ => Self::Unknown,
        }
    }
}

/// Reads a member's value. A scalar that comes again replaces the former one, countries are added,
/// `null` changes nothing.
fn read_member<'de, A: MapAccess<'de>>(
    transcoder: &mut Transcoder,
    member: Member,
    members: &mut A,
) -> Result<(), A::Error> {
    let key = &mut transcoder.key;
    match member {
        Member::KeyData => match members.next_value_seed(KeyDataSeed(&mut key.key_data))? {
            Decoded::Yes => Ok(()),
            Decoded::NotBase64 => Err(transcoder.reject(MalformedBatch::Base64.into())),
        },
        Member::RollingStart => set(&mut key.rolling_start, members.next_value_seed(Integer)?),
        Member::RollingPeriod => set(&mut key.rolling_period, members.next_value_seed(Integer)?),
        Member::RiskLevel => set(&mut key.risk_level, members.next_value_seed(Integer)?),
        Member::VisitedCountries => members.next_value_seed(CountriesSeed(key)),
        Member::Origin => members.next_value_seed(TextSeed(&mut key.origin)),
        Member::ReportType => set(&mut key.report_type, members.next_value_seed(ReportType)?),
        Member::DaysSinceOnset => set(&mut key.days_since_onset, members.next_value_seed(Integer)?),
        Member::Unknown => members.next_value::<IgnoredAny>().map(|_| ()),
    }
}

/// Sets a field to a value in its range.
fn set<T: TryFrom<i64>, E: serde::de::Error>(field: &mut T, value: Option<i64>) -> Result<(), E> {
    if let Some(value) = value {
        *field = T::try_from(value).map_err(|_| E::custom("out of range"))?;
    }
    Ok(())
}

/// Text that must be there, handed on without a copy.
struct Text<F>(F);

impl<'de, T, F: FnOnce(&str) -> T> DeserializeSeed<'de> for Text<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok((self.0)(text))
    }
}

/// A whole number, plain or quoted; nothing for `null`. Wider than any field: [`set`] narrows it.
struct Integer;

impl<'de> DeserializeSeed<'de> for Integer {
    type Value = Option<i64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Integer {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
        i64::try_from(number)
            .map(Some)
            .map_err(|_| E::custom("out of range"))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        parse_decimal(text)
            .map(Some)
            .ok_or_else(|| E::custom("no whole number"))
    }
}

/// Reads a decimal as JSON spells it: no plus sign, no zero in front.
fn parse_decimal(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = digits == "0" || !digits.starts_with('0');
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    if canonical && plain {
        text.parse().ok()
    } else {
        None
    }
}

/// A report type by name or number; a number without name is kept, for the signature's sake.
struct ReportType;

impl<'de> DeserializeSeed<'de> for ReportType {
    type Value = Option<i64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for ReportType {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a report type")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Integer.visit_i64(number)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Integer.visit_u64(number)
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        let mut numbered = (0..).zip(REPORT_TYPES);
        let found = numbered.find(|(_, known)| *known == name);
        found
            .map(|(number, _)| Some(number))
            .ok_or_else(|| E::custom("no report type"))
    }
}

/// Text into a buffer; `null` leaves it alone.
struct TextSeed<'t>(&'t mut String);

impl<'de> DeserializeSeed<'de> for TextSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for TextSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.clear();
        self.0.push_str(text);
        Ok(())
    }
}

/// Base64 into a buffer; `null` leaves it alone.
struct KeyDataSeed<'t>(&'t mut Vec<u8>);

/// Whether text was base64: an outcome, since it has a reason of its own.
enum Decoded {
    Yes,
    NotBase64,
}

impl<'de> DeserializeSeed<'de> for KeyDataSeed<'_> {
    type Value = Decoded;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Decoded, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for KeyDataSeed<'_> {
    type Value = Decoded;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64")
    }

    fn visit_unit<E>(self) -> Result<Decoded, E> {
        Ok(Decoded::Yes)
    }

    fn visit_str<E>(self, text: &str) -> Result<Decoded, E> {
        self.0.clear();
        Ok(match BASE64.decode_vec(text, self.0) {
            Ok(()) => Decoded::Yes,
            Err(_) => Decoded::NotBase64,
        })
    }
}

/// `visitedCountries`: a list of texts, or `null`.
struct CountriesSeed<'t>(&'t mut KeyBuffers);

impl<'de> DeserializeSeed<'de> for CountriesSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CountriesSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of countries")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut countries: A) -> Result<(), A::Error> {
        loop {
            let on_country = |country: &str| self.0.push_country(country);
            if countries.next_element_seed(Text(on_country))?.is_none() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
