//! Download batches: ranges of the log, numbered without gaps.

use std::ops::RangeInclusive;

use super::columns::{Rows, batch_tag};
use super::leases::{Lease, fence};
use super::session::Store;
use crate::database::{Connection, Row, SqlError};
use crate::domain::{BatchTag, Day, UnixMillis};

/// A download batch that is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewDownloadBatch {
    pub(crate) tag: BatchTag,
    pub(crate) seqs: RangeInclusive<u64>,
    pub(crate) key_count: u64,
}

/// A download batch that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DownloadBatchRow {
    pub(crate) ordinal: u64,
    pub(crate) tag: BatchTag,
    pub(crate) seqs: RangeInclusive<u64>,
}

impl Store {
    /// The newest download batch.
    pub(crate) fn newest_download_batch(&mut self) -> Result<Option<DownloadBatchRow>, SqlError> {
        let sql = "SELECT ordinal, day, number, first_seq, last_seq FROM download_batch \
             ORDER BY ordinal DESC LIMIT 1";
        self.0.first(sql, &[])?.map(download_batch).transpose()
    }

    /// Download batches behind an ordinal, cut on a day or later, in order.
    pub(crate) fn read_download_batches(
        &mut self,
        after_ordinal: u64,
        from: Day,
    ) -> Result<Vec<DownloadBatchRow>, SqlError> {
        let sql = "SELECT ordinal, day, number, first_seq, last_seq FROM download_batch \
             WHERE ordinal > ? AND day >= ? ORDER BY ordinal";
        let params = [
            after_ordinal.into(),
            u64::from(from.compact_number()).into(),
        ];
        self.0.rows(sql, &params, download_batch)
    }

    /// What [`Self::cut`] has written last of the budget of download batches.
    pub(crate) fn cut_budget(&mut self) -> Result<Option<u64>, SqlError> {
        let sql = "SELECT name, value FROM installation WHERE name = ?";
        let row = self.0.first(sql, &[CUT_BUDGET.into()])?;
        let number = |row: &mut Row| row.parse(1, str::parse, "is no number");
        row.map(|row| INSTALLATION.read(row, number)).transpose()
    }

    /// Adds download batches behind `after_ordinal`, if the lease still has this token. False if it
    /// has not, or if another gateway was faster: nothing was done.
    pub(crate) fn cut(
        &mut self,
        token: u64,
        after_ordinal: u64,
        batches: &[NewDownloadBatch],
        budget: u64,
        now: UnixMillis,
    ) -> Result<bool, SqlError> {
        let cut = self.0.transaction(|c| {
            if !fence(c, Lease::Bundle, token)? {
                return Ok(false);
            }
            let numbered = (after_ordinal + 1..).zip(batches);
            for (ordinal, batch) in numbered {
                insert_download_batch(c, ordinal, batch, now)?;
            }
            write_cut_budget(c, budget)?;
            Ok(true)
        });
        match cut {
            Err(SqlError::Duplicate(_)) => Ok(false),
            other => other,
        }
    }
}

const INSTALLATION: Rows = Rows {
    table: "installation",
    columns: &["name", "value"],
    key: &[0],
};

/// The row of `installation` with the budget of download batches.
const CUT_BUDGET: &str = "cut_budget";

/// A statement that changes nothing has met the same value, or no row.
fn write_cut_budget(c: &mut dyn Connection, budget: u64) -> Result<(), SqlError> {
    let value = budget.to_string();
    let update = "UPDATE installation SET value = ? WHERE name = ?";
    if c.execute(update, &[value.as_str().into(), CUT_BUDGET.into()])? == 1 {
        return Ok(());
    }
    let find = "SELECT name FROM installation WHERE name = ?";
    if c.first(find, &[CUT_BUDGET.into()])?.is_some() {
        return Ok(());
    }
    let insert = "INSERT INTO installation (name, value) VALUES (?, ?)";
    c.execute(insert, &[CUT_BUDGET.into(), value.as_str().into()])
        .map(|_| ())
}

pub(super) fn insert_download_batch(
    c: &mut dyn Connection,
    ordinal: u64,
    batch: &NewDownloadBatch,
    now: UnixMillis,
) -> Result<(), SqlError> {
    let sql = "INSERT INTO download_batch (ordinal, day, number, first_seq, last_seq, key_count, \
         created_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)";
    let params = [
        ordinal.into(),
        u64::from(batch.tag.day.compact_number()).into(),
        u64::from(batch.tag.number).into(),
        (*batch.seqs.start()).into(),
        (*batch.seqs.end()).into(),
        batch.key_count.into(),
        now.0.into(),
    ];
    c.execute(sql, &params).map(|_| ())
}

const DOWNLOAD_BATCHES: Rows = Rows {
    table: "download_batch",
    columns: &["ordinal", "day", "number", "first_seq", "last_seq"],
    key: &[0],
};

fn download_batch(row: Row) -> Result<DownloadBatchRow, SqlError> {
    DOWNLOAD_BATCHES.read(row, |row| {
        Ok(DownloadBatchRow {
            ordinal: row.number(0)?,
            tag: batch_tag(row, 1)?,
            seqs: row.number(3)?..=row.number(4)?,
        })
    })
}
