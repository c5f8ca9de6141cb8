//! Audits (wire §15): one JSON object per upload of a download batch, made once for all readers.
//!
//! - *Out*: the caller's own entries last (repairs FI, which slices the whole list without skipping
//!   its own); ten members each, none of them null (FI refuses the whole response otherwise).
//!
//! Each entry is encoded with the comma that usually follows it, so that whatever order a reader
//! needs is made of the same bytes, not copied.

use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::answers::AnswerPermit;
use super::cache::Cacheable;
use crate::domain::{CertificateKind, Country, Thumbprint, UnixMillis};
use crate::limits;
use crate::locks::LockIgnoringPoison;
use crate::store::AuditEntry;
use crate::trust::{ListedCertificate, Trust};

/// The answer to a request for an audit.
#[derive(Debug)]
pub struct Audit {
    entries: Arc<AuditEntries>,
    reader: Country,
    /// Position of the entry that no comma follows.
    last: usize,
    /// Held while the answer is.
    _permit: AnswerPermit,
}

impl Audit {
    pub(super) fn new(entries: Arc<AuditEntries>, reader: Country, permit: AnswerPermit) -> Self {
        let countries = &entries.countries;
        let own = countries.iter().rposition(|&country| country == reader);
        let last = own.unwrap_or_else(|| countries.len().saturating_sub(1));
        Self {
            entries,
            reader,
            last,
            _permit: permit,
        }
    }

    /// Maximum number of chunks: brackets around the entries of others, and around the reader's own.
    pub fn chunk_count(&self) -> usize {
        self.entries.countries.len() * 2 + 2
    }

    /// The chunk at a position below [`Self::chunk_count`]; empty when there is nothing to write.
    pub fn chunk(&self, index: usize) -> Bytes {
        let count = self.entries.countries.len();
        match index.checked_sub(1) {
            None => Bytes::from_static(b"["),
            Some(position) if position < count => self.entry(position, false),
            Some(position) if position < 2 * count => self.entry(position - count, true),
            Some(_) => Bytes::from_static(b"]"),
        }
    }

    /// Sum of the chunks' lengths.
    pub fn body_bytes(&self) -> u64 {
        let last_comma = u64::from(!self.entries.countries.is_empty());
        self.entries.json.len() as u64 - last_comma + 2
    }

    /// An entry, if it is the reader's own or not, as asked.
    fn entry(&self, position: usize, is_own: bool) -> Bytes {
        if (self.entries.countries[position] == self.reader) != is_own {
            return Bytes::new();
        }
        let comma = usize::from(position == self.last);
        let ends = &self.entries.ends;
        let start = position.checked_sub(1).map_or(0, |before| ends[before]);
        self.entries.json.slice(start..ends[position] - comma)
    }
}

/// The entries of a download batch in order, encoded.
#[derive(Debug)]
pub(crate) struct AuditEntries {
    /// The uploader of each.
    countries: Box<[Country]>,
    /// Where each ends in `json`, with its comma.
    ends: Box<[usize]>,
    json: Bytes,
}

impl AuditEntries {
    pub(super) fn new(entries: &[AuditEntry], trust: &Trust) -> Self {
        let mut json = Vec::new();
        let write = |entry: &AuditEntry| {
            serde_json::to_writer(&mut json, &ShownEntry::new(entry, trust))
                .expect("a vector takes whatever is written to it");
            json.push(b',');
            json.len()
        };
        let ends = entries.iter().map(write).collect();
        Self {
            countries: entries.iter().map(|entry| entry.country).collect(),
            ends,
            // Without what was reserved too much.
            json: Bytes::from(json.into_boxed_slice()),
        }
    }
}

impl Cacheable for AuditEntries {
    const GAUGE: &'static str = "efgs_audit_cache_bytes";
    const LARGEST_BYTES: usize = limits::AUDIT_BYTES_MAX;

    fn bytes(&self) -> usize {
        self.json.len() + size_of_val(&*self.ends)
    }
}

/// Numbers the certificate lists that audits were made with: an audit shows the list as it is.
#[derive(Debug, Default)]
pub(super) struct ListNumbers(Mutex<(Weak<Trust>, u64)>);

impl ListNumbers {
    /// The number of a list; a new one whenever the list is not the one before.
    pub(super) fn number(&self, trust: &Arc<Trust>) -> u64 {
        let mut known = self.0.lock_ignoring_poison();
        // The weak reference keeps the address from being used again.
        if !std::ptr::eq(known.0.as_ptr(), Arc::as_ptr(trust)) {
            *known = (Arc::downgrade(trust), known.1 + 1);
        }
        known.1
    }
}

/// An entry as it is sent. Unknown members are empty, never null.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownEntry<'a> {
    country: &'a str,
    uploaded_time: String,
    uploader_certificate: &'a str,
    uploader_thumbprint: String,
    uploader_operator_signature: &'a str,
    signing_certificate: &'a str,
    uploader_signing_thumbprint: String,
    signing_certificate_operator_signature: &'a str,
    amount: u32,
    batch_signature: &'a str,
}

impl<'a> ShownEntry<'a> {
    fn new(entry: &'a AuditEntry, trust: &'a Trust) -> Self {
        let uploader = trust.find(&entry.uploader, CertificateKind::Authentication);
        let signer = trust.find(&entry.signer, CertificateKind::Signing);
        Self::with_certificates(
            entry,
            SignedCertificate::new(&entry.uploader, uploader.map(AsRef::as_ref)),
            SignedCertificate::new(&entry.signer, signer.map(AsRef::as_ref)),
        )
    }

    fn with_certificates(
        entry: &'a AuditEntry,
        uploader: SignedCertificate<'a>,
        signer: SignedCertificate<'a>,
    ) -> Self {
        Self {
            country: entry.country.as_str(),
            uploaded_time: iso_time(entry.uploaded_at),
            uploader_certificate: uploader.pem,
            uploader_thumbprint: uploader.legacy_thumbprint,
            uploader_operator_signature: uploader.operator_signature,
            signing_certificate: signer.pem,
            uploader_signing_thumbprint: signer.legacy_thumbprint,
            signing_certificate_operator_signature: signer.operator_signature,
            amount: entry.key_count,
            batch_signature: &entry.batch_signature,
        }
    }
}

/// A certificate and the operator's signature over it. Revocation is not considered: what was
/// uploaded with it must stay verifiable.
struct SignedCertificate<'a> {
    pem: &'a str,
    legacy_thumbprint: String,
    operator_signature: &'a str,
}

impl<'a> SignedCertificate<'a> {
    fn new(thumbprint: &Thumbprint, listed: Option<&'a ListedCertificate>) -> Self {
        let row = listed
            .filter(|listed| listed.is_intact())
            .map(|listed| &listed.row);
        if row.is_none() {
            let message = "the certificate of an upload is no longer listed";
            tracing::warn!(certVerifyThumbprint = %thumbprint, "{message}");
        }
        Self {
            pem: row.map_or("", |row| &row.pem),
            legacy_thumbprint: thumbprint.legacy_hex(),
            operator_signature: row.map_or("", |row| &row.operator_signature),
        }
    }
}

const ISO_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:2]Z");

/// ISO 8601, UTC, with two decimals as the reference writes it (wire §15): `2020-10-06T09:12:33.12Z`.
fn iso_time(instant: UnixMillis) -> String {
    let nanoseconds = i128::from(instant.0) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok();
    time.and_then(|time| time.format(ISO_TIME).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::answers::Answers;
    use super::*;
    use crate::domain::Seq;
    use crate::trust::{CertificateRow, RowFault};

    fn entry(code: &str, key_count: u32) -> AuditEntry {
        AuditEntry {
            seq: Seq(1),
            country: Country::parse(code).unwrap(),
            uploaded_at: UnixMillis(1_601_975_553_120),
            uploader: Thumbprint([0xab; 32]),
            signer: Thumbprint([0; 32]),
            key_count,
            batch_signature: "MIAG".into(),
        }
    }

    fn listed(kind: CertificateKind, fault: Option<RowFault>) -> ListedCertificate {
        ListedCertificate {
            row: CertificateRow {
                thumbprint: Thumbprint([0xab; 32]),
                country: Country::parse("IT").unwrap(),
                kind,
                pem: Arc::from("-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"),
                operator_signature: Arc::from("c2ln"),
                revoked_at: Some(UnixMillis(1)),
            },
            not_before: UnixMillis(0),
            not_after: UnixMillis(0),
            fault,
        }
    }

    fn show(uploader: Option<&ListedCertificate>, signer: Option<&ListedCertificate>) -> Value {
        let entry = entry("IT", 17);
        let uploader = SignedCertificate::new(&entry.uploader, uploader);
        let signer = SignedCertificate::new(&entry.signer, signer);
        serde_json::to_value(ShownEntry::with_certificates(&entry, uploader, signer)).unwrap()
    }

    /// `date -u -d @1601975553.12`.
    const UPLOADED: &str = "2020-10-06T09:12:33.12Z";

    #[test]
    fn shows_all_ten_members() {
        let uploader = listed(CertificateKind::Authentication, None);
        let signer = listed(CertificateKind::Signing, None);
        let pem = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n";
        let expected = json!({
            "country": "IT",
            "uploadedTime": UPLOADED,
            "uploaderCertificate": pem,
            "uploaderThumbprint": "ab".repeat(32),
            "uploaderOperatorSignature": "c2ln",
            "signingCertificate": pem,
            "uploaderSigningThumbprint": "",
            "signingCertificateOperatorSignature": "c2ln",
            "amount": 17,
            "batchSignature": "MIAG",
        });
        assert_eq!(show(Some(&uploader), Some(&signer)), expected);
    }

    #[test]
    fn shows_no_null_when_a_certificate_is_missing_or_tampered_with() {
        let tampered = listed(CertificateKind::Signing, Some(RowFault::OperatorSignature));
        let shown = show(None, Some(&tampered));
        assert!(
            shown
                .as_object()
                .unwrap()
                .values()
                .all(|value| !value.is_null())
        );
        assert_eq!(shown["uploaderCertificate"], "");
        assert_eq!(shown["signingCertificate"], "");
    }

    /// The amounts in the audit of uploads of 1, 2, 3… keys.
    fn amounts(countries: &[&str], reader: &str) -> Vec<u32> {
        let listed: Vec<_> = (1..)
            .zip(countries)
            .map(|(key_count, code)| entry(code, key_count))
            .collect();
        let entries = Arc::new(AuditEntries::new(&listed, &Trust::default()));
        let reader = Country::parse(reader).unwrap();
        let permit = Answers::new(1).admit(reader, 1).unwrap();
        let audit = Audit::new(Arc::clone(&entries), reader, permit);
        let chunks = (0..audit.chunk_count()).map(|index| audit.chunk(index));
        let ours = entries.json.as_ptr_range();
        let mut body = Vec::new();
        for chunk in chunks.filter(|chunk| !chunk.is_empty()) {
            assert!(chunk.len() == 1 || ours.contains(&chunk.as_ptr()), "copied");
            body.extend_from_slice(&chunk);
        }
        assert_eq!(audit.body_bytes(), body.len() as u64);
        let shown: Vec<Value> = serde_json::from_slice(&body).unwrap();
        let amounts = shown.iter().map(|entry| entry["amount"].as_u64().unwrap());
        amounts
            .map(|amount| u32::try_from(amount).unwrap())
            .collect()
    }

    #[test]
    fn puts_the_readers_own_entries_last() {
        let countries = ["DE", "IT", "DE", "ES"];
        assert_eq!(amounts(&countries, "DE"), [2, 4, 1, 3]);
        assert_eq!(amounts(&countries, "ES"), [1, 2, 3, 4]);
        assert_eq!(amounts(&countries, "PL"), [1, 2, 3, 4]);
        assert_eq!(amounts(&["DE", "DE"], "DE"), [1, 2]);
        assert_eq!(amounts(&["IT"], "DE"), [1]);
    }

    #[test]
    fn numbers_each_list_anew() {
        let numbers = ListNumbers::default();
        let (first, second) = (Arc::new(Trust::default()), Arc::new(Trust::default()));
        let number = numbers.number(&first);
        assert_eq!(numbers.number(&first), number);
        assert_ne!(numbers.number(&second), number);
        drop(second);
        let third = Arc::new(Trust::default());
        assert!(
            numbers.number(&third) > number + 1,
            "a new list at an old address"
        );
    }
}
