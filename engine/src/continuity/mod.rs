//! Continuity: whether the database is still the one that this gateway knows.
//!
//! Everything that a gateway has in memory (identities, tags, the catalog) was read from the
//! database or confirmed by it. After a restore, the failover to a replica that lacks the last
//! commits, or the exchange of an SQLite file, the database is behind that memory (decision 16).
//! Then this gateway takes no uploads, answers none from memory, cuts nothing and serves nothing,
//! until an operator has seen to it and starts it again.
//!
//! Compared with the database are the row at our position of the log, the newest download batch and
//! the epoch; with SQLite, the file itself. With `[database] state_file` the same is remembered
//! outside the database, for the next start.
//!
//! The row at our position carries the chain's digest of all rows before it. Whatever is read after
//! it has to follow it (`log_chain`), and so do download batches: rows that were changed by
//! hand stop the gateway as well.

mod state_file;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

use crate::database::{Database, SqlError};
use crate::domain::{BatchTag, RowDigest, Seq};
use crate::failure::StartError;
use crate::locks::LockIgnoringPoison;
use crate::log_chain::{Accepted, BatchWalk, ChainKey, LinkDigest, LogWalk};
use crate::store::{DownloadBatchRow, Epoch, LogEntry, LogMark, Store};

use state_file::StateFile;
pub(crate) use state_file::{RememberedRow, State, StateFileError};

/// What a gateway knows of its database, shared by all its threads.
#[derive(Debug)]
pub(crate) struct Continuity {
    database: Database,
    chain: ChainKey,
    /// Mismatches that an operator has accepted (`efgs db verify --accept`).
    accepted: Accepted,
    epoch: Epoch,
    file: Option<StateFile>,
    known: Mutex<Known>,
    /// Whether the last attempt to write the file failed. Read without the lock of the file, which a
    /// disk that hangs would hold.
    write_failed: AtomicBool,
    /// What was expected and what is there, once the database has gone back.
    mismatch: OnceLock<String>,
}

#[derive(Debug)]
struct Known {
    /// As it is in the file, or is to be.
    state: State,
    batch: Option<DownloadBatchRow>,
}

impl Continuity {
    /// Reads the state of the database, and compares the state file with it if there is one.
    pub(crate) fn start(
        database: &Database,
        file: Option<&Path>,
        chain: &ChainKey,
        store: &mut Store,
    ) -> Result<Self, StartError> {
        let reading = |error: SqlError| database.unreachable(error);
        let epoch = store.epoch().map_err(reading)?;
        // Ours alone, before it is read.
        let file = file.map(StateFile::open).transpose()?;
        let remembered = match &file {
            Some(file) => file.read()?,
            None => None,
        };
        if let (Some(state), Some(file)) = (&remembered, &file)
            && let Some(missing) = state.missing_in(&epoch, store).map_err(reading)?
        {
            return Err(behind(file.path(), &missing));
        }
        let batch = store.newest_download_batch().map_err(reading)?;
        let row = store.last_log_mark().map_err(reading)?;
        // What is remembered must not be lost by the server after all.
        store.make_reads_durable().map_err(reading)?;
        let mut state = State::of(epoch.number, row.as_ref(), batch.as_ref());
        // A number that was sent to be cut counts as given out, whatever became of the cut.
        if let Some(remembered) = remembered {
            // An older list is not in force, whatever the epoch, until an operator has accepted it.
            state.certificates = remembered.certificates;
            if remembered.epoch == epoch.number {
                state.cutting = remembered.cutting;
                state.withdrawals = remembered.withdrawals;
            }
        }
        let continuity = Self {
            database: database.clone(),
            chain: chain.clone(),
            accepted: store.accepted().map_err(reading)?,
            epoch,
            file,
            known: Mutex::new(Known { state, batch }),
            write_failed: AtomicBool::new(false),
            mismatch: OnceLock::new(),
        };
        metrics::gauge!("efgs_database_went_back").set(0);
        if continuity.file.is_none() {
            tracing::warn!(
                "no [database] state_file is set: an older copy of the database, or of its \
                 certificate list, that is put in its place while no gateway runs is not noticed"
            );
        }
        let written = continuity.confirm_written();
        if let (Err(error), Some(file)) = (written, &continuity.file) {
            return Err(StateFileError::from(error).at_start(file.path()));
        }
        Ok(continuity)
    }

    /// The epoch that this gateway works in.
    pub(crate) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether the database has gone back. That lasts until the gateway is started again.
    pub(crate) fn has_gone_back(&self) -> bool {
        self.mismatch.get().is_some()
    }

    /// What was expected and what is there, if the database has gone back.
    pub(crate) fn mismatch(&self) -> Option<&str> {
        self.mismatch.get().map(String::as_str)
    }

    /// Whether the path of an SQLite database leads to the file that was opened first.
    pub(crate) fn is_same_file(&self) -> bool {
        let Some(change) = self.database.file_change() else {
            return true;
        };
        self.report_mismatch("the database file that was opened at start", change);
        false
    }

    /// Whether what was found at our position of the log is the row that we know.
    pub(crate) fn still_has_row(
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
        // A gateway that was away for weeks finds that retention has deleted the row.
        if found.is_none() && store.forgotten_to()? >= known.seq {
            return Ok(true);
        }
        let found = found.map_or_else(|| "no row there".to_owned(), ToString::to_string);
        self.report_mismatch(&known.to_string(), &found);
        Ok(false)
    }

    /// Whether the database has our epoch and the newest download batch that we know.
    pub(crate) fn still_has_batches(&self, store: &mut Store) -> Result<bool, SqlError> {
        let known = self.lock().batch.clone();
        let ordinal = known.as_ref().map_or(0, |batch| batch.columns.ordinal);
        let recalled = store.recall(ordinal)?;
        if recalled.epoch != self.epoch {
            let epoch = |epoch: &Epoch| format!("epoch {}", epoch.number);
            self.report_mismatch(&epoch(&self.epoch), &epoch(&recalled.epoch));
            return Ok(false);
        }
        let Some(known) = known else {
            return Ok(true);
        };
        // Retention deletes from the front, and never the newest: if there are others after it, the
        // database is not behind us.
        let is_held = match &recalled.batch {
            Some(found) => *found == known,
            None => store.first_ordinal()? > known.columns.ordinal,
        };
        if !is_held {
            let found = recalled.batch.as_ref();
            let found = found.map_or_else(|| "no such batch".to_owned(), ToString::to_string);
            self.report_mismatch(&known.to_string(), &found);
        }
        Ok(is_held)
    }

    /// The key of the chain.
    pub(crate) const fn chain(&self) -> &ChainKey {
        &self.chain
    }

    /// Mismatches that an operator has accepted.
    pub(crate) const fn accepted(&self) -> &Accepted {
        &self.accepted
    }

    /// A walk along the log, after the row with a link.
    pub(crate) fn log_walk(&self, last: Option<LinkDigest>) -> LogWalk {
        LogWalk::after(&self.chain, &self.accepted, last)
    }

    /// A walk along the download batches, after one.
    pub(crate) fn batch_walk(&self, before: Option<&DownloadBatchRow>) -> BatchWalk {
        let before = before.map(|batch| (&batch.columns, batch.digest.as_ref()));
        BatchWalk::after(&self.chain, &self.accepted, before)
    }

    /// Whether rows after our position follow each other, and the first of them the row that we
    /// know; moves the walk after them.
    pub(crate) fn follows_chain(&self, walk: &mut LogWalk, newer: &[LogEntry]) -> bool {
        for row in newer {
            if let Err(broken) = walk.step(row.seq, &row.columns(), row.link.as_ref()) {
                self.report_changed_row(&row.mark().place(), &broken.mismatch);
                return false;
            }
        }
        true
    }

    /// A row is not what a gateway has written: the gateway cannot continue with this database.
    pub(crate) fn report_changed_row(&self, place: &dyn fmt::Display, what: &dyn fmt::Display) {
        let mismatch = format!("{place} {what}");
        if self.mismatch.set(mismatch.clone()).is_ok() {
            metrics::gauge!("efgs_database_went_back").set(1);
            tracing::error!(
                stage = "persist",
                found = mismatch,
                "the database was modified outside of efgs: no uploads are accepted and nothing is cut \
                 or served until an operator has looked at it with efgs db verify and starts this \
                 gateway again"
            );
        }
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
                .is_none_or(|newest| newest.columns.ordinal < batch.columns.ordinal)
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

    /// Remembers the newest withdrawal that is in force.
    pub(crate) fn remember_withdrawal(&self, number: u64) -> io::Result<()> {
        self.remember(|known| known.state.withdrawals = known.state.withdrawals.max(number))
    }

    /// The counter of the newest certificate list that was in force, 0 for none.
    pub(crate) fn certificate_counter(&self) -> u64 {
        self.lock().state.certificates
    }

    /// Remembers the counter of a certificate list that is in force.
    pub(crate) fn remember_certificates(&self, counter: u64) -> io::Result<()> {
        self.remember(|known| known.state.certificates = counter)
    }

    /// Makes sure that the file holds what is known.
    pub(crate) fn confirm_written(&self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        match file.write_unless_written(|| self.lock().state) {
            Some(written) => {
                self.note_write(file.path(), &written);
                written
            }
            None => Ok(()),
        }
    }

    /// Whether the database has what this gateway knows, before something is read from it and
    /// answered.
    pub(crate) fn still_matches(&self, store: &mut Store) -> Result<bool, SqlError> {
        Ok(!self.has_gone_back() && self.is_same_file() && self.still_has_batches(store)?)
    }

    /// Whether the state file can be written, as far as is known. Tries again if it could not.
    pub(crate) fn can_remember(&self) -> bool {
        !self.write_failed.load(Ordering::Acquire) || self.confirm_written().is_ok()
    }

    /// Whether the last attempt to write the state file failed.
    pub(crate) fn write_failed(&self) -> bool {
        self.write_failed.load(Ordering::Acquire)
    }

    /// Changes what is known, which waits for nobody, and then the file.
    fn remember(&self, change: impl FnOnce(&mut Known)) -> io::Result<()> {
        change(&mut self.lock());
        self.confirm_written()
    }

    /// Logs the first failure and the first success after it.
    fn note_write(&self, path: &Path, written: &io::Result<()>) {
        let failed_before = self.write_failed.swap(written.is_err(), Ordering::AcqRel);
        let path = path.display();
        match (written, failed_before) {
            (Err(error), false) => tracing::error!(
                stage = "persist",
                %error,
                "cannot write the state file {path}: uploads are refused until it can be \
                 written"
            ),
            (Ok(()), true) => {
                tracing::info!(stage = "persist", "the state file {path} is written again");
            }
            (Err(_), true) | (Ok(()), false) => {}
        }
    }

    fn report_mismatch(&self, expected: &str, found: &str) {
        let mismatch = format!("expected {expected}; found {found}");
        if self.mismatch.set(mismatch).is_ok() {
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
        self.known.lock_ignoring_poison()
    }
}

fn behind(path: &Path, missing: &str) -> StartError {
    StartError::Unsuitable(format!(
        "the database is behind what this gateway remembers in {} ({missing}): point [database] \
         url at a newer copy, or run efgs db recovered --dry-run to see what is lost",
        path.display()
    ))
}

/// Refuses a database that lacks what a state file remembers, before anything in it is changed.
pub(crate) fn check_remembered(path: &Path, store: &mut Store) -> Result<(), StartError> {
    let remembered = State::read(path).map_err(|error| error.at_start(path))?;
    let Some(state) = remembered else {
        return Ok(());
    };
    // A schema of an earlier version may lack what is asked for: then it is asked after the migration.
    let epoch = store.epoch();
    match epoch.and_then(|epoch| state.missing_in(&epoch, store)) {
        Ok(Some(missing)) => Err(behind(path, &missing)),
        Ok(None) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ContentDigest, Country, UnixMillis, UploadTag};
    use crate::seal::Keys;
    use crate::settings::DatabaseUrl;
    use crate::store::migrate;

    fn row(seq: u64) -> LogMark {
        LogMark {
            seq: Seq(seq),
            created_at: UnixMillis(0),
            country: Country::parse("DE").unwrap(),
            tag: UploadTag::parse("a").unwrap(),
            key_count: 1,
            content: ContentDigest([1; 32]),
            link: None,
        }
    }

    fn start(folder: &Path) -> Result<(Continuity, Store), StartError> {
        let database = Database::new(DatabaseUrl::Sqlite(folder.join("db")));
        migrate(&database).unwrap();
        let mut store = Store::open(&database).unwrap();
        let file = folder.join("state");
        let keys = Keys::parse(&Keys::generate_text()).unwrap();
        Continuity::start(&database, Some(&file), keys.chain(), &mut store)
            .map(|continuity| (continuity, store))
    }

    #[test]
    fn a_disk_that_hangs_holds_up_only_who_needs_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (continuity, mut store) = start(folder.path()).unwrap();
        let hanging = continuity.file.as_ref().unwrap().hang();
        std::thread::scope(|scope| {
            let writes = scope.spawn(|| continuity.remember_row(&row(5)));
            // It is known as soon as a thread waits for the file, and all else continues.
            while continuity.newest_row().is_none() {
                std::thread::yield_now();
            }
            assert_eq!(continuity.newest_row().unwrap().0, Seq(5));
            assert!(continuity.still_matches(&mut store).unwrap());
            assert!(continuity.can_remember());
            assert!(!writes.is_finished());
            drop(hanging);
            writes.join().unwrap().unwrap();
        });
        let written = State::read(&folder.path().join("state")).unwrap().unwrap();
        assert_eq!(written.row.unwrap().seq, Seq(5));
    }

    #[test]
    fn a_state_file_has_one_gateway() {
        let folder = tempfile::tempdir().unwrap();
        let first = start(folder.path()).unwrap();
        let refused = start(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("another gateway"), "{refused}");
        drop(first);
        start(folder.path()).unwrap();
    }
}
