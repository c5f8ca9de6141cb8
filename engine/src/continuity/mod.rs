//! Continuity: whether the database is still the one that this gateway knows.
//!
//! Everything that a gateway has in memory (identities, tags, the catalog) was read from the
//! database or confirmed by it. After a restore, the failover to a replica that lacks the last
//! commits, or the exchange of an SQLite file, the database is behind that memory (decision 16).
//! Then this gateway takes no uploads, answers none from memory, cuts nothing and serves nothing,
//! until an operator has seen to it and starts it again.
//!
//! Held against the database are the row at our position of the log, the newest download batch and
//! the epoch; with SQLite, the file itself. With `[database] state_file` the same is remembered
//! outside the database, for the next start.
//!
//! Weighed against a digest of the whole log in each row: the row at our position identifies the log
//! up to it as long as nobody writes by hand, and needs no column.

mod state_file;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::database::{Database, SqlError};
use crate::domain::{BatchTag, RowDigest, Seq};
use crate::failure::StartError;
use crate::store::{DownloadBatchRow, Epoch, LogMark, Store};

pub(crate) use state_file::{RememberedRow, State, StateFileError};

/// What a gateway knows of its database, shared by all its threads.
#[derive(Debug)]
pub(crate) struct Continuity {
    database: Database,
    epoch: Epoch,
    file: Option<PathBuf>,
    known: Mutex<Known>,
    /// Whether the last attempt to write the file failed. Read without the lock, which a disk that
    /// hangs would hold.
    write_failed: AtomicBool,
    /// What was expected and what is there, once the database has gone back.
    lost: OnceLock<String>,
}

#[derive(Debug)]
struct Known {
    /// As it is in the file, or is to be.
    state: State,
    is_written: bool,
    batch: Option<DownloadBatchRow>,
}

impl Continuity {
    /// Reads the state of the database, and compares the state file with it if there is one.
    pub(crate) fn start(
        database: &Database,
        file: Option<&Path>,
        store: &mut Store,
    ) -> Result<Self, StartError> {
        let reading = |error: SqlError| database.unreachable(error);
        let epoch = store.epoch().map_err(reading)?;
        let remembered = match file {
            Some(path) => State::read(path).map_err(|error| error.at_start(path))?,
            None => None,
        };
        if let (Some(state), Some(path)) = (&remembered, file)
            && let Some(missing) = state.missing_in(&epoch, store).map_err(reading)?
        {
            return Err(behind(path, &missing));
        }
        let batch = store.newest_download_batch().map_err(reading)?;
        let row = store.last_log_mark().map_err(reading)?;
        let mut state = State::of(epoch.number, row.as_ref(), batch.as_ref());
        // A number that was sent to be cut counts as given out, whatever became of the cut.
        state.cutting = remembered
            .filter(|state| state.epoch == epoch.number)
            .and_then(|state| state.cutting);
        let continuity = Self {
            database: database.clone(),
            epoch,
            file: file.map(Path::to_owned),
            known: Mutex::new(Known {
                state,
                is_written: false,
                batch,
            }),
            write_failed: AtomicBool::new(false),
            lost: OnceLock::new(),
        };
        metrics::gauge!("efgs_database_went_back").set(0);
        match (continuity.confirm_written(), file) {
            (Err(error), Some(path)) => Err(StateFileError::from(error).at_start(path)),
            _ => Ok(continuity),
        }
    }

    /// The epoch that this gateway works in.
    pub(crate) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether the database has gone back. That lasts until the gateway is started again.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.get().is_some()
    }

    /// What was expected and what is there, if the database has gone back.
    pub(crate) fn loss(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// Whether the path of an SQLite database leads to the file that was opened first.
    pub(crate) fn is_same_file(&self) -> bool {
        let Some(change) = self.database.file_change() else {
            return true;
        };
        self.lose("the database file that was opened at start", change);
        false
    }

    /// Whether what was found at our position of the log is the row that we know.
    pub(crate) fn holds_row(
        &self,
        known: Option<&LogMark>,
        found: Option<&LogMark>,
        store: &mut Store,
    ) -> Result<bool, SqlError> {
        let Some(known) = known else {
            return Ok(true);
        };
        if found == Some(known) {
            return Ok(true);
        }
        // Whoever was away for weeks finds that retention has deleted the row.
        if found.is_none() && store.forgotten_to()? >= known.seq {
            return Ok(true);
        }
        let found = found.map_or_else(|| "no row there".to_owned(), ToString::to_string);
        self.lose(&known.to_string(), &found);
        Ok(false)
    }

    /// Whether the database has our epoch and the newest download batch that we know.
    pub(crate) fn holds_batches(&self, store: &mut Store) -> Result<bool, SqlError> {
        let known = self.lock().batch.clone();
        let ordinal = known.as_ref().map_or(0, |batch| batch.ordinal);
        let recalled = store.recall(ordinal)?;
        if recalled.epoch != self.epoch {
            let epoch = |epoch: &Epoch| format!("epoch {}", epoch.number);
            self.lose(&epoch(&self.epoch), &epoch(&recalled.epoch));
            return Ok(false);
        }
        let Some(known) = known else {
            return Ok(true);
        };
        // Retention deletes from the front, and never the newest: if there are others behind, the
        // database is not behind us.
        let is_held = match &recalled.batch {
            Some(found) => *found == known,
            None => store.first_ordinal()? > known.ordinal,
        };
        if !is_held {
            let found = recalled.batch.as_ref();
            let found = found.map_or_else(|| "no such batch".to_owned(), ToString::to_string);
            self.lose(&known.to_string(), &found);
        }
        Ok(is_held)
    }

    /// Position and digest of the newest row that is known.
    pub(crate) fn newest_row(&self) -> Option<(Seq, RowDigest)> {
        self.lock().state.row.map(|row| (row.seq, row.digest))
    }

    /// Remembers the newest row that was written or read, in the file, too.
    pub(crate) fn remember_row(&self, row: &LogMark) -> io::Result<()> {
        self.remember(|known| known.state.row = Some(row.into()))
    }

    /// Remembers a download batch that is in the database, before it is served.
    pub(crate) fn remember_batch(&self, batch: &DownloadBatchRow) -> io::Result<()> {
        self.remember(|known| {
            if known
                .batch
                .as_ref()
                .is_none_or(|newest| newest.ordinal < batch.ordinal)
            {
                known.state.batch = Some(batch.into());
                known.batch = Some(batch.clone());
            }
        })
    }

    /// Remembers the number of a download batch before the cut is sent.
    pub(crate) fn remember_cutting(&self, tag: BatchTag) -> io::Result<()> {
        self.remember(|known| known.state.cutting = known.state.cutting.max(Some(tag)))
    }

    /// Makes sure that the file holds what is known.
    pub(crate) fn confirm_written(&self) -> io::Result<()> {
        self.write(&mut self.lock())
    }

    /// Whether the state file can be written, as far as is known. Tries again if it could not.
    pub(crate) fn can_remember(&self) -> bool {
        !self.write_failed.load(Ordering::Acquire) || self.confirm_written().is_ok()
    }

    /// Whether the last attempt to write the state file failed.
    pub(crate) fn write_failed(&self) -> bool {
        self.write_failed.load(Ordering::Acquire)
    }

    fn remember(&self, change: impl FnOnce(&mut Known)) -> io::Result<()> {
        let mut known = self.lock();
        change(&mut known);
        known.is_written = false;
        self.write(&mut known)
    }

    fn write(&self, known: &mut Known) -> io::Result<()> {
        let Some(path) = &self.file else {
            return Ok(());
        };
        if !known.is_written {
            let written = known.state.write(path);
            self.note_write(path, &written);
            written?;
            known.is_written = true;
        }
        Ok(())
    }

    /// Logs the first failure and the first success after it.
    fn note_write(&self, path: &Path, written: &io::Result<()>) {
        let failed_before = self.write_failed.swap(written.is_err(), Ordering::AcqRel);
        let path = path.display();
        match (written, failed_before) {
            (Err(error), false) => tracing::error!(
                stage = "persist",
                %error,
                "cannot write the state file {path}: uploads are answered 503 until it can be \
                 written"
            ),
            (Ok(()), true) => {
                tracing::info!(stage = "persist", "the state file {path} is written again");
            }
            (Err(_), true) | (Ok(()), false) => {}
        }
    }

    fn lose(&self, expected: &str, found: &str) {
        let loss = format!("expected {expected}; found {found}");
        if self.lost.set(loss).is_ok() {
            metrics::gauge!("efgs_database_went_back").set(1);
            tracing::error!(
                stage = "persist",
                expected,
                found,
                "the database has gone back: no uploads are taken and nothing is cut or served \
                 until an operator runs efgs db recovered and starts this gateway again"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn behind(path: &Path, missing: &str) -> StartError {
    StartError::Unsuitable(format!(
        "the database is behind what this gateway remembers in {} ({missing}): point [database] \
         url at a newer copy, or run efgs db recovered --dry-run to see what is lost",
        path.display()
    ))
}
