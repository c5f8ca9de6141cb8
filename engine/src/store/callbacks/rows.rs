//! What subscriptions, their states and their deliveries have in common.

use std::ops::RangeInclusive;

use crate::database::{Param, Row, SqlError};
use crate::domain::{BatchTag, CallbackId, Country, Day};
use crate::store::columns::{Rows, batch_tag};
use crate::store::session::Store;

pub(super) const DELETE_FAILURE: &str =
    "DELETE FROM callback_failure WHERE country = ? AND callback_id = ?";

const BATCHES: Rows = Rows {
    table: "download_batch",
    columns: &["ordinal", "day", "number"],
    key: &[0],
};

/// The primary key.
pub(super) fn key<'a>(country: &'a Country, callback_id: &'a CallbackId) -> [Param<'a>; 2] {
    [country.as_str().into(), callback_id.as_str().into()]
}

pub(super) const SUBSCRIPTIONS: Rows = Rows {
    table: "callback_subscription",
    columns: &[
        "country",
        "callback_id",
        "url",
        "delivered_ordinal",
        "failed_attempts",
    ],
    key: &[0, 1],
};

impl Store {
    /// From which ordinal to which download batches can be downloaded: days ascend along the
    /// chain.
    pub(super) fn downloadable(
        &mut self,
        oldest: Day,
    ) -> Result<Option<RangeInclusive<u64>>, SqlError> {
        let first = "SELECT ordinal FROM download_batch WHERE day >= ? \
             ORDER BY day, number LIMIT 1";
        let day = u64::from(oldest.compact_number());
        let Some(first) = self.0.first(first, &[day.into()])? else {
            return Ok(None);
        };
        let newest = self.newest_download_batch()?;
        let first = first.counted(0)?;
        Ok(newest.map(|newest| first..=newest.columns.ordinal))
    }

    /// The first download batch from an ordinal on.
    pub(super) fn first_batch(&mut self, from: u64) -> Result<Option<(u64, BatchTag)>, SqlError> {
        let sql = "SELECT ordinal, day, number FROM download_batch \
             WHERE ordinal >= ? ORDER BY ordinal LIMIT 1";
        // A cursor at the end of its range has nothing after it.
        let from = from.min(i64::MAX.unsigned_abs());
        let row = self.0.first(sql, &[from.into()])?;
        let read = |row: &mut Row| Ok((row.number(0)?, batch_tag(row, 1)?));
        row.map(|row| BATCHES.read(row, read)).transpose()
    }
}
