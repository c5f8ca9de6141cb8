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
//!
//! serde derives what members are named. Objects are read by visitors: members may be repeated, which
//! derived structs refuse. `Option` would look ahead for `null` before each value, which takes 4 % of
//! the instructions of a batch, so visitors take `null` as one more kind of value.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod write;

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::{BodyError, MalformedBatch};
use super::protobuf::{KeyFields, write_key};
use crate::domain::REPORT_TYPES;
use crate::limits;

pub use write::{SEPARATOR, write_segment};

/// What precedes the first segment of a JSON batch.
pub const OPENING: &[u8] = br#"{"keys":["#;

/// What follows the last segment of a JSON batch.
pub const CLOSING: &[u8] = b"]}";

/// Standard alphabet; padding may be missing (wire §6.2), whole or in part.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Transcodes a JSON body to the protobuf body that means the same. A key with too many visited
/// countries is the last one, with one country too many: reading stops there.
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
    match (read, transcoder.stop) {
        (Ok(()), _) | (Err(_), Some(Stop::TooManyCountries)) => Ok(transcoder.out),
        (Err(_), Some(Stop::Rejected(rejection))) => Err(rejection),
        (Err(_), None) => Err(MalformedBatch::Json.into()),
    }
}

/// Where keys go while they are read.
struct Transcoder {
    out: Vec<u8>,
    keys_max: u32,
    key_count: u32,
    stop: Option<Stop>,
    key: KeyBuffers,
}

/// Why reading stopped, if not for JSON of another shape.
enum Stop {
    Rejected(BodyError),
    TooManyCountries,
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
            stop: None,
            key: KeyBuffers::default(),
        }
    }

    fn begin_key<E: serde::de::Error>(&mut self) -> Result<(), E> {
        if self.key_count >= self.keys_max {
            let too_many = BodyError::TooManyKeys { max: self.keys_max };
            return Err(self.stop(Stop::Rejected(too_many)));
        }
        self.key_count = self.key_count.saturating_add(1);
        self.key.clear();
        Ok(())
    }

    fn end_key(&mut self) {
        self.key.write(&mut self.out);
    }

    fn stop<E: serde::de::Error>(&mut self, stop: Stop) -> E {
        self.stop = Some(stop);
        E::custom("stopped")
    }

    fn push_country<E: serde::de::Error>(&mut self, country: &str) -> Result<(), E> {
        self.key.push_country(country);
        if self.key.joined_countries() <= limits::VISITED_COUNTRIES_CHARACTERS_MAX {
            return Ok(());
        }
        self.end_key();
        Err(self.stop(Stop::TooManyCountries))
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

    /// Characters of the visited countries, joined with commas; there is one.
    fn joined_countries(&self) -> usize {
        let commas = self.visited_ends.len().saturating_sub(1);
        self.visited.len().saturating_add(commas)
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
        while let Some(member) = members.next_key()? {
            match member {
                BatchMember::Keys => members.next_value_seed(KeysSeed(&mut *self.0))?,
                BatchMember::Unknown => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum BatchMember {
    Keys,
    #[serde(other)]
    Unknown,
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
        while let Some(member) = members.next_key()? {
            read_member(self.0, member, &mut members)?;
        }
        self.0.end_key();
        Ok(())
    }
}

/// A member of a key.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum KeyMember {
    KeyData,
    RollingStartIntervalNumber,
    RollingPeriod,
    TransmissionRiskLevel,
    VisitedCountries,
    Origin,
    ReportType,
    #[serde(
        rename = "days_since_onset_of_symptoms",
        alias = "daysSinceOnsetOfSymptoms"
    )]
    DaysSinceOnset,
    #[serde(other)]
    Unknown,
}

/// Reads a member's value. A scalar that comes again replaces the former one, countries are added,
/// `null` changes nothing.
fn read_member<'de, A: MapAccess<'de>>(
    transcoder: &mut Transcoder,
    member: KeyMember,
    members: &mut A,
) -> Result<(), A::Error> {
    let key = &mut transcoder.key;
    match member {
        KeyMember::KeyData => {
            let mut decoded = Ok(());
            members.next_value_seed(TextSeed(|text: &str| {
                key.key_data.clear();
                decoded = BASE64.decode_vec(text, &mut key.key_data);
            }))?;
            let not_base64 = MalformedBatch::Base64.into();
            decoded.map_err(|_| transcoder.stop(Stop::Rejected(not_base64)))
        }
        KeyMember::RollingStartIntervalNumber => set(&mut key.rolling_start, members.next_value()?),
        KeyMember::RollingPeriod => set(&mut key.rolling_period, members.next_value()?),
        KeyMember::TransmissionRiskLevel => set(&mut key.risk_level, members.next_value()?),
        KeyMember::VisitedCountries => members.next_value_seed(CountriesSeed(transcoder)),
        KeyMember::Origin => members.next_value_seed(TextSeed(|text: &str| {
            key.origin.clear();
            key.origin.push_str(text);
        })),
        KeyMember::ReportType => {
            let ReportType(number) = members.next_value()?;
            set(&mut key.report_type, Integer(number))
        }
        KeyMember::DaysSinceOnset => set(&mut key.days_since_onset, members.next_value()?),
        KeyMember::Unknown => members.next_value::<IgnoredAny>().map(|_| ()),
    }
}

/// Sets a field to a value in its range; `null` leaves it.
fn set<T: TryFrom<i64>, E: serde::de::Error>(field: &mut T, value: Integer) -> Result<(), E> {
    if let Integer(Some(value)) = value {
        *field = T::try_from(value).map_err(|_| E::custom("out of range"))?;
    }
    Ok(())
}

/// Hands text on without a copy; `null` is passed over.
struct TextSeed<F>(F);

impl<'de, F: FnOnce(&str)> DeserializeSeed<'de> for TextSeed<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<F: FnOnce(&str)> Visitor<'_> for TextSeed<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        (self.0)(text);
        Ok(())
    }
}

/// A whole number, plain or quoted, or `null`. Wider than any field: [`set`] narrows it.
struct Integer(Option<i64>);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| parse_decimal(text);
        deserializer.deserialize_any(NumberVisitor(parse)).map(Self)
    }
}

/// A report type by name or number, or `null`; a number without name is kept, for the signature's
/// sake.
struct ReportType(Option<i64>);

impl<'de> Deserialize<'de> for ReportType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |name: &str| {
            let mut numbered = (0..).zip(REPORT_TYPES);
            Some(numbered.find(|(_, known)| *known == name)?.0)
        };
        deserializer.deserialize_any(NumberVisitor(parse)).map(Self)
    }
}

/// A whole number, text that stands for one, or `null`.
struct NumberVisitor<F>(F);

impl<F: FnOnce(&str) -> Option<i64>> Visitor<'_> for NumberVisitor<F> {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number or its name")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
        let number = i64::try_from(number).map_err(|_| E::custom("out of range"))?;
        Ok(Some(number))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        let number = (self.0)(text);
        number.map_or_else(
            || Err(E::custom("not a whole number or its name")),
            |number| Ok(Some(number)),
        )
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

/// `visitedCountries`: a list of texts, or `null`.
struct CountriesSeed<'t>(&'t mut Transcoder);

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
        while countries
            .next_element_seed(CountrySeed(&mut *self.0))?
            .is_some()
        {}
        Ok(())
    }
}

/// One country: text, whatever it says.
struct CountrySeed<'t>(&'t mut Transcoder);

impl<'de> DeserializeSeed<'de> for CountrySeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for CountrySeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a country")
    }

    fn visit_str<E: serde::de::Error>(self, country: &str) -> Result<(), E> {
        self.0.push_country(country)
    }
}

#[cfg(test)]
mod tests;
