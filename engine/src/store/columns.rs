//! Rows of our tables as domain values.

use crate::database::{BadColumn, Row, SqlError, UnreadableRow};
use crate::domain::{BatchTag, CallbackId, Country, Day, KeyIdentity, UploadTag};
use crate::log_chain::{BatchDigest, Link};

/// A select list over a table, so that errors can name the row and the column.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) table: &'static str,
    pub(super) columns: &'static [&'static str],
    /// Positions of the columns that name a row.
    pub(super) key: &'static [usize],
}

impl Rows {
    /// Reads a row. `read` must leave the columns of the key in it.
    pub(super) fn read<T>(
        &self,
        mut row: Row,
        read: impl FnOnce(&mut Row) -> Result<T, BadColumn>,
    ) -> Result<T, SqlError> {
        let value = read(&mut row);
        value.map_err(|bad| SqlError::Refused(Box::new(self.unreadable(&row, bad))))
    }

    fn unreadable(&self, row: &Row, bad: BadColumn) -> UnreadableRow {
        let key = self.key.iter();
        let key: Vec<_> = key
            .map(|&at| format!("{} {}", self.columns[at], row.0[at]))
            .collect();
        UnreadableRow {
            table: self.table,
            key: key.join(", "),
            column: self.columns[bad.column],
            problem: bad.problem,
        }
    }
}

pub(super) fn country(row: &Row, column: usize) -> Result<Country, BadColumn> {
    row.parse(column, Country::parse, "is no country of two letters")
}

pub(super) fn upload_tag(row: &Row, column: usize) -> Result<UploadTag, BadColumn> {
    row.parse(column, UploadTag::parse_logged, "is no upload tag")
}

pub(super) fn callback_id(row: &Row, column: usize) -> Result<CallbackId, BadColumn> {
    row.parse(column, CallbackId::parse, "is no callback id")
}

/// What a row carries of the chain; nothing in a row from before it.
pub(super) fn link(row: &Row, column: usize) -> Result<Option<Link>, BadColumn> {
    match row.bytes(column)? {
        [] => Ok(None),
        bytes => Link::from_bytes(bytes).map(Some).ok_or(BadColumn {
            column,
            problem: "is no link of the chain",
        }),
    }
}

/// The digest of a download batch; nothing in one from before the chain.
pub(super) fn batch_digest(row: &Row, column: usize) -> Result<Option<BatchDigest>, BadColumn> {
    match row.bytes(column)? {
        [] => Ok(None),
        _ => Ok(Some(BatchDigest(row.array(column)?))),
    }
}

pub(super) fn identities(row: &Row, column: usize) -> Result<Vec<KeyIdentity>, BadColumn> {
    let (identities, rest) = row.bytes(column)?.as_chunks();
    match rest {
        [] => Ok(identities.iter().copied().map(KeyIdentity).collect()),
        _ => Err(BadColumn {
            column,
            problem: "is no list of identities of 16 bytes",
        }),
    }
}

pub(super) fn day(row: &Row, column: usize) -> Result<Day, BadColumn> {
    Day::from_compact_number(row.number_32(column)?).map_err(|_| BadColumn {
        column,
        problem: "is no day of the calendar",
    })
}

/// A day and the number beside it.
pub(super) fn batch_tag(row: &Row, column: usize) -> Result<BatchTag, BadColumn> {
    Ok(BatchTag {
        day: day(row, column)?,
        number: row.number_32(column + 1)?,
    })
}

/// A number that a query gives alone; 0 if it gives no row.
pub(super) fn number_or_0(row: Option<&Row>, column: usize) -> Result<u64, SqlError> {
    row.map_or(Ok(0), |row| row.counted(column))
}
