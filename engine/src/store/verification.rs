//! What `efgs db verify` reads: whole rows, some at a time.

use std::ops::RangeInclusive;

use super::columns::{Rows, link, number_or_0};
use super::download_batches::{DownloadBatchRow, download_batch};
use super::log::{LogEntry, read_log_entry};
use super::session::Store;
use crate::database::SqlError;
use crate::domain::{Country, Day, Seq};
use crate::log_chain::BatchUploads;
use crate::seal::SealedRow;

/// A row of the log with its sealed keys.
#[derive(Debug)]
pub(crate) struct WholeRow {
    pub(crate) entry: LogEntry,
    pub(crate) sealed: Vec<u8>,
}

impl WholeRow {
    /// What its keys are sealed for.
    pub(crate) fn sealed_row(&self) -> SealedRow<'_> {
        SealedRow {
            country: self.entry.country,
            tag: &self.entry.tag,
            content: &self.entry.content,
            signer: &self.entry.signer,
            key_count: self.entry.key_count,
            columns: self.entry.link.map(|link| link.columns),
        }
    }
}

/// Uploads at most so far apart are looked at for parts of the same: an import cuts an upload where
/// the reference has cut two download batches.
const PARTS_APART_MAX: u64 = 1000;

impl Store {
    /// Rows after a position, in order.
    pub(crate) fn read_whole_rows(
        &mut self,
        after: Seq,
        through: Seq,
        rows_max: u64,
    ) -> Result<Vec<WholeRow>, SqlError> {
        let sql = "SELECT seq, created_at_ms, country, upload_tag, key_count, format_version, \
             uploader_thumbprint, signer_thumbprint, content_digest, chain, batch_signature, \
             identities, sealed FROM upload_log WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?";
        let params = [after.0, through.0, rows_max].map(Into::into);
        self.0.rows(sql, &params, |row| {
            WHOLE_ROWS.read(row, |row| {
                Ok(WholeRow {
                    entry: read_log_entry(row)?,
                    sealed: row.take_bytes(12)?,
                })
            })
        })
    }

    /// The first position of the log.
    pub(crate) fn first_seq(&mut self) -> Result<Option<Seq>, SqlError> {
        self.next_seq(Seq::ZERO)
    }

    /// The first position after another one.
    pub(crate) fn next_seq(&mut self, after: Seq) -> Result<Option<Seq>, SqlError> {
        let sql = "SELECT seq FROM upload_log WHERE seq > ? ORDER BY seq LIMIT 1";
        let row = self.0.first(sql, &[after.0.into()])?;
        Ok(row.map(|row| row.number(0)).transpose()?.map(Seq))
    }

    /// The first position of an upload of a day or later.
    pub(crate) fn first_since(&mut self, day: Day) -> Result<Option<Seq>, SqlError> {
        let sql = "SELECT COALESCE(MIN(seq), 0) FROM upload_log WHERE created_at_ms >= ?";
        let since = day.start().0;
        let row = self.0.first(sql, &[since.into()])?;
        let first = number_or_0(row.as_ref(), 0)?;
        Ok((first > 0).then_some(Seq(first)))
    }

    /// Up to this position, retention has deleted the key data.
    pub(crate) fn emptied_to(&mut self) -> Result<Seq, SqlError> {
        let sql = "SELECT COALESCE(MAX(emptied_to), 0) FROM cleanup_statistics";
        let row = self.0.first(sql, &[])?;
        number_or_0(row.as_ref(), 0).map(Seq)
    }

    /// Whether an upload of the same country near a position has the same batch signature.
    pub(crate) fn has_other_part(
        &mut self,
        seq: Seq,
        country: Country,
        batch_signature: &str,
    ) -> Result<bool, SqlError> {
        let sql = "SELECT 1 FROM upload_log WHERE seq BETWEEN ? AND ? AND seq <> ? \
             AND country = ? AND batch_signature = ? LIMIT 1";
        let first = seq.0.saturating_sub(PARTS_APART_MAX);
        let params = [
            first.into(),
            (seq.0 + PARTS_APART_MAX).into(),
            seq.0.into(),
            country.as_str().into(),
            batch_signature.into(),
        ];
        Ok(self.0.first(sql, &params)?.is_some())
    }

    /// Download batches behind an ordinal, in order.
    pub(crate) fn download_batch_page(
        &mut self,
        after_ordinal: u64,
        rows_max: u64,
    ) -> Result<Vec<DownloadBatchRow>, SqlError> {
        let sql = "SELECT ordinal, day, number, first_seq, last_seq, key_count, digest \
             FROM download_batch WHERE ordinal > ? ORDER BY ordinal LIMIT ?";
        let params = [after_ordinal, rows_max].map(Into::into);
        self.0.rows(sql, &params, download_batch)
    }

    /// The last download batch that was cut before a day.
    pub(crate) fn last_download_batch_before(
        &mut self,
        day: Day,
    ) -> Result<Option<DownloadBatchRow>, SqlError> {
        let sql = "SELECT ordinal, day, number, first_seq, last_seq, key_count, digest \
             FROM download_batch WHERE day < ? ORDER BY ordinal DESC LIMIT 1";
        let day = u64::from(day.compact_number());
        let row = self.0.first(sql, &[day.into()])?;
        row.map(download_batch).transpose()
    }

    /// What the log says of a range: a sum, so that its length does not matter.
    pub(crate) fn uploads_of(
        &mut self,
        seqs: &RangeInclusive<u64>,
    ) -> Result<BatchUploads, SqlError> {
        let range = [*seqs.start(), *seqs.end()].map(Into::into);
        let sum = "SELECT CAST(COALESCE(SUM(key_count), 0) AS UNSIGNED) FROM upload_log \
             WHERE seq BETWEEN ? AND ?";
        let sum = self.0.first(sum, &range)?;
        let last = "SELECT seq, chain FROM upload_log WHERE seq BETWEEN ? AND ? \
             ORDER BY seq DESC LIMIT 1";
        let last = self.0.first(last, &range)?;
        let last = last.map(|row| LINKS.read(row, |row| link(row, 1)));
        Ok(BatchUploads {
            key_count: Some(number_or_0(sum.as_ref(), 0)?),
            last: last.transpose()?.flatten().map(|link| link.digest),
        })
    }
}

const LINKS: Rows = Rows {
    table: "upload_log",
    columns: &["seq", "chain"],
    key: &[0],
};

const WHOLE_ROWS: Rows = Rows {
    table: "upload_log",
    columns: &[
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
        "sealed",
    ],
    key: &[0],
};
