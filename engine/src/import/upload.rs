//! The keys of one upload: from encrypted columns to what the log stores, held to what an upload
//! must satisfy.

use std::fmt::{self, Write as _};

use aws_lc_rs::digest::{SHA256, digest};

use super::column::Columns;
use crate::decode::decode;
use crate::domain::{ContentDigest, Country, KeyIdentity, REPORT_TYPES, Thumbprint, UnixMillis};
use crate::limits;
use crate::seal::Keys;
use crate::store::{PAYLOAD, ReferenceKey};
use crate::trust::Trust;
use crate::validate::{InvalidKey, validate_at_any_age};
use crate::verify::{
    Exceptions, SignatureError, VerifyContext, VerifyError, signed_content, verify,
};
use crate::wire::protobuf::{KeyFields, write_key};

/// Why an upload is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFault {
    /// Its keys have no country of two letters.
    NoCountry,
    /// It has more keys than an upload may.
    TooManyKeys,
    /// A column of a key does not open, or holds what it should not.
    Unreadable {
        /// The row of `diagnosiskey`.
        id: u64,
        /// The column.
        column: &'static str,
    },
    /// A key breaks a rule.
    InvalidKey {
        /// The row of `diagnosiskey`.
        id: u64,
        /// The rule, and which of the keys.
        broken: InvalidKey,
    },
    /// A key's hash column is not its hash, so nothing keeps the reference from having it twice.
    Hash {
        /// The row of `diagnosiskey`.
        id: u64,
    },
    /// The batch signature does not hold, or is another country's.
    Signature(VerifyError),
}

impl fmt::Display for UploadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCountry => f.write_str("it has no country of two letters"),
            Self::TooManyKeys => write!(f, "it has more than {} keys", limits::UPLOAD_KEYS_MAX),
            Self::Unreadable { id, column } => {
                write!(f, "{column} of the row {id} of diagnosiskey cannot be read")
            }
            Self::InvalidKey { id, broken } => {
                write!(f, "the row {id} of diagnosiskey: {}", broken.rule)
            }
            Self::Hash { id } => {
                write!(
                    f,
                    "the hash of the row {id} of diagnosiskey is not that of its key"
                )
            }
            Self::Signature(error) => error.fmt(f),
        }
    }
}

/// What an upload is verified against.
#[derive(Debug)]
pub(super) struct VerificationContext<'a> {
    pub(super) country: Country,
    pub(super) batch_signature: &'a str,
    /// The certificate list.
    pub(super) trust: &'a Trust,
    /// Makes identities.
    pub(super) keys: &'a Keys,
}

/// Keys that obey the rules.
#[derive(Debug)]
pub(super) struct ReadUpload {
    pub(super) created_at: UnixMillis,
    pub(super) key_count: u32,
    pub(super) content: ContentDigest,
    pub(super) identities: Vec<KeyIdentity>,
    /// Encoded as they will be served, in their order.
    pub(super) segment: Vec<u8>,
    /// Who signed just these keys; otherwise why nobody did.
    pub(super) signer: Result<Thumbprint, VerifyError>,
}

impl ReadUpload {
    /// Whether the signature may be over more keys than these: part of its upload lies elsewhere.
    pub(super) fn may_be_a_part(&self) -> bool {
        matches!(
            self.signer,
            Err(VerifyError::Signature(
                SignatureError::DigestMismatch | SignatureError::Wrong
            ))
        )
    }
}

/// Encodes and verifies the keys of an upload, or of a part of it.
pub(super) fn read_upload(
    rows: &[ReferenceKey],
    columns: &Columns,
    context: &VerificationContext<'_>,
) -> Result<ReadUpload, UploadFault> {
    let segment = encode(rows, columns)?;
    let id = |at: u32| rows.get(at as usize).map_or(0, |row| row.id);
    let decoded =
        decode(&segment, limits::UPLOAD_KEYS_MAX).map_err(|_| UploadFault::Unreadable {
            id: id(0),
            column: "the key",
        })?;
    let valid = validate_at_any_age(decoded).map_err(|broken| UploadFault::InvalidKey {
        id: id(broken.index),
        broken,
    })?;
    let key_count = valid.keys().key_count();
    let content = signed_content(&valid);
    let canonical = content.canonical();
    let texts = || (0..canonical.key_count()).map(|at| canonical.key(at));
    let mut hashed = rows.iter().zip(texts());
    if let Some((row, _)) = hashed.find(|(row, text)| row.payload_hash != payload_hash(text)) {
        return Err(UploadFault::Hash { id: row.id });
    }
    let created_at = rows.first().map_or(UnixMillis(0), |row| row.created_at);
    let identities = texts().map(|text| context.keys.identify(text)).collect();
    let context = VerifyContext {
        country: context.country,
        batch_signature: context.batch_signature,
        // The operator is shown which settings a country will need.
        exceptions: Exceptions {
            sha1: true,
            pss: true,
        },
        trust: context.trust,
        now: created_at,
    };
    let signer = verify(valid, &content, &context).map(|verified| verified.signer());
    Ok(ReadUpload {
        created_at,
        key_count,
        content: *content.digest(),
        identities,
        signer,
        segment,
    })
}

/// The keys as they will be served.
fn encode(rows: &[ReferenceKey], columns: &Columns) -> Result<Vec<u8>, UploadFault> {
    let mut segment = Vec::with_capacity(rows.len() * 80);
    for row in rows {
        PlainKey::open(row, columns)?.write(&mut segment);
    }
    Ok(segment)
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
    fn open(row: &ReferenceKey, columns: &Columns) -> Result<Self, UploadFault> {
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
    fn open(self) -> Result<Vec<u8>, UploadFault> {
        let opened = self.columns.open(&self.row.payload[self.column]);
        opened.ok_or_else(|| self.error())
    }

    fn text(self) -> Result<String, UploadFault> {
        String::from_utf8(self.open()?).map_err(|_| self.error())
    }

    /// A decimal; what is empty was null, which is zero on the wire.
    fn number<T: std::str::FromStr + Default>(self) -> Result<T, UploadFault> {
        match self.text()?.as_str() {
            "" => Ok(T::default()),
            text => text.parse().map_err(|_| self.error()),
        }
    }

    fn report_type(self) -> Result<i32, UploadFault> {
        let name = self.text()?;
        let mut numbered = (0..).zip(REPORT_TYPES);
        match numbered.find(|(_, known)| *known == name) {
            Some((number, _)) => Ok(number),
            None if name.is_empty() => Ok(0),
            None => Err(self.error()),
        }
    }

    fn error(self) -> UploadFault {
        UploadFault::Unreadable {
            id: self.row.id,
            column: PAYLOAD[self.column],
        }
    }
}
