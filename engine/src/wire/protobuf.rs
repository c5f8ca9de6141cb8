//! `eu.interop.DiagnosisKeyBatch` in protobuf (wire behaviour §7): reading one key borrowing from
//! the body, and writing keys with their defaults left out.
//!
//! A body is a sequence of encoded `keys` fields; such sequences can be concatenated, which is
//! what makes a bundle a mere list of segments.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use quick_protobuf::sizeofs::{sizeof_int32, sizeof_len, sizeof_uint32};
use quick_protobuf::{BytesReader, Writer};

use crate::decode::MalformedBatch;

/// Tag of `DiagnosisKeyBatch.keys`: field 1, length-delimited.
const KEYS: u32 = 0x0a;

mod tag {
    pub(super) const KEY_DATA: u32 = 0x0a;
    pub(super) const ROLLING_START: u32 = 0x10;
    pub(super) const ROLLING_PERIOD: u32 = 0x18;
    pub(super) const RISK_LEVEL: u32 = 0x20;
    pub(super) const VISITED_COUNTRIES: u32 = 0x2a;
    pub(super) const ORIGIN: u32 = 0x32;
    pub(super) const REPORT_TYPE: u32 = 0x38;
    pub(super) const DAYS_SINCE_ONSET: u32 = 0x40;
}

/// Deepest nesting of unknown groups that is skipped; protobuf's own limit is 100.
const GROUP_DEPTH_MAX: u32 = 16;

/// The fields of one key as they stand in the body. Absent fields have their proto3 default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyFields<'a> {
    /// `keyData`, of any length.
    pub key_data: &'a [u8],
    /// `rollingStartIntervalNumber`.
    pub rolling_start: u32,
    /// `rollingPeriod`.
    pub rolling_period: u32,
    /// `transmissionRiskLevel`.
    pub risk_level: i32,
    /// `origin`.
    pub origin: &'a str,
    /// `reportType`, known or not.
    pub report_type: i32,
    /// `days_since_onset_of_symptoms`.
    pub days_since_onset: i32,
}

/// Walks over the `keys` of a body; unknown fields are skipped.
#[derive(Debug)]
pub struct KeyMessages<'a> {
    body: &'a [u8],
    reader: BytesReader,
}

impl<'a> KeyMessages<'a> {
    /// Starts at the beginning of `body`.
    pub fn new(body: &'a [u8]) -> Self {
        Self {
            body,
            reader: BytesReader::from_bytes(body),
        }
    }

    /// The next encoded key, or nothing at the end of the body.
    ///
    /// # Errors
    /// When the body is not a well-formed message.
    pub fn next_message(&mut self) -> Result<Option<&'a [u8]>, MalformedBatch> {
        while !self.reader.is_eof() {
            match read_tag(&mut self.reader, self.body)? {
                KEYS => return read_slice(&mut self.reader, self.body).map(Some),
                other => skip(&mut self.reader, self.body, other, 0)?,
            }
        }
        Ok(None)
    }
}

/// Reads one key; `on_country` gets each `visitedCountries` entry in order.
///
/// A repeated scalar field counts with its last value; a known field with another wire type is an
/// unknown field; varints beyond 32 bits keep their low 32 (all three: protobuf's rules).
///
/// # Errors
/// When the message is truncated, has a malformed varint, or text that is not UTF-8.
pub fn read_key<'a>(
    message: &'a [u8],
    mut on_country: impl FnMut(&'a str),
) -> Result<KeyFields<'a>, MalformedBatch> {
    let mut key = KeyFields::default();
    let mut reader = BytesReader::from_bytes(message);
    let r = &mut reader;
    while !r.is_eof() {
        match read_tag(r, message)? {
            tag::KEY_DATA => key.key_data = read_slice(r, message)?,
            tag::ROLLING_START => key.rolling_start = low_32(read_varint(r, message)?),
            tag::ROLLING_PERIOD => key.rolling_period = low_32(read_varint(r, message)?),
            tag::RISK_LEVEL => key.risk_level = low_32(read_varint(r, message)?).cast_signed(),
            tag::VISITED_COUNTRIES => on_country(read_text(r, message)?),
            tag::ORIGIN => key.origin = read_text(r, message)?,
            tag::REPORT_TYPE => key.report_type = low_32(read_varint(r, message)?).cast_signed(),
            tag::DAYS_SINCE_ONSET => {
                key.days_since_onset = zig_zag(low_32(read_varint(r, message)?));
            }
            other => skip(r, message, other, 0)?,
        }
    }
    Ok(key)
}

/// A tag: a varint of at most 32 bits with a field number that is not zero.
fn read_tag(reader: &mut BytesReader, bytes: &[u8]) -> Result<u32, MalformedBatch> {
    let tag = u32::try_from(read_varint(reader, bytes)?).map_err(|_| MalformedBatch::Field)?;
    if tag >> 3 == 0 {
        Err(MalformedBatch::Field)
    } else {
        Ok(tag)
    }
}

fn read_varint(reader: &mut BytesReader, bytes: &[u8]) -> Result<u64, MalformedBatch> {
    reader
        .read_varint64(bytes)
        .map_err(|_| MalformedBatch::Truncated)
}

fn read_slice<'a>(reader: &mut BytesReader, bytes: &'a [u8]) -> Result<&'a [u8], MalformedBatch> {
    // The reader truncates lengths to 32 bits: look at the whole of it first.
    let mut ahead = reader.clone();
    let length = read_varint(&mut ahead, bytes)?;
    if length > ahead.len() as u64 {
        return Err(MalformedBatch::Truncated);
    }
    reader
        .read_bytes(bytes)
        .map_err(|_| MalformedBatch::Truncated)
}

fn read_text<'a>(reader: &mut BytesReader, bytes: &'a [u8]) -> Result<&'a str, MalformedBatch> {
    std::str::from_utf8(read_slice(reader, bytes)?).map_err(|_| MalformedBatch::NotUtf8)
}

/// Skips an unknown field, groups included (protobuf still reads them).
fn skip(
    reader: &mut BytesReader,
    bytes: &[u8],
    tag: u32,
    depth: u32,
) -> Result<(), MalformedBatch> {
    const GROUP_START: u32 = 3;
    const LENGTH_DELIMITED: u32 = 2;
    const GROUP_END: u32 = 4;
    match tag & 7 {
        GROUP_START if depth < GROUP_DEPTH_MAX => loop {
            if reader.is_eof() {
                return Err(MalformedBatch::Truncated);
            }
            let inner = read_tag(reader, bytes)?;
            if inner & 7 == GROUP_END {
                let matches = inner >> 3 == tag >> 3;
                return if matches {
                    Ok(())
                } else {
                    Err(MalformedBatch::Field)
                };
            }
            skip(reader, bytes, inner, depth.saturating_add(1))?;
        },
        LENGTH_DELIMITED => read_slice(reader, bytes).map(|_| ()),
        _ => reader
            .read_unknown(bytes, tag)
            .map_err(|_| MalformedBatch::Field),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "protobuf keeps the low 32 bits"
)]
const fn low_32(value: u64) -> u32 {
    value as u32
}

const fn zig_zag(value: u32) -> i32 {
    (value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg()
}

/// The number that stands for a signed one. quick-protobuf's own sign-extends it to 64 bits, which
/// takes ten bytes from 2^30 on where every other encoder takes five.
#[allow(clippy::arithmetic_side_effects, reason = "shifts by less than 32")]
const fn to_zig_zag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)).cast_unsigned()
}

/// Appends one key as a `keys` field of a batch, defaults left out, known fields only.
pub fn write_key<'a>(
    out: &mut Vec<u8>,
    key: &KeyFields<'_>,
    visited_countries: impl Iterator<Item = &'a str> + Clone,
) {
    let mut writer = Writer::new(&mut *out);
    let written = write_fields(&mut writer, key, visited_countries);
    written.expect("a vector takes whatever is written to it");
}

fn write_fields<'a>(
    writer: &mut Writer<&mut Vec<u8>>,
    key: &KeyFields<'_>,
    visited_countries: impl Iterator<Item = &'a str> + Clone,
) -> quick_protobuf::Result<()> {
    writer.write_tag(KEYS)?;
    writer.write_varint(message_bytes(key, visited_countries.clone()) as u64)?;
    if !key.key_data.is_empty() {
        writer.write_with_tag(tag::KEY_DATA, |w| w.write_bytes(key.key_data))?;
    }
    if key.rolling_start != 0 {
        writer.write_with_tag(tag::ROLLING_START, |w| w.write_uint32(key.rolling_start))?;
    }
    if key.rolling_period != 0 {
        writer.write_with_tag(tag::ROLLING_PERIOD, |w| w.write_uint32(key.rolling_period))?;
    }
    if key.risk_level != 0 {
        writer.write_with_tag(tag::RISK_LEVEL, |w| w.write_int32(key.risk_level))?;
    }
    for country in visited_countries {
        writer.write_with_tag(tag::VISITED_COUNTRIES, |w| w.write_string(country))?;
    }
    if !key.origin.is_empty() {
        writer.write_with_tag(tag::ORIGIN, |w| w.write_string(key.origin))?;
    }
    if key.report_type != 0 {
        writer.write_with_tag(tag::REPORT_TYPE, |w| w.write_int32(key.report_type))?;
    }
    if key.days_since_onset != 0 {
        writer.write_with_tag(tag::DAYS_SINCE_ONSET, |w| {
            w.write_uint32(to_zig_zag(key.days_since_onset))
        })?;
    }
    Ok(())
}

/// Length of a key's message. Every tag of it takes one byte.
#[allow(clippy::arithmetic_side_effects, reason = "sums of lengths in memory")]
fn message_bytes<'a>(
    key: &KeyFields<'_>,
    visited_countries: impl Iterator<Item = &'a str>,
) -> usize {
    let field = |present: bool, bytes: usize| if present { 1 + bytes } else { 0 };
    field(!key.key_data.is_empty(), sizeof_len(key.key_data.len()))
        + field(key.rolling_start != 0, sizeof_uint32(key.rolling_start))
        + field(key.rolling_period != 0, sizeof_uint32(key.rolling_period))
        + field(key.risk_level != 0, sizeof_int32(key.risk_level))
        + visited_countries
            .map(|country| 1 + sizeof_len(country.len()))
            .sum::<usize>()
        + field(!key.origin.is_empty(), sizeof_len(key.origin.len()))
        + field(key.report_type != 0, sizeof_int32(key.report_type))
        + field(
            key.days_since_onset != 0,
            sizeof_uint32(to_zig_zag(key.days_since_onset)),
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Key `k000` of the test vectors in a batch, and a lone zero byte behind it.
    const ONE_KEY: &[u8] = &[
        0x0a, 0x2a, 0x0a, 0x10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x10, 0xa0,
        0x85, 0xa5, 0x01, 0x18, 0x90, 0x01, 0x20, 0x03, 0x2a, 0x02, 0x46, 0x52, 0x2a, 0x02, 0x49,
        0x54, 0x32, 0x02, 0x44, 0x45, 0x38, 0x01, 0x00,
    ];

    fn read_all(body: &[u8]) -> Result<Vec<(KeyFields<'_>, Vec<&str>)>, MalformedBatch> {
        let mut messages = KeyMessages::new(body);
        let mut keys = Vec::new();
        while let Some(message) = messages.next_message()? {
            let mut countries = Vec::new();
            keys.push((
                read_key(message, |country| countries.push(country))?,
                countries,
            ));
        }
        Ok(keys)
    }

    #[test]
    fn reads_a_vector_and_writes_the_same() {
        let body = &ONE_KEY[..ONE_KEY.len() - 1];
        let keys = read_all(body).unwrap();
        let (key, countries) = &keys[0];
        assert_eq!(key.rolling_start, 2_704_032);
        assert_eq!(
            (key.rolling_period, key.risk_level, key.report_type),
            (144, 3, 1)
        );
        assert_eq!((key.days_since_onset, key.origin), (0, "DE"));
        assert_eq!(countries, &["FR", "IT"]);
        let mut out = Vec::new();
        write_key(&mut out, key, countries.iter().copied());
        assert_eq!(out, body);
    }

    #[test]
    fn writes_extreme_days_since_onset_in_five_bytes() {
        // The protobuf encoding guide: -2147483648 is 4294967295, 2147483647 is 4294967294.
        for (days, expected) in [
            (i32::MIN, [0xff, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MAX, [0xfe, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            let key = KeyFields {
                days_since_onset: days,
                ..KeyFields::default()
            };
            let mut out = Vec::new();
            write_key(&mut out, &key, std::iter::empty());
            assert_eq!(out, [&[0x0a, 6, 0x40], expected.as_slice()].concat());
        }
    }

    #[test]
    fn refuses_field_number_zero_and_truncation() {
        assert_eq!(
            read_all(ONE_KEY),
            Err(MalformedBatch::Field),
            "a lone zero byte"
        );
        assert_eq!(read_all(&[0, 0]), Err(MalformedBatch::Field));
        for end in 1..ONE_KEY.len() - 1 {
            assert!(read_all(&ONE_KEY[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn skips_unknown_fields_and_groups() {
        // Field 15 as varint, field 16 as a group with a nested field, then no key.
        assert_eq!(
            read_all(&[0x78, 0x01, 0x83, 0x01, 0x08, 0x01, 0x84, 0x01]),
            Ok(vec![])
        );
        assert!(
            read_all(&[0x83, 0x01, 0x08, 0x01]).is_err(),
            "a group without end"
        );
        assert!(read_all(&[0x84, 0x01]).is_err(), "an end without group");
        assert!(
            read_all(&[0x0b; 4000]).is_err(),
            "groups nested without bound"
        );
    }

    proptest! {
        #[test]
        fn reads_back_what_it_wrote(
            key_data in prop::collection::vec(any::<u8>(), 0..40),
            rolling_start: u32, rolling_period: u32, risk_level: i32, report_type: i32,
            days_since_onset: i32, origin in ".{0,4}",
            countries in prop::collection::vec(".{0,3}", 0..40),
        ) {
            let key = KeyFields {
                key_data: &key_data, rolling_start, rolling_period, risk_level,
                origin: &origin, report_type, days_since_onset,
            };
            let mut out = Vec::new();
            write_key(&mut out, &key, countries.iter().map(String::as_str));
            let keys = read_all(&out).unwrap();
            prop_assert_eq!(keys.len(), 1);
            prop_assert_eq!(&keys[0].0, &key);
            prop_assert_eq!(&keys[0].1, &countries);
        }

        #[test]
        fn survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _outcome = read_all(&bytes);
        }
    }
}
