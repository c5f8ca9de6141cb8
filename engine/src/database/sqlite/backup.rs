//! A copy of a database file, of one moment, while others write to it.

use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::{BUSY_TIMEOUT, classify_error};
use crate::database::connection::SqlError;

/// All pages at once: else each commit of another process would begin the copy anew.
const ALL_PAGES: i32 = -1;
const PAUSE: Duration = Duration::from_millis(50);
/// How often a database is tried that somebody has locked.
const TRIES_MAX: u32 = 200;

/// Copies a database into an empty file. Others go on reading and writing meanwhile.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), SqlError> {
    let source = open(from)?;
    let mut target = open(to)?;
    let backup = Backup::new(&source, &mut target).map_err(classify_error)?;
    for _ in 0..TRIES_MAX {
        if backup.step(ALL_PAGES).map_err(classify_error)? == StepResult::Done {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    Err(SqlError::Conflict(
        "somebody has locked the database".into(),
    ))
}

/// Checks every page of a copy, and leaves it as one file, without a log beside it.
pub(crate) fn check(copy: &Path) -> Result<(), SqlError> {
    let connection = open(copy)?;
    let pragma = |sql: &str| {
        let answer = connection.query_row(sql, [], |row| row.get::<_, String>(0));
        answer.map_err(classify_error)
    };
    let found = pragma("PRAGMA integrity_check(1)")?;
    if found != "ok" {
        return Err(SqlError::Refused(found.into()));
    }
    pragma("PRAGMA journal_mode = DELETE").map(drop)
}

fn open(path: &Path) -> Result<Connection, SqlError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(classify_error)?;
    connection
        .busy_timeout(BUSY_TIMEOUT)
        .map_err(classify_error)?;
    Ok(connection)
}
