//! The only access to SQLite, the embedded default: WAL, `synchronous=FULL`.

pub(crate) mod backup;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Sender;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Error, ErrorCode, OpenFlags, ToSql};

use super::cluster::Cluster;
use super::connection::{Connection, Dialect, Param, Row, SqlError, UniqueIndex, Value};
use super::server_message::ServerMessage;
use super::uncheckpointed::Uncheckpointed;
use crate::limits;

const DIALECT: Dialect = Dialect {
    name: "SQLITE",
    // Names are text there, parameters are blobs.
    find_table: "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = CAST(? AS TEXT)",
    find_column: "SELECT 1 FROM pragma_table_info(CAST(? AS TEXT)) WHERE name = CAST(? AS TEXT)",
    // Only this exact type makes the column the row id itself.
    position: "INTEGER",
    table_options: "",
    // SQLite does not enforce declared lengths.
    widen_upload_tag: "",
    and_lock: "",
    from_nothing: "",
    now_ms: "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    add_downloads: "ON CONFLICT (day, country, batch_day, batch_number) DO UPDATE SET \
         download_count = download_count + excluded.download_count, \
         key_count = key_count + excluded.key_count",
};

/// How long to wait for another connection of this or another process to finish writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(3);

/// Pages of 16 KiB suit blobs of some hundred KiB. `trusted_schema = OFF`:
/// a schema that another program has written may run no functions with side effects.
const PRAGMAS: &str = "PRAGMA page_size = 16384; PRAGMA journal_mode = WAL; \
     PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF";

#[derive(Debug)]
pub(crate) struct SqliteConnection {
    inner: rusqlite::Connection,
    /// Requests checkpoints, if another thread makes them.
    uncheckpointed: Option<Uncheckpointed>,
}

/// What becomes of a connection to a file that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MissingFile {
    /// It is created.
    Create,
    /// There is none.
    Refuse,
}

/// The progress of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckpointProgress {
    /// Pages in the log.
    pub(super) pages: u64,
    /// Those that are in the database file by now.
    pub(super) checkpointed: u64,
}

impl SqliteConnection {
    /// Requests checkpoints through `checkpoints`; SQLite makes its own, within commits, only
    /// without one, or when it falls behind.
    pub(super) fn open(
        path: &Path,
        missing: MissingFile,
        checkpoints: Option<&Sender<()>>,
    ) -> Result<Self, SqlError> {
        check_version(rusqlite::version_number())?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if missing == MissingFile::Create {
            create_private(path);
        }
        let connection =
            rusqlite::Connection::open_with_flags(path, flags).map_err(classify_error)?;
        connection
            .busy_timeout(BUSY_TIMEOUT)
            .map_err(classify_error)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.execute_batch(PRAGMAS).map_err(classify_error)?;
        let bound = match checkpoints {
            Some(_) => limits::WAL_PAGES_MAX,
            None => limits::WAL_PAGES_MAX / 2,
        };
        let bound = format!("PRAGMA wal_autocheckpoint = {bound}");
        connection.execute_batch(&bound).map_err(classify_error)?;
        Ok(Self {
            inner: connection,
            uncheckpointed: checkpoints.cloned().map(Uncheckpointed::new),
        })
    }

    /// An empty database that nobody else sees.
    pub(super) fn in_memory() -> Result<Self, SqlError> {
        let connection = rusqlite::Connection::open_in_memory().map_err(classify_error)?;
        Ok(Self {
            inner: connection,
            uncheckpointed: None,
        })
    }

    /// A checkpoint that nobody waits for: it leaves what others still read or write.
    pub(super) fn checkpoint(&self) -> Result<CheckpointProgress, SqlError> {
        let sql = "PRAGMA wal_checkpoint(PASSIVE)";
        let progress = self.inner.query_row(sql, [], |row| {
            Ok(CheckpointProgress {
                // Both are -1 if another checkpoint is under way.
                pages: row.get::<_, i64>(1)?.try_into().unwrap_or(0),
                checkpointed: row.get::<_, i64>(2)?.try_into().unwrap_or(0),
            })
        });
        progress.map_err(classify_error)
    }
}

/// Refuses a library that is known to lose commits. Before 3.51.3 a checkpoint could take the beginning of
/// a log that was just restarted for one that it had copied (the WAL-reset bug), and this gateway makes
/// checkpoints beside commits.
fn check_version(number: i32) -> Result<(), SqlError> {
    const FIRST_SAFE: i32 = 3_051_003;
    if number >= FIRST_SAFE {
        return Ok(());
    }
    let (major, minor, patch) = (number / 1_000_000, number / 1000 % 1000, number % 1000);
    let text = format!(
        "this efgs has SQLite {major}.{minor}.{patch}, which may lose commits: build it with 3.51.3 or newer"
    );
    Err(SqlError::Refused(text.into()))
}

/// Creates the file if there is none, for its owner alone, whatever the umask. Anyone who could read it
/// could also stop every write by a lock. SQLite gives its log and shared memory the same mode.
fn create_private(path: &Path) {
    let mut options = OpenOptions::new();
    // Where this fails, SQLite says why: it opens the same path next.
    drop(
        options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path),
    );
}

impl Connection for SqliteConnection {
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, SqlError> {
        if let Some(uncheckpointed) = &mut self.uncheckpointed {
            uncheckpointed.add(params.iter().map(Param::stored_bytes).sum());
        }
        let named = |error| naming(sql, error);
        let mut statement = self.inner.prepare_cached(sql).map_err(named)?;
        let changed = statement
            .execute(rusqlite::params_from_iter(params))
            .map_err(named)?;
        Ok(changed as u64)
    }

    fn query(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        on_row: &mut dyn FnMut(Row) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let mut statement = self.inner.prepare_cached(sql).map_err(classify_error)?;
        let columns = statement.column_count();
        let origin: Arc<str> = sql.into();
        let mut rows = statement
            .query(rusqlite::params_from_iter(params))
            .map_err(|error| naming(sql, error))?;
        while let Some(row) = rows.next().map_err(|error| naming(sql, error))? {
            let column = |at| row.get_ref(at).map(from_sqlite).map_err(classify_error);
            let values = (0..columns).map(column).collect::<Result<_, _>>()?;
            on_row(Row(values, Arc::clone(&origin)))?;
        }
        Ok(())
    }

    fn script(&mut self, sql: &str) -> Result<(), SqlError> {
        self.inner.execute_batch(sql).map_err(classify_error)
    }

    /// The WAL is flushed before a commit shows.
    fn shows_durable_only(&self) -> bool {
        true
    }

    /// SQLite may have rolled back by itself, on a full disk for one.
    fn rollback(&mut self) -> Result<(), SqlError> {
        if self.inner.is_autocommit() {
            Ok(())
        } else {
            self.script("ROLLBACK")
        }
    }

    fn begin(&mut self) -> Result<(), SqlError> {
        self.script("BEGIN IMMEDIATE")
    }

    /// There is one writer at a time.
    fn begin_locking(&mut self) -> Result<(), SqlError> {
        self.begin()
    }

    /// Into the WAL, after the last commit.
    fn write_out(&mut self) -> Result<(), SqlError> {
        self.inner.cache_flush().map_err(classify_error)
    }

    fn is_server(&self) -> bool {
        false
    }

    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    fn cluster(&self) -> Option<Cluster> {
        None
    }

    fn is_outdated(&self) -> bool {
        false
    }

    fn check_server(&mut self, _packet_bytes: usize) -> Result<Option<String>, SqlError> {
        Ok(None)
    }

    fn flushing_risk(&mut self) -> Result<Option<&'static str>, SqlError> {
        Ok(None)
    }
}

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Param::Null => ValueRef::Null,
            Param::Number(number) => {
                let number = i64::try_from(number);
                ValueRef::Integer(
                    number.map_err(|error| Error::ToSqlConversionFailure(error.into()))?,
                )
            }
            Param::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn from_sqlite(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(number) => u64::try_from(number).map_or(Value::Other, Value::Number),
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Value::Bytes(bytes.to_vec()),
        ValueRef::Null => Value::Null,
        ValueRef::Real(_) => Value::Other,
    }
}

/// An error of a statement: SQLite's own text of an overflow names no table.
fn naming(sql: &str, error: Error) -> SqlError {
    classify_error(error).of_statement(sql)
}

/// Classifies an error: conflict or permanent. A local file cannot lose its connection: a statement that
/// failed has had no effect.
fn classify_error(error: Error) -> SqlError {
    let Error::SqliteFailure(failure, message) = &error else {
        return SqlError::Refused(ServerMessage::new(&error.to_string()).into());
    };
    match (failure.code, failure.extended_code) {
        (
            ErrorCode::ConstraintViolation,
            rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY | rusqlite::ffi::SQLITE_CONSTRAINT_ROWID,
        ) => SqlError::Duplicate(UniqueIndex::Primary),
        (ErrorCode::ConstraintViolation, rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE) => {
            let tag = message
                .as_ref()
                .is_some_and(|text| text.contains("upload_log.upload_tag"));
            SqlError::Duplicate(if tag {
                UniqueIndex::UploadTag
            } else {
                UniqueIndex::Other
            })
        }
        (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => {
            SqlError::Conflict(error.into())
        }
        _ => SqlError::Refused(ServerMessage::new(&error.to_string()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_library_that_loses_commits() {
        for (number, refused) in [
            (3_007_000, Some("3.7.0")),
            (3_050_002, Some("3.50.2")),
            (3_051_002, Some("3.51.2")),
            (3_051_003, None),
            (4_000_000, None),
            (rusqlite::version_number(), None),
        ] {
            let said = check_version(number).err().map(|error| error.to_string());
            let named = said
                .as_deref()
                .map(|said| said.split([' ', ',']).nth(4).unwrap());
            assert_eq!(named, refused, "{said:?}");
        }
    }
}
