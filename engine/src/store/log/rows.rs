//! Rows of the log, as they are read.

use crate::database::{BadColumn, Row, SqlError};
use crate::domain::{ContentDigest, Country, KeyIdentity, Seq, Thumbprint, UnixMillis, UploadTag};
use crate::log_chain::{Link, LogColumns};
use crate::seal::SealedRow;
use crate::store::columns::{Rows, country, identities, link, upload_tag};
use crate::store::log_mark::LogMark;

/// A row of the log, apart from its sealed keys.
#[derive(Debug)]
pub(crate) struct LogEntry {
    pub(crate) seq: Seq,
    pub(crate) created_at: UnixMillis,
    pub(crate) country: Country,
    pub(crate) tag: UploadTag,
    pub(crate) key_count: u32,
    pub(crate) format_version: u64,
    pub(crate) uploader: Thumbprint,
    pub(crate) signer: Thumbprint,
    pub(crate) content: ContentDigest,
    pub(crate) link: Option<Link>,
    pub(crate) batch_signature: Box<str>,
    pub(crate) identities: Vec<KeyIdentity>,
}

impl LogEntry {
    /// What the chain covers.
    pub(crate) fn columns(&self) -> LogColumns<'_> {
        LogColumns {
            created_at: self.created_at,
            country: self.country,
            tag: &self.tag,
            key_count: self.key_count,
            format_version: self.format_version,
            uploader: &self.uploader,
            signer: &self.signer,
            content: &self.content,
            batch_signature: &self.batch_signature,
            identities: &self.identities,
        }
    }

    /// What identifies it.
    pub(crate) fn mark(&self) -> LogMark {
        LogMark {
            seq: self.seq,
            created_at: self.created_at,
            country: self.country,
            tag: self.tag.clone(),
            key_count: self.key_count,
            content: self.content,
            link: self.link,
        }
    }
}

/// A row of the log, as far as it decides about download batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UploadMeta {
    pub(crate) seq: Seq,
    pub(crate) country: Country,
    pub(crate) key_count: u32,
    pub(crate) created_at: UnixMillis,
    pub(crate) content: ContentDigest,
    pub(crate) link: Option<Link>,
}

impl UploadMeta {
    /// Where it is, for sentences about it.
    pub(crate) fn place(&self) -> String {
        format!("the upload of {} at position {}", self.country, self.seq.0)
    }
}

/// A row of the log that is to be cut into a download batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UncutUpload {
    pub(crate) meta: UploadMeta,
    /// Its encoded keys, and the few bytes of their seal.
    pub(crate) sealed_bytes: u64,
    pub(crate) signature_bytes: u64,
}

/// A row of the log, as far as its keys are needed.
#[derive(Debug)]
pub(crate) struct SealedUpload {
    pub(crate) seq: Seq,
    pub(crate) country: Country,
    pub(crate) tag: UploadTag,
    pub(crate) key_count: u32,
    pub(crate) signer: Thumbprint,
    pub(crate) content: ContentDigest,
    pub(crate) link: Option<Link>,
    pub(crate) sealed: Vec<u8>,
}

impl SealedUpload {
    /// Where it is, for sentences about it.
    pub(crate) fn place(&self) -> String {
        let (tag, country, seq) = (&self.tag, self.country, self.seq.0);
        format!("upload {tag} of {country} at position {seq}")
    }

    /// What its keys are sealed for.
    pub(crate) fn sealed_row(&self) -> SealedRow<'_> {
        SealedRow {
            country: self.country,
            tag: &self.tag,
            content: &self.content,
            signer: &self.signer,
            key_count: self.key_count,
            columns: self.link.map(|link| link.columns),
        }
    }
}

/// One upload of a download batch as the audit shows it (wire §15).
#[derive(Debug, Clone)]
pub(crate) struct AuditEntry {
    /// Position of the upload.
    pub(crate) seq: Seq,
    /// Uploader country.
    pub(crate) country: Country,
    /// When the upload was stored.
    pub(crate) uploaded_at: UnixMillis,
    /// The authentication certificate it was uploaded with.
    pub(crate) uploader: Thumbprint,
    /// The certificate it was signed with.
    pub(crate) signer: Thumbprint,
    /// Number of keys.
    pub(crate) key_count: u32,
    /// The batch signature as received.
    pub(crate) batch_signature: Box<str>,
}

pub(super) fn log_entry(row: Row) -> Result<LogEntry, SqlError> {
    LOG.read(row, |row| read_log_entry(row))
}

/// All columns of a row but the last.
pub(in crate::store) fn read_log_entry(row: &Row) -> Result<LogEntry, BadColumn> {
    Ok(LogEntry {
        seq: Seq(row.number(0)?),
        created_at: UnixMillis(row.number(1)?),
        country: country(row, 2)?,
        tag: upload_tag(row, 3)?,
        key_count: row.number_32(4)?,
        format_version: row.number(5)?,
        uploader: Thumbprint(row.array(6)?),
        signer: Thumbprint(row.array(7)?),
        content: ContentDigest(row.array(8)?),
        link: link(row, 9)?,
        batch_signature: row.text(10)?.into(),
        identities: identities(row, 11)?,
    })
}

pub(super) fn upload_meta(row: Row) -> Result<UploadMeta, SqlError> {
    META.read(row, meta_columns)
}

pub(super) fn uncut_upload(row: Row) -> Result<UncutUpload, SqlError> {
    UNCUT.read(row, |row| {
        Ok(UncutUpload {
            meta: meta_columns(row)?,
            sealed_bytes: row.number(6)?,
            signature_bytes: row.number(7)?,
        })
    })
}

fn meta_columns(row: &mut Row) -> Result<UploadMeta, BadColumn> {
    Ok(UploadMeta {
        seq: Seq(row.number(0)?),
        country: country(row, 1)?,
        key_count: row.number_32(2)?,
        created_at: UnixMillis(row.number(3)?),
        content: ContentDigest(row.array(4)?),
        link: link(row, 5)?,
    })
}

const fn upload_log(columns: &'static [&'static str]) -> Rows {
    Rows {
        table: "upload_log",
        columns,
        key: &[0],
    }
}

const LOG: Rows = upload_log(&[
    "seq",
    "created_at_ms",
    "country",
    "upload_tag",
    "key_count",
    "format_version",
    "uploader_thumbprint",
    "signer_thumbprint",
    "content_digest",
    "chain",
    "batch_signature",
    "identities",
]);

const META: Rows = upload_log(&[
    "seq",
    "country",
    "key_count",
    "created_at_ms",
    "content_digest",
    "chain",
]);

pub(super) const SEALED: Rows = upload_log(&[
    "seq",
    "country",
    "upload_tag",
    "key_count",
    "signer_thumbprint",
    "content_digest",
    "chain",
    "sealed",
]);

const UNCUT: Rows = upload_log(&[
    "seq",
    "country",
    "key_count",
    "created_at_ms",
    "content_digest",
    "chain",
    "sealed",
    "batch_signature",
]);

pub(super) const AUDIT: Rows = upload_log(&[
    "seq",
    "country",
    "created_at_ms",
    "uploader_thumbprint",
    "signer_thumbprint",
    "key_count",
    "batch_signature",
]);

pub(super) const CONTENT: Rows = upload_log(&["seq", "content_digest", "created_at_ms"]);
