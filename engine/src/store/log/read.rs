//! Reads the log: to follow it, to rebuild the memory, for bundles and for audits.

use std::ops::RangeInclusive;

use super::rows::{
    AUDIT, AuditEntry, CONTENT, LogEntry, SEALED, SealedUpload, UncutUpload, UploadMeta, log_entry,
    uncut_upload, upload_meta,
};
use crate::database::{Connection, Row, SqlError};
use crate::domain::{ContentDigest, Country, Seq, Thumbprint, UnixMillis, UploadTag};
use crate::store::columns::{country, link, number_or_0, upload_tag};
use crate::store::log_mark::LogMark;
use crate::store::session::Store;

/// The log from a position on.
#[derive(Debug)]
pub(crate) struct LogTail {
    /// The row at the position itself, if it is there.
    pub(crate) at_position: Option<LogMark>,
    /// The rows after it, in order.
    pub(crate) newer: Vec<LogEntry>,
}

/// The row at a position and those after it; the identities only of the latter.
const READ_LOG: &str = "SELECT seq, created_at_ms, country, upload_tag, key_count, format_version, \
     uploader_thumbprint, signer_thumbprint, content_digest, chain, batch_signature, \
     CASE WHEN seq > ? THEN identities ELSE '' END FROM upload_log \
     WHERE seq >= ? ORDER BY seq LIMIT ?";

impl Store {
    /// [`Self::read_log`], locking what it reads.
    pub(crate) fn read_locked_log(
        &mut self,
        position: Seq,
        rows_max: u64,
    ) -> Result<LogTail, SqlError> {
        let sql = format!("{READ_LOG}{}", self.0.dialect().and_lock);
        self.read_tail(&sql, position, rows_max)
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

    /// The row at a position, and up to `rows_max` after it for the set and the tags.
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

    /// All rows, in order, for the rebuild at start. `on_entry` gets each as it arrives.
    pub(crate) fn read_whole_log(
        &mut self,
        through: Seq,
        on_entry: &mut dyn FnMut(LogEntry),
    ) -> Result<(), SqlError> {
        let sql = "SELECT seq, created_at_ms, country, upload_tag, key_count, format_version, \
             uploader_thumbprint, signer_thumbprint, content_digest, chain, batch_signature, \
             identities FROM upload_log WHERE seq <= ? ORDER BY seq";
        self.0.query(sql, &[through.0.into()], &mut |row| {
            on_entry(log_entry(row)?);
            Ok(())
        })
    }

    /// How many keys the rows have that were created since an instant.
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

    /// Rows after a position, in order, as far as they decide about download batches.
    pub(crate) fn read_uncut(
        &mut self,
        after: Seq,
        rows_max: u64,
    ) -> Result<Vec<UncutUpload>, SqlError> {
        let sql = "SELECT seq, country, key_count, created_at_ms, content_digest, chain, \
             LENGTH(sealed), LENGTH(batch_signature) \
             FROM upload_log WHERE seq > ? ORDER BY seq LIMIT ?";
        self.0
            .rows(sql, &[after.0.into(), rows_max.into()], uncut_upload)
    }

    /// Metadata of a range of rows, in order.
    pub(crate) fn read_upload_range(
        &mut self,
        seqs: &RangeInclusive<u64>,
    ) -> Result<Vec<UploadMeta>, SqlError> {
        let sql = "SELECT seq, country, key_count, created_at_ms, content_digest, chain \
             FROM upload_log \
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
        let sql = "SELECT seq, country, upload_tag, key_count, signer_thumbprint, content_digest, \
             chain, sealed FROM upload_log WHERE seq BETWEEN ? AND ? ORDER BY seq";
        self.0.rows(
            sql,
            &[(*seqs.start()).into(), (*seqs.end()).into()],
            |row| {
                SEALED.read(row, |row| {
                    Ok(SealedUpload {
                        seq: Seq(row.number(0)?),
                        country: country(row, 1)?,
                        tag: upload_tag(row, 2)?,
                        key_count: row.number_32(3)?,
                        signer: Thumbprint(row.array(4)?),
                        content: ContentDigest(row.array(5)?),
                        link: link(row, 6)?,
                        sealed: row.take_bytes(7)?,
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
                        seq: Seq(row.number(0)?),
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

/// Metadata of the row at a position.
pub(in crate::store) fn read_upload(
    c: &mut dyn Connection,
    seq: Seq,
) -> Result<Option<UploadMeta>, SqlError> {
    let sql = "SELECT seq, country, key_count, created_at_ms, content_digest, chain \
             FROM upload_log \
         WHERE seq = ?";
    c.first(sql, &[seq.0.into()])?.map(upload_meta).transpose()
}
