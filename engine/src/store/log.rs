//! The log of uploads.

use std::ops::RangeInclusive;

use super::columns::{Rows, country, number_or_0, upload_tag};
use super::log_mark::LogMark;
use super::session::Store;
use crate::database::{BadColumn, Connection, Param, Row, SqlError};
use crate::domain::{ContentDigest, Country, KeyIdentity, Seq, Thumbprint, UnixMillis, UploadTag};

/// The only version of both formats (wire §5: 1.0), as major * 256 + minor.
pub(crate) const FORMAT_VERSION: u64 = 0x100;

/// A row of the log, as far as it decides about later uploads.
#[derive(Debug)]
pub(crate) struct LogEntry {
    pub(crate) seq: Seq,
    pub(crate) country: Country,
    pub(crate) tag: UploadTag,
    pub(crate) key_count: u32,
    pub(crate) content: ContentDigest,
    pub(crate) identities: Vec<KeyIdentity>,
    pub(crate) created_at: UnixMillis,
}

impl LogEntry {
    /// What identifies it.
    pub(crate) fn mark(&self) -> LogMark {
        LogMark {
            seq: self.seq,
            created_at: self.created_at,
            country: self.country,
            tag: self.tag.clone(),
            key_count: self.key_count,
            content: self.content,
        }
    }
}

/// The log from a position on.
#[derive(Debug)]
pub(crate) struct LogTail {
    /// The row at the position itself, if it is there.
    pub(crate) at_position: Option<LogMark>,
    /// The rows behind it, in order.
    pub(crate) newer: Vec<LogEntry>,
}

/// What became of rows that were to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    /// They are durable.
    Stored,
    /// The row that they were to follow is gone, or another one: nothing was written.
    NotBehind,
}

/// A row of the log, as far as it decides about download batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UploadMeta {
    pub(crate) seq: Seq,
    pub(crate) country: Country,
    pub(crate) key_count: u32,
    pub(crate) created_at: UnixMillis,
    pub(crate) content: ContentDigest,
}

/// A row of the log, as far as its keys are needed.
#[derive(Debug)]
pub(crate) struct SealedUpload {
    pub(crate) seq: Seq,
    pub(crate) country: Country,
    pub(crate) tag: UploadTag,
    pub(crate) sealed: Vec<u8>,
}

/// One upload of a download batch as the audit shows it (wire §15).
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// Uploader country.
    pub country: Country,
    /// When the upload was stored.
    pub uploaded_at: UnixMillis,
    /// The authentication certificate it was uploaded with.
    pub uploader: Thumbprint,
    /// The certificate it was signed with.
    pub signer: Thumbprint,
    /// Number of keys.
    pub key_count: u32,
    /// The batch signature as received.
    pub batch_signature: Box<str>,
}

/// The columns of a row, in the order of [`row_params`].
const COLUMNS: &str = "seq, created_at_ms, country, upload_tag, key_count, format_version, \
     uploader_thumbprint, signer_thumbprint, content_digest, batch_signature, identities, sealed";

/// The row at a position and those behind it; the identities only of the latter.
const READ_LOG: &str = "SELECT seq, country, upload_tag, key_count, content_digest, \
     CASE WHEN seq > ? THEN identities ELSE '' END, created_at_ms FROM upload_log \
     WHERE seq >= ? ORDER BY seq LIMIT ?";

impl Store {
    /// Appends uploads behind the row that `behind` identifies: all of them or none, durable when
    /// it returns. Without such a row, as in an empty log, nothing is checked.
    pub(crate) fn append(
        &mut self,
        behind: Option<&LogMark>,
        rows: &[UploadRow<'_>],
    ) -> Result<Appended, SqlError> {
        if let [row] = rows {
            // One statement is a transaction of its own: a round trip less.
            return insert_behind(&mut *self.0, behind, row);
        }
        self.0.transaction(|c| insert_all(c, behind, rows))
    }

    /// Begins a transaction that locks the tail of the log: once [`Self::read_locked_log`] has come
    /// to the end, nobody else appends. [`Self::append_locked`] or [`Self::unlock_log`] ends it.
    pub(crate) fn lock_log(&mut self) -> Result<(), SqlError> {
        self.0.begin_locking()
    }

    /// [`Self::read_log`], locking what it reads.
    pub(crate) fn read_locked_log(
        &mut self,
        position: Seq,
        rows_max: u64,
    ) -> Result<LogTail, SqlError> {
        let sql = format!("{READ_LOG}{}", self.0.dialect().and_lock);
        self.read_tail(&sql, position, rows_max)
    }

    /// [`Self::append`] at the end of the locked log.
    pub(crate) fn append_locked(
        &mut self,
        behind: Option<&LogMark>,
        rows: &[UploadRow<'_>],
    ) -> Result<Appended, SqlError> {
        self.0.complete(|c| insert_all(c, behind, rows))
    }

    /// Unlocks the log, which is as it was.
    pub(crate) fn unlock_log(&mut self) -> Result<(), SqlError> {
        self.0.script("ROLLBACK")
    }

    /// The first and last position of the log that matter: rows, and what download batches
    /// remember of rows that are gone.
    pub(crate) fn log_end(&mut self) -> Result<Seq, SqlError> {
        let sql = "SELECT COALESCE(MAX(seq), 0), \
             (SELECT COALESCE(MAX(last_seq), 0) FROM download_batch) FROM upload_log";
        let row = self.0.first(sql, &[])?;
        let (log, batches) = (number_or_0(row.as_ref(), 0)?, number_or_0(row.as_ref(), 1)?);
        Ok(Seq(log.max(batches)))
    }

    /// The row at a position, and up to `rows_max` behind it for the set and the tags.
    pub(crate) fn read_log(&mut self, position: Seq, rows_max: u64) -> Result<LogTail, SqlError> {
        self.read_tail(READ_LOG, position, rows_max)
    }

    fn read_tail(&mut self, sql: &str, position: Seq, rows_max: u64) -> Result<LogTail, SqlError> {
        let params = [position.0, position.0, rows_max + 1].map(Into::into);
        let mut newer = self.0.rows(sql, &params, log_entry)?;
        let has_position = newer.first().is_some_and(|row| row.seq == position);
        let at_position = has_position.then(|| newer.remove(0).mark());
        newer.truncate(usize::try_from(rows_max).unwrap_or(usize::MAX));
        Ok(LogTail { at_position, newer })
    }

    /// Rows created since an instant, in order, for the rebuild at start. `on_entry` gets each as
    /// it arrives.
    pub(crate) fn read_log_since(
        &mut self,
        since: UnixMillis,
        through: Seq,
        on_entry: &mut dyn FnMut(LogEntry),
    ) -> Result<(), SqlError> {
        let sql = "SELECT seq, country, upload_tag, key_count, content_digest, identities, \
             created_at_ms FROM upload_log WHERE seq <= ? AND created_at_ms >= ? ORDER BY seq";
        let params = [through.0.into(), since.0.into()];
        self.0.query(sql, &params, &mut |row| {
            on_entry(log_entry(row)?);
            Ok(())
        })
    }

    /// How many keys the rows have that [`Self::read_log_since`] reads.
    pub(crate) fn count_keys_since(
        &mut self,
        since: UnixMillis,
        through: Seq,
    ) -> Result<usize, SqlError> {
        let sql = "SELECT CAST(COALESCE(SUM(key_count), 0) AS UNSIGNED) FROM upload_log \
             WHERE seq <= ? AND created_at_ms >= ?";
        let row = self.0.first(sql, &[through.0.into(), since.0.into()])?;
        let keys = number_or_0(row.as_ref(), 0)?;
        Ok(usize::try_from(keys).unwrap_or(0))
    }

    /// Metadata of rows behind a position, in order.
    pub(crate) fn read_uploads(
        &mut self,
        after: Seq,
        rows_max: u64,
    ) -> Result<Vec<UploadMeta>, SqlError> {
        let sql = "SELECT seq, country, key_count, created_at_ms, content_digest FROM upload_log \
             WHERE seq > ? ORDER BY seq LIMIT ?";
        self.0
            .rows(sql, &[after.0.into(), rows_max.into()], upload_meta)
    }

    /// Metadata of a range of rows, in order.
    pub(crate) fn read_upload_range(
        &mut self,
        seqs: &RangeInclusive<u64>,
    ) -> Result<Vec<UploadMeta>, SqlError> {
        let sql = "SELECT seq, country, key_count, created_at_ms, content_digest FROM upload_log \
             WHERE seq BETWEEN ? AND ? ORDER BY seq";
        self.0.rows(
            sql,
            &[(*seqs.start()).into(), (*seqs.end()).into()],
            upload_meta,
        )
    }

    /// Sealed keys of a range of rows, in order.
    pub(crate) fn read_sealed(
        &mut self,
        seqs: &RangeInclusive<u64>,
    ) -> Result<Vec<SealedUpload>, SqlError> {
        let sql = "SELECT seq, country, upload_tag, sealed FROM upload_log \
             WHERE seq BETWEEN ? AND ? ORDER BY seq";
        self.0.rows(
            sql,
            &[(*seqs.start()).into(), (*seqs.end()).into()],
            |row| {
                SEALED.read(row, |row| {
                    Ok(SealedUpload {
                        seq: Seq(row.number(0)?),
                        country: country(row, 1)?,
                        tag: upload_tag(row, 2)?,
                        sealed: row.take_bytes(3)?,
                    })
                })
            },
        )
    }

    /// What the audit shows of a range of rows, in order, those without keys left out.
    pub(crate) fn read_audit(
        &mut self,
        seqs: &RangeInclusive<u64>,
    ) -> Result<Vec<AuditEntry>, SqlError> {
        let sql = "SELECT seq, country, created_at_ms, uploader_thumbprint, signer_thumbprint, \
             key_count, batch_signature FROM upload_log \
             WHERE seq BETWEEN ? AND ? AND key_count > 0 ORDER BY seq";
        self.0.rows(
            sql,
            &[(*seqs.start()).into(), (*seqs.end()).into()],
            |row| {
                AUDIT.read(row, |row| {
                    Ok(AuditEntry {
                        country: country(row, 1)?,
                        uploaded_at: UnixMillis(row.number(2)?),
                        uploader: Thumbprint(row.array(3)?),
                        signer: Thumbprint(row.array(4)?),
                        key_count: row.number_32(5)?,
                        batch_signature: row.text(6)?.into(),
                    })
                })
            },
        )
    }

    /// The content that a tag stands for, and since when.
    pub(crate) fn find_content(
        &mut self,
        country: Country,
        tag: &UploadTag,
    ) -> Result<Option<(ContentDigest, UnixMillis)>, SqlError> {
        let sql = "SELECT seq, content_digest, created_at_ms FROM upload_log \
             WHERE country = ? AND upload_tag = ?";
        let row = self
            .0
            .first(sql, &[country.as_str().into(), tag.as_str().into()])?;
        let read = |row: &mut Row| Ok((ContentDigest(row.array(1)?), UnixMillis(row.number(2)?)));
        row.map(|row| CONTENT.read(row, read)).transpose()
    }
}

/// A row of the log, as it is written.
#[derive(Debug)]
pub(crate) struct UploadRow<'a> {
    pub(crate) seq: Seq,
    pub(crate) created_at: UnixMillis,
    pub(crate) country: Country,
    pub(crate) tag: &'a UploadTag,
    pub(crate) key_count: u32,
    pub(crate) format_version: u64,
    pub(crate) uploader: &'a Thumbprint,
    pub(crate) signer: &'a Thumbprint,
    pub(crate) content: &'a ContentDigest,
    pub(crate) batch_signature: &'a str,
    pub(crate) identities: &'a [KeyIdentity],
    pub(crate) sealed: &'a [u8],
}

impl UploadRow<'_> {
    fn identity_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size_of_val(self.identities));
        for identity in self.identities {
            bytes.extend_from_slice(&identity.0);
        }
        bytes
    }
}

fn insert_all(
    c: &mut dyn Connection,
    behind: Option<&LogMark>,
    rows: &[UploadRow<'_>],
) -> Result<Appended, SqlError> {
    let Some((first, rest)) = rows.split_first() else {
        return Ok(Appended::Stored);
    };
    let appended = insert_behind(c, behind, first)?;
    if appended == Appended::Stored {
        rest.iter().try_for_each(|row| insert_row(c, row))?;
    }
    Ok(appended)
}

/// Inserts a row if the row that it follows is there: one statement, so that nothing can come
/// between, and no round trip more.
fn insert_behind(
    c: &mut dyn Connection,
    behind: Option<&LogMark>,
    row: &UploadRow<'_>,
) -> Result<Appended, SqlError> {
    let Some(behind) = behind else {
        return insert_row(c, row).map(|()| Appended::Stored);
    };
    let sql = format!(
        "INSERT INTO upload_log ({COLUMNS}) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?{} \
         WHERE EXISTS (SELECT 1 FROM upload_log WHERE seq = ? AND created_at_ms = ? \
         AND country = ? AND upload_tag = ? AND key_count = ? AND content_digest = ?)",
        c.dialect().from_nothing
    );
    let identities = row.identity_bytes();
    let params = [&row_params(row, &identities)[..], &behind.params()].concat();
    match c.execute(&sql, &params)? {
        0 => Ok(Appended::NotBehind),
        1 => Ok(Appended::Stored),
        _ => Err(answer_of_another()),
    }
}

pub(super) fn insert_row(c: &mut dyn Connection, row: &UploadRow<'_>) -> Result<(), SqlError> {
    let sql =
        format!("INSERT INTO upload_log ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    let identities = row.identity_bytes();
    match c.execute(&sql, &row_params(row, &identities))? {
        1 => Ok(()),
        _ => Err(answer_of_another()),
    }
}

fn answer_of_another() -> SqlError {
    SqlError::Lost("the answer to an insert was another's".into())
}

fn row_params<'a>(row: &'a UploadRow<'_>, identities: &'a [u8]) -> [Param<'a>; 12] {
    [
        row.seq.0.into(),
        row.created_at.0.into(),
        row.country.as_str().into(),
        row.tag.as_str().into(),
        u64::from(row.key_count).into(),
        row.format_version.into(),
        row.uploader.0.as_slice().into(),
        row.signer.0.as_slice().into(),
        row.content.0.as_slice().into(),
        row.batch_signature.into(),
        identities.into(),
        row.sealed.into(),
    ]
}

fn log_entry(row: Row) -> Result<LogEntry, SqlError> {
    LOG.read(row, |row| {
        let (identities, rest) = row.bytes(5)?.as_chunks();
        if !rest.is_empty() {
            return Err(BadColumn {
                column: 5,
                problem: "is no list of identities of 16 bytes",
            });
        }
        Ok(LogEntry {
            seq: Seq(row.number(0)?),
            country: country(row, 1)?,
            tag: upload_tag(row, 2)?,
            key_count: row.number_32(3)?,
            content: ContentDigest(row.array(4)?),
            identities: identities.iter().copied().map(KeyIdentity).collect(),
            created_at: UnixMillis(row.number(6)?),
        })
    })
}

/// Metadata of the row at a position.
pub(super) fn read_upload(
    c: &mut dyn Connection,
    seq: Seq,
) -> Result<Option<UploadMeta>, SqlError> {
    let sql = "SELECT seq, country, key_count, created_at_ms, content_digest FROM upload_log \
         WHERE seq = ?";
    c.first(sql, &[seq.0.into()])?.map(upload_meta).transpose()
}

fn upload_meta(row: Row) -> Result<UploadMeta, SqlError> {
    META.read(row, |row| {
        Ok(UploadMeta {
            seq: Seq(row.number(0)?),
            country: country(row, 1)?,
            key_count: row.number_32(2)?,
            created_at: UnixMillis(row.number(3)?),
            content: ContentDigest(row.array(4)?),
        })
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
    "country",
    "upload_tag",
    "key_count",
    "content_digest",
    "identities",
    "created_at_ms",
]);
const META: Rows = upload_log(&[
    "seq",
    "country",
    "key_count",
    "created_at_ms",
    "content_digest",
]);
const SEALED: Rows = upload_log(&["seq", "country", "upload_tag", "sealed"]);
const AUDIT: Rows = upload_log(&[
    "seq",
    "country",
    "created_at_ms",
    "uploader_thumbprint",
    "signer_thumbprint",
    "key_count",
    "batch_signature",
]);
const CONTENT: Rows = upload_log(&["seq", "content_digest", "created_at_ms"]);
