//! `eu.interop.DiagnosisKeyBatch` in protobuf (wire §7): reading one key borrowing from
//! the body, and writing keys with their defaults left out.
//!
//! A body is a sequence of encoded `keys` fields; such sequences can be concatenated, which is
//! what makes a bundle a mere list of segments.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::ControlFlow;

use quick_protobuf::sizeofs::{sizeof_int32, sizeof_len, sizeof_uint32};
use quick_protobuf::{BytesReader, Writer};

use super::error::MalformedBatch;
use crate::limits;

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
pub struct KeyMessages<'a>(Cursor<'a>);

impl<'a> KeyMessages<'a> {
    /// Starts at the beginning of `body`.
    pub fn new(body: &'a [u8]) -> Self {
        Self(Cursor(body))
    }

    /// The next encoded key, or nothing at the end of the body.
    ///
    /// # Errors
    /// When the body is not a well-formed message.
    pub fn next_message(&mut self) -> Result<Option<&'a [u8]>, MalformedBatch> {
        while !self.0.is_at_end() {
            match self.0.tag()? {
                KEYS => return self.0.slice().map(Some),
                other => self.0.skip(other, 0)?,
            }
        }
        Ok(None)
    }
}

/// Bytes that a key takes in a body, if nothing is longer than it needs to be.
#[allow(clippy::arithmetic_side_effects, reason = "a sum of lengths in memory")]
pub(crate) fn field_bytes(message: &[u8]) -> usize {
    1 + sizeof_len(message.len())
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
    read_key_until(message, |country| {
        on_country(country);
        ControlFlow::Continue(())
    })
}

/// As [`read_key`], but stops where `on_country` breaks; returns the fields before.
pub(crate) fn read_key_until<'a>(
    message: &'a [u8],
    mut on_country: impl FnMut(&'a str) -> ControlFlow<()>,
) -> Result<KeyFields<'a>, MalformedBatch> {
    let mut key = KeyFields::default();
    let mut cursor = Cursor(message);
    while !cursor.is_at_end() {
        match cursor.tag()? {
            tag::KEY_DATA => key.key_data = cursor.slice()?,
            tag::ROLLING_START => key.rolling_start = low_32(cursor.varint()?),
            tag::ROLLING_PERIOD => key.rolling_period = low_32(cursor.varint()?),
            tag::RISK_LEVEL => key.risk_level = low_32(cursor.varint()?).cast_signed(),
            tag::VISITED_COUNTRIES => {
                if on_country(cursor.text()?).is_break() {
                    break;
                }
            }
            tag::ORIGIN => key.origin = cursor.text()?,
            tag::REPORT_TYPE => key.report_type = low_32(cursor.varint()?).cast_signed(),
            tag::DAYS_SINCE_ONSET => key.days_since_onset = from_zig_zag(low_32(cursor.varint()?)),
            other => cursor.skip(other, 0)?,
        }
    }
    Ok(key)
}

/// Bytes that are still to be read.
#[derive(Debug)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    const fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// A tag: a varint of at most 32 bits with a field number that is not zero.
    fn tag(&mut self) -> Result<u32, MalformedBatch> {
        let tag = u32::try_from(self.varint()?).map_err(|_| MalformedBatch::Field)?;
        if tag >> 3 == 0 {
            Err(MalformedBatch::Field)
        } else {
            Ok(tag)
        }
    }

    /// A varint; most of them have one byte.
    #[inline]
    fn varint(&mut self) -> Result<u64, MalformedBatch> {
        match self.0 {
            [byte @ 0..0x80, rest @ ..] => {
                self.0 = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, MalformedBatch> {
        let mut reader = BytesReader::from_bytes(self.0);
        let value = reader.read_varint64(self.0);
        let value = value.map_err(|_| MalformedBatch::Truncated)?;
        self.take(self.0.len().saturating_sub(reader.len()))?;
        Ok(value)
    }

    /// Bytes with their length before them.
    #[inline]
    fn slice(&mut self) -> Result<&'a [u8], MalformedBatch> {
        let length = usize::try_from(self.varint()?).map_err(|_| MalformedBatch::Truncated)?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'a str, MalformedBatch> {
        std::str::from_utf8(self.slice()?).map_err(|_| MalformedBatch::NotUtf8)
    }

    #[inline]
    fn take(&mut self, count: usize) -> Result<&'a [u8], MalformedBatch> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(MalformedBatch::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Skips an unknown field, groups included (protobuf still reads them).
    fn skip(&mut self, tag: u32, depth: u32) -> Result<(), MalformedBatch> {
        const VARINT: u32 = 0;
        const FIXED_64: u32 = 1;
        const LENGTH_DELIMITED: u32 = 2;
        const GROUP_START: u32 = 3;
        const GROUP_END: u32 = 4;
        const FIXED_32: u32 = 5;
        match tag & 7 {
            VARINT => self.varint().map(|_| ()),
            FIXED_64 => self.take(8).map(|_| ()),
            FIXED_32 => self.take(4).map(|_| ()),
            LENGTH_DELIMITED => self.slice().map(|_| ()),
            GROUP_START if depth < GROUP_DEPTH_MAX => loop {
                if self.is_at_end() {
                    return Err(MalformedBatch::Truncated);
                }
                let inner = self.tag()?;
                if inner & 7 == GROUP_END {
                    let matches = inner >> 3 == tag >> 3;
                    return matches.then_some(()).ok_or(MalformedBatch::Field);
                }
                self.skip(inner, depth.saturating_add(1))?;
            },
            _ => Err(MalformedBatch::Field),
        }
    }
}

/// Reads one key in the form in which [`write_key`] writes it, as every protobuf library does:
/// fields in order, defaults left out, nothing longer than it needs to be. Nothing for any other
/// message, for a country that is not two capital letters, and for more than
/// [`TWO_LETTER_COUNTRIES_MAX`] of them.
///
/// The same as [`read_key`] in a fifth of its time: what comes next is known, and seldom another.
pub(crate) fn read_own_key(message: &[u8]) -> Option<(KeyFields<'_>, TwoLetterCountries<'_>)> {
    let mut rest = Own(message);
    let key_data = rest.slice(tag::KEY_DATA)?;
    let rolling_start = rest.number(tag::ROLLING_START)?;
    let rolling_period = rest.number(tag::ROLLING_PERIOD)?;
    let risk_level = rest.number(tag::RISK_LEVEL)?;
    let countries = rest.countries()?;
    let origin = rest.slice(tag::ORIGIN)?;
    let report_type = rest.number(tag::REPORT_TYPE)?;
    let days_since_onset = rest.number(tag::DAYS_SINCE_ONSET)?;
    let key = KeyFields {
        key_data,
        rolling_start,
        rolling_period,
        risk_level: risk_level.cast_signed(),
        origin: std::str::from_utf8(origin).ok()?,
        report_type: report_type.cast_signed(),
        days_since_onset: from_zig_zag(days_since_onset),
    };
    rest.0.is_empty().then_some((key, countries))
}

/// As many as are allowed, joined with commas.
const TWO_LETTER_COUNTRIES_MAX: usize = (limits::VISITED_COUNTRIES_CHARACTERS_MAX + 1) / 3;

/// Encoded `visitedCountries`, each two capital letters (A to Z).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TwoLetterCountries<'a>(&'a [[u8; 4]]);

impl<'a> TwoLetterCountries<'a> {
    /// The countries.
    pub(crate) fn iter(self) -> impl DoubleEndedIterator<Item = [u8; 2]> + ExactSizeIterator + 'a {
        self.0.iter().map(|&[_, _, a, b]| [a, b])
    }
}

/// What is still to be read of a message in our own form.
struct Own<'a>(&'a [u8]);

impl<'a> Own<'a> {
    /// Goes past a tag, if it is next.
    #[inline]
    fn has(&mut self, tag: u32) -> bool {
        match self.0 {
            [next, rest @ ..] if u32::from(*next) == tag => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// A number of up to 31 bits that is not zero; zero if the tag is not next. Negative numbers
    /// are written in another way, and seldom.
    #[inline]
    fn number(&mut self, tag: u32) -> Option<u32> {
        if !self.has(tag) {
            return Some(0);
        }
        let mut number = 0;
        for (shift, at) in [(0, 0), (7, 1), (14, 2), (21, 3), (28, 4)] {
            let byte = *self.0.get(at)?;
            number |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let (_, rest) = self.0.split_at_checked(at)?;
                self.0 = rest.get(1..)?;
                let fits = at < 4 || byte < 8;
                return (byte != 0 && fits).then_some(number);
            }
        }
        None
    }

    /// Fewer than 128 bytes.
    #[inline]
    fn slice(&mut self, tag: u32) -> Option<&'a [u8]> {
        if !self.has(tag) {
            return Some(&[]);
        }
        let (&length @ 1..0x80, rest) = self.0.split_first()? else {
            return None;
        };
        let (slice, rest) = rest.split_at_checked(usize::from(length))?;
        self.0 = rest;
        Some(slice)
    }

    #[inline]
    fn countries(&mut self) -> Option<TwoLetterCountries<'a>> {
        let (fields, _) = self.0.as_chunks::<4>();
        let is_country = |&&[tag, length, a, b]: &&[u8; 4]| {
            u32::from(tag) == tag::VISITED_COUNTRIES
                && length == 2
                && a.is_ascii_uppercase()
                && b.is_ascii_uppercase()
        };
        let allowed = fields.iter().take(TWO_LETTER_COUNTRIES_MAX);
        let count = allowed.take_while(is_country).count();
        // One more, and what follows is not the next field.
        let (countries, _) = fields.split_at_checked(count)?;
        self.0 = self.0.get(countries.as_flattened().len()..)?;
        Some(TwoLetterCountries(countries))
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "protobuf keeps the low 32 bits"
)]
const fn low_32(value: u64) -> u32 {
    value as u32
}

const fn from_zig_zag(value: u32) -> i32 {
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
mod tests;
