//! Checkpoints of SQLite's write-ahead log (WAL): a thread copies its pages into the database file
//! while others write, so that no commit has to.
//!
//! A checkpoint of 8 MiB takes two synchronous writes and as much again as the commits themselves.
//! Weighed against: SQLite's own, which runs within the commit that crosses a bound (every
//! eightieth upload waited 25 ms and more for it). It stays as the second bound: SQLite reuses the
//! log from its beginning only after a checkpoint of all of it, and under constant load only a
//! writer can complete one.

use std::path::PathBuf;

use crossbeam::channel::{Receiver, Sender, bounded, select};

use super::connection::SqlError;
use super::sqlite::{MissingFile, SqliteConnection};
use crate::limits;

/// Makes checkpoints when connections request them.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    path: PathBuf,
    due: Receiver<()>,
}

impl Checkpoints {
    /// Returns what connections request checkpoints with, too.
    pub(super) fn new(path: PathBuf) -> (Self, Sender<()>) {
        let (wake, due) = bounded(1);
        (Self { path, due }, wake)
    }

    /// Works until `stop` is closed, or there is no connection any more.
    pub(crate) fn run(self, stop: &Receiver<()>) {
        let mut connection = None;
        loop {
            select! {
                recv(self.due) -> due => if due.is_err() { return },
                recv(stop) -> _ => return,
            }
            if let Err(error) = self.checkpoint(&mut connection) {
                // Nothing is lost: the writing connection makes the checkpoint at the second bound.
                tracing::warn!(stage = "persist", error = %error, "checkpoint failed");
                connection = None;
            }
        }
    }

    /// Checkpoints until few pages are left that were written meanwhile.
    fn checkpoint(&self, connection: &mut Option<SqliteConnection>) -> Result<(), SqlError> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(SqliteConnection::open(
                &self.path,
                MissingFile::Refuse,
                None,
            )?),
        };
        let mut checkpointed_before = 0;
        loop {
            let progress = connection.checkpoint()?;
            let left = progress.pages.saturating_sub(progress.checkpointed);
            if left <= limits::CHECKPOINT_PAGES_LEFT || progress.checkpointed <= checkpointed_before
            {
                return Ok(());
            }
            checkpointed_before = progress.checkpointed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Database;
    use crate::settings::DatabaseUrl;
    use crate::store::{Store, migrate};

    #[test]
    fn copies_what_connections_have_written_into_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut database = Database::new(DatabaseUrl::Sqlite(path.clone()));
        let checkpoints = database.checkpoints().expect("it is SQLite");
        migrate(&database).unwrap();
        let mut writer = Store::open(&database).unwrap();
        let blob = vec![1; limits::CHECKPOINT_BYTES / 4];
        let file_bytes = || usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
        for row in 1..=5 {
            assert!(checkpoints.due.is_empty(), "too early, at row {row}");
            writer.agree_on(&format!("row {row}"), &blob).unwrap();
            if row == 4 {
                checkpoints.due.try_recv().expect("a checkpoint is due");
            }
        }
        assert!(file_bytes() < limits::CHECKPOINT_BYTES / 4);
        checkpoints.checkpoint(&mut None).unwrap();
        assert!(file_bytes() >= limits::CHECKPOINT_BYTES * 5 / 4);
    }

    #[test]
    fn keeps_the_log_bounded_under_constant_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut database = Database::new(DatabaseUrl::Sqlite(path));
        let checkpoints = database.checkpoints().expect("it is SQLite");
        migrate(&database).unwrap();
        let mut writer = Store::open(&database).unwrap();
        let (told, stop) = bounded::<()>(0);
        let thread = std::thread::spawn(move || checkpoints.run(&stop));
        // Four times the second bound.
        let blob = vec![1; 1 << 20];
        for row in 0..256 {
            writer.agree_on(&format!("row {row}"), &blob).unwrap();
        }
        let log = std::fs::metadata(folder.path().join("db-wal")).unwrap();
        assert!(log.len() < 160 << 20, "{} bytes", log.len());
        drop(told);
        thread.join().unwrap();
    }

    #[test]
    fn stops_when_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (checkpoints, wake) = Checkpoints::new(folder.path().join("db"));
        let (told, stop) = bounded(0);
        let thread = std::thread::spawn(move || checkpoints.run(&stop));
        drop(told);
        thread.join().unwrap();
        assert!(wake.try_send(()).is_err(), "nobody listens any more");
    }
}
