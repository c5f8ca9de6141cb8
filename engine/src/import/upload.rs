//! The keys of one upload: from encrypted columns to a row of the log.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

use super::column::Columns;
use super::error::ImportError;
use crate::decode::decode;
use crate::domain::{ContentDigest, Country, KeyIdentity, REPORT_TYPES, UnixMillis, UploadTag};
use crate::seal::{Keys, seal_context};
use crate::store::{PAYLOAD, ReferenceKey};
use crate::verify::CanonicalBytes;
use crate::wire::protobuf::{KeyFields, write_key};

/// An upload with all that comes from its keys.
#[derive(Debug)]
pub(super) struct ImportedUpload {
    pub(super) country: Country,
    pub(super) tag: UploadTag,
    pub(super) created_at: UnixMillis,
    pub(super) key_count: u32,
    pub(super) content: ContentDigest,
    pub(super) identities: Vec<KeyIdentity>,
    pub(super) sealed: Vec<u8>,
    /// Keys whose content is not what the reference has hashed.
    pub(super) altered_keys: u64,
}

/// Opens, encodes, identifies and seals keys, which stay in their order.
pub(super) fn import_upload(
    country: Country,
    tag: UploadTag,
    rows: &[ReferenceKey],
    columns: &Columns,
    keys: &Keys,
) -> Result<ImportedUpload, ImportError> {
    let mut segment = Vec::with_capacity(rows.len() * 80);
    for row in rows {
        PlainKey::open(row, columns)?.write(&mut segment);
    }
    let unreadable = || ImportError::Key {
        id: rows.first().map_or(0, |row| row.id),
        column: "the key",
    };
    let decoded = decode(&segment, u32::MAX).map_err(|_| unreadable())?;
    let canonical = CanonicalBytes::of(&decoded);
    let texts = || (0..canonical.key_count()).map(|at| canonical.key(at));
    let altered = rows.iter().zip(texts());
    let altered = altered.filter(|(row, text)| row.payload_hash != payload_hash(text));
    let content = digest(&SHA256, &canonical.signed_bytes());
    Ok(ImportedUpload {
        created_at: rows.first().map_or(UnixMillis(0), |row| row.created_at),
        key_count: decoded.key_count(),
        content: ContentDigest(content.as_ref().try_into().expect("SHA-256 has 32 bytes")),
        identities: texts().map(|text| keys.identify(text)).collect(),
        altered_keys: altered.count() as u64,
        sealed: keys.seal(&segment, &seal_context(country, &tag)),
        country,
        tag,
    })
}

/// SHA-256 as the reference spells it: hexadecimal, without the zeros in front.
fn payload_hash(text: &[u8]) -> String {
    let hash = digest(&SHA256, text);
    let mut hex = String::with_capacity(64);
    for byte in hash.as_ref() {
        write!(hex, "{byte:02x}").expect("a string takes whatever is written to it");
    }
    hex.trim_start_matches('0').to_owned()
}

/// A key's columns, opened.
struct PlainKey {
    key_data: Vec<u8>,
    origin: String,
    visited: String,
    rolling_start: u32,
    rolling_period: u32,
    risk_level: i32,
    report_type: i32,
    days_since_onset: i32,
}

impl PlainKey {
    fn open(row: &ReferenceKey, columns: &Columns) -> Result<Self, ImportError> {
        let [
            data,
            start,
            period,
            level,
            visited,
            origin,
            report_type,
            days,
        ] = [0, 1, 2, 3, 4, 5, 6, 7].map(|column| Cell {
            row,
            columns,
            column,
        });
        Ok(Self {
            key_data: data.open()?,
            rolling_start: start.number()?,
            rolling_period: period.number()?,
            risk_level: level.number()?,
            visited: visited.text()?,
            origin: origin.text()?,
            report_type: report_type.report_type()?,
            days_since_onset: days.number()?,
        })
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
        let countries = self.visited.split(',').filter(|_| !self.visited.is_empty());
        write_key(out, &fields, countries);
    }
}

/// One encrypted column of one key.
#[derive(Clone, Copy)]
struct Cell<'a> {
    row: &'a ReferenceKey,
    columns: &'a Columns,
    column: usize,
}

impl Cell<'_> {
    fn open(self) -> Result<Vec<u8>, ImportError> {
        let opened = self.columns.open(&self.row.payload[self.column]);
        opened.ok_or_else(|| self.error())
    }

    fn text(self) -> Result<String, ImportError> {
        String::from_utf8(self.open()?).map_err(|_| self.error())
    }

    /// A decimal; what is empty was null, which is zero on the wire.
    fn number<T: std::str::FromStr + Default>(self) -> Result<T, ImportError> {
        match self.text()?.as_str() {
            "" => Ok(T::default()),
            text => text.parse().map_err(|_| self.error()),
        }
    }

    fn report_type(self) -> Result<i32, ImportError> {
        let name = self.text()?;
        let mut numbered = (0..).zip(REPORT_TYPES);
        match numbered.find(|(_, known)| *known == name) {
            Some((number, _)) => Ok(number),
            None if name.is_empty() => Ok(0),
            None => Err(self.error()),
        }
    }

    fn error(self) -> ImportError {
        ImportError::Key {
            id: self.row.id,
            column: PAYLOAD[self.column],
        }
    }
}
