//! One connection to a database, with just as much SQL as both databases share.

use std::fmt;
use std::sync::Arc;

use super::cluster::Cluster;
use crate::failure::DatabaseError;
use crate::limits;

/// A value in or out. Text travels as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Number(u64),
    Bytes(Vec<u8>),
    /// Negative, fractional, or a date: nothing that gateways write.
    Other,
}

/// A parameter, borrowed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Param<'a> {
    Null,
    Number(u64),
    Bytes(&'a [u8]),
}

impl Param<'_> {
    /// About what it takes in a row.
    pub(super) const fn stored_bytes(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Number(_) => 8,
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

impl From<u64> for Param<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<&'a [u8]> for Param<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a str> for Param<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

/// What went wrong, as far as it decides what happens next.
#[derive(Debug)]
pub(crate) enum SqlError {
    /// A unique index refused the row. The statement changed nothing.
    Duplicate(UniqueIndex),
    /// Lost a race (deadlock, lock wait, certification conflict): nothing was done, try again.
    Conflict(Source),
    /// The connection is gone; whether the statement took effect is unknown.
    Lost(Source),
    /// Anything else; trying again would not help.
    Refused(Source),
}

/// The driver's error.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

/// A unique index that can refuse a row of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UniqueIndex {
    /// The primary key: another gateway has taken the position.
    Primary,
    /// Country and upload tag.
    UploadTag,
    /// Another one.
    Other,
}

impl SqlError {
    /// As an error for the log, with what was being done.
    pub(crate) fn doing(self, doing: &'static str) -> DatabaseError {
        DatabaseError {
            doing,
            source: self.into_source(),
        }
    }
}

impl SqlError {
    /// Adds the beginning of the statement, which names the table: errors about a value name its column at
    /// most.
    pub(super) fn of_statement(self, sql: &str) -> Self {
        match self {
            Self::Refused(source) => {
                let start: String = sql.chars().take(100).collect();
                Self::Refused(format!("{source}, in {start:?}").into())
            }
            other => other,
        }
    }

    fn into_source(self) -> Source {
        match self {
            Self::Duplicate(index) => format!("a row with the same {index:?} exists").into(),
            Self::Conflict(source) | Self::Lost(source) | Self::Refused(source) => source,
        }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate(index) => write!(f, "duplicate {index:?}"),
            Self::Conflict(source) | Self::Lost(source) | Self::Refused(source) => source.fmt(f),
        }
    }
}

/// A column of a row does not hold what gateways write there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of a query's answer {problem}")]
pub(crate) struct BadColumn {
    /// Its position in the select list.
    pub(crate) column: usize,
    /// What is wrong with it.
    pub(crate) problem: &'static str,
}

/// A row that no gateway has written like this.
#[derive(Debug, thiserror::Error)]
#[error("table {table}, row with {key}: {column} {problem}")]
pub(crate) struct UnreadableRow {
    pub(crate) table: &'static str,
    pub(crate) key: String,
    pub(crate) column: &'static str,
    pub(crate) problem: &'static str,
}

/// The answer of a query that names no row (a count, a sum, a maximum) is not what it can be of rows
/// that gateways have written.
#[derive(Debug, thiserror::Error)]
#[error("column {} of {query:?} {}", bad.column, bad.problem)]
pub(crate) struct UnreadableAnswer {
    pub(crate) query: Box<str>,
    pub(crate) bad: BadColumn,
}

/// Of a query that names no row: a count, a sum, a maximum.
impl From<BadColumn> for SqlError {
    fn from(bad: BadColumn) -> Self {
        Self::Refused(Box::new(bad))
    }
}

/// A row, its columns in the order of the select list, and the query that gave it. Whatever can write
/// to the database may have written it: reading a column can fail.
#[derive(Debug)]
pub(crate) struct Row(pub(crate) Vec<Value>, pub(crate) Arc<str>);

impl Row {
    /// A number of a query that names no row: the error names the query, and so its table.
    pub(crate) fn counted(&self, column: usize) -> Result<u64, SqlError> {
        self.number(column).map_err(|bad| {
            let query = self.1.chars().take(200).collect::<String>().into();
            SqlError::Refused(Box::new(UnreadableAnswer { query, bad }))
        })
    }

    fn bytes_in_memory(&self) -> usize {
        let bytes = |value: &Value| match value {
            Value::Bytes(bytes) => bytes.len(),
            Value::Null | Value::Number(_) | Value::Other => 0,
        };
        size_of_val(&*self.0) + self.0.iter().map(bytes).sum::<usize>()
    }

    /// The rest of the answer is not read: the connection ends.
    fn beyond(&self, bytes_max: usize) -> SqlError {
        let query: String = self.1.chars().take(200).collect();
        SqlError::Lost(format!("more than {bytes_max} bytes of rows for {query}").into())
    }

    /// A column that is a number and not null.
    pub(crate) fn number(&self, column: usize) -> Result<u64, BadColumn> {
        match self.0[column] {
            Value::Number(number) => Ok(number),
            Value::Null => Err(bad(column, "is null")),
            Value::Bytes(_) | Value::Other => Err(bad(column, "is no number from 0 on")),
        }
    }

    /// A column that is a number of 32 bits.
    pub(crate) fn number_32(&self, column: usize) -> Result<u32, BadColumn> {
        let number = self.number(column)?;
        u32::try_from(number).map_err(|_| bad(column, "is out of range"))
    }

    /// A column that is a number or null.
    pub(crate) fn optional_number(&self, column: usize) -> Result<Option<u64>, BadColumn> {
        match self.0[column] {
            Value::Null => Ok(None),
            _ => self.number(column).map(Some),
        }
    }

    /// A column of bytes.
    pub(crate) fn bytes(&self, column: usize) -> Result<&[u8], BadColumn> {
        match &self.0[column] {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Null => Err(bad(column, "is null")),
            Value::Number(_) | Value::Other => Err(bad(column, "is no text and no bytes")),
        }
    }

    /// Takes a column of bytes out of the row: null is left.
    pub(crate) fn take_bytes(&mut self, column: usize) -> Result<Vec<u8>, BadColumn> {
        self.bytes(column)?;
        match std::mem::replace(&mut self.0[column], Value::Null) {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(bad(column, "is no text and no bytes")),
        }
    }

    /// A column of text.
    pub(crate) fn text(&self, column: usize) -> Result<&str, BadColumn> {
        std::str::from_utf8(self.bytes(column)?).map_err(|_| bad(column, "is not UTF-8"))
    }

    /// A column of exactly N bytes.
    pub(crate) fn array<const N: usize>(&self, column: usize) -> Result<[u8; N], BadColumn> {
        let bytes = self.bytes(column)?;
        bytes
            .try_into()
            .map_err(|_| bad(column, "has a wrong length"))
    }

    /// A column of text that is read as a value.
    pub(crate) fn parse<T, E>(
        &self,
        column: usize,
        parse: impl FnOnce(&str) -> Result<T, E>,
        problem: &'static str,
    ) -> Result<T, BadColumn> {
        parse(self.text(column)?).map_err(|_| bad(column, problem))
    }
}

const fn bad(column: usize, problem: &'static str) -> BadColumn {
    BadColumn { column, problem }
}

/// As much as is shown of a value.
const SHOWN_BYTES: usize = 128;

/// As people read it in errors; not for columns that may hold secrets.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Number(number) => number.fmt(f),
            Self::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if text.len() > SHOWN_BYTES => {
                    let start: String = text.chars().take(SHOWN_BYTES / 4).collect();
                    write!(f, "{start:?}…")
                }
                Ok(text) => write!(f, "{text:?}"),
                Err(_) => {
                    let start = bytes.iter().take(SHOWN_BYTES);
                    let start: String = start.map(|byte| format!("{byte:02x}")).collect();
                    let more = if bytes.len() > SHOWN_BYTES { "…" } else { "" };
                    write!(f, "x'{start}{more}'")
                }
            },
            Self::Other => f.write_str("a value of another type"),
        }
    }
}

/// How long a connection waits for an answer, and its server for the next statement. A local file
/// answers at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timeouts {
    /// For a gateway at work: a server that does not answer soon counts as lost.
    Short,
    /// For full scans, and for waiting until another gateway has migrated.
    Long,
}

/// One connection. Statements are prepared once and kept.
pub(crate) trait Connection: Send + fmt::Debug {
    /// Runs a statement; returns the number of rows that it changed.
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, SqlError>;

    /// Runs a query; `on_row` gets each row as it arrives, up to the first that it cannot read.
    fn query(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        on_row: &mut dyn FnMut(Row) -> Result<(), SqlError>,
    ) -> Result<(), SqlError>;

    /// Runs statements without parameters or results.
    fn script(&mut self, sql: &str) -> Result<(), SqlError>;

    /// Whether what other connections see committed is durable already. It is not on MySQL-compatible
    /// servers, unless they flush a binary log first: InnoDB shows a commit before it has flushed
    /// it, and a server that dies in between takes it back.
    fn shows_durable_only(&self) -> bool;

    /// Ends the transaction without effect; none may be open.
    fn rollback(&mut self) -> Result<(), SqlError>;

    /// Begins a transaction that will write.
    fn begin(&mut self) -> Result<(), SqlError>;

    /// Begins a transaction in which nobody can insert where a query has found the end of a table,
    /// if the query says [`Dialect::and_lock`].
    fn begin_locking(&mut self) -> Result<(), SqlError>;

    /// Writes what the open transaction has changed to where a commit would put it, as far as the
    /// database has not done so by itself: whether the disk takes it.
    fn write_out(&mut self) -> Result<(), SqlError>;

    /// Whether it is a server, not a file.
    fn is_server(&self) -> bool;

    /// The database's differences in SQL.
    fn dialect(&self) -> &'static Dialect;

    /// The cluster that the server belongs to.
    fn cluster(&self) -> Option<Cluster>;

    /// Whether connections go to another host by now.
    fn is_outdated(&self) -> bool;

    /// Validates the server's settings; returns what is wrong with them, if anything.
    fn check_server(&mut self, packet_bytes: usize) -> Result<Option<String>, SqlError>;

    /// What to change so that the server keeps what it has confirmed, if it may lose it.
    fn flushing_risk(&mut self) -> Result<Option<&'static str>, SqlError>;
}

/// Where SQL differs.
#[derive(Debug, Clone)]
pub(crate) struct Dialect {
    /// In capitals, as migrations name it.
    pub(crate) name: &'static str,
    /// Finds a table of the database by its name, the only parameter.
    pub(crate) find_table: &'static str,
    /// Finds a column by the names of its table and its own.
    pub(crate) find_column: &'static str,
    /// Type of a log position that is a primary key.
    pub(crate) position: &'static str,
    /// Options of a table.
    pub(crate) table_options: &'static str,
    /// Makes room for the number of a tag's use in the log.
    pub(crate) widen_upload_tag: &'static str,
    /// Ends a query that locks what it reads, and the end of the table if it comes so far.
    pub(crate) and_lock: &'static str,
    /// Stands for no table, in a query that has a condition all the same.
    pub(crate) from_nothing: &'static str,
    /// The database's own time in milliseconds since the Unix epoch.
    pub(crate) now_ms: &'static str,
    /// Ends an insertion into `download_statistics` that adds to the rows that are there.
    pub(crate) add_downloads: &'static str,
}

impl dyn Connection + '_ {
    /// All rows of a query, each mapped.
    pub(crate) fn rows<T>(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        mut map: impl FnMut(Row) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        let mut rows = Vec::new();
        self.each(sql, params, &mut |row| {
            rows.push(map(row)?);
            Ok(())
        })?;
        Ok(rows)
    }

    /// Each row of a query whose rows are kept: an answer without an end is an error that names the
    /// query.
    pub(crate) fn each(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        on_row: &mut dyn FnMut(Row) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        self.each_within(limits::DATABASE_ANSWER_BYTES_MAX, sql, params, on_row)
    }

    pub(super) fn each_within(
        &mut self,
        bytes_max: usize,
        sql: &str,
        params: &[Param<'_>],
        on_row: &mut dyn FnMut(Row) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let mut bytes = 0;
        self.query(sql, params, &mut |row| {
            bytes += row.bytes_in_memory();
            match bytes > bytes_max {
                true => Err(row.beyond(bytes_max)),
                false => on_row(row),
            }
        })
    }

    /// The first row of a query.
    pub(crate) fn first(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, SqlError> {
        Ok(self.rows(sql, params, Ok)?.into_iter().next())
    }

    /// Runs `work` in a transaction: commits when it succeeds, rolls back when it does not.
    pub(crate) fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        self.begin()?;
        self.complete(work)
    }

    /// The same in a transaction that has begun.
    pub(crate) fn complete<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        match work(self) {
            Ok(value) => self.script("COMMIT").map(|()| value),
            Err(error) => match self.rollback() {
                Ok(()) => Err(error),
                // Something may be unread on it: this connection is not to be used again.
                Err(second) => Err(SqlError::Lost(second.into_source())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_no_number_for_another_one() {
        let largest = u64::from(u32::MAX);
        let row = |value| Row(vec![value], "".into());
        assert_eq!(row(Value::Number(largest)).number_32(0).unwrap(), u32::MAX);
        for value in [
            Value::Number(largest + 1),
            Value::Number(1 << 40),
            Value::Null,
            Value::Other,
        ] {
            assert!(row(value).number_32(0).is_err());
        }
    }
}
