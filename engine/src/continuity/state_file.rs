//! What a gateway remembers outside the database, as a small text file that is replaced whole.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard};

use crate::database::SqlError;
use crate::domain::{BatchTag, RowDigest, Seq, UnixMillis};
use crate::failure::StartError;
use crate::locks::LockIgnoringPoison;
use crate::store::{DownloadBatchRow, Epoch, LogMark, Store};

const HEADING: &str = "efgs state file 1";

/// The newest row of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RememberedRow {
    pub(crate) seq: Seq,
    pub(crate) stored_at: UnixMillis,
    pub(crate) digest: RowDigest,
}

/// The newest download batch that the database had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RememberedBatch {
    pub(crate) ordinal: u64,
    pub(crate) tag: BatchTag,
    pub(crate) digest: RowDigest,
}

/// The content of a state file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) epoch: u64,
    pub(crate) row: Option<RememberedRow>,
    pub(crate) batch: Option<RememberedBatch>,
    /// The newest that was sent to be cut, whether it was or not.
    pub(crate) cutting: Option<BatchTag>,
    /// Number of the newest withdrawal, from 1.
    pub(crate) withdrawals: u64,
    /// Counter of the newest certificate list that was in force; 0 for none.
    pub(crate) certificates: u64,
}

/// The state file of this gateway, which no other uses.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    /// What was written last. Locked while the disk is waited for, so that states are written in
    /// order; what a gateway knows has another lock.
    written: Mutex<Option<State>>,
    /// Held while this is there: the file itself is replaced at each write.
    _lock: File,
}

impl StateFile {
    pub(super) fn open(path: &Path) -> Result<Self, StartError> {
        let lock = lock_beside(path).map_err(|error| error.at_start(path))?;
        Ok(Self {
            path: path.to_owned(),
            written: Mutex::default(),
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read(&self) -> Result<Option<State>, StartError> {
        State::read(&self.path).map_err(|error| error.at_start(&self.path))
    }

    /// Waits for other writes, then writes the current state; `None` if the file has it already.
    pub(super) fn write_unless_written(&self, state: impl Fn() -> State) -> Option<io::Result<()>> {
        let mut written = self.lock();
        let state = state();
        if *written == Some(state) {
            return None;
        }
        let done = state.write(&self.path);
        *written = done.is_ok().then_some(state);
        Some(done)
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.written.lock_ignoring_poison()
    }

    /// As a disk that does not answer, until the guard is dropped.
    #[cfg(test)]
    pub(super) fn hang(&self) -> MutexGuard<'_, Option<State>> {
        self.lock()
    }
}

fn lock_beside(path: &Path) -> Result<File, StateFileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let lock = options.open(path.with_file_name(name))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StateFileError::InUse),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateFileError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is no state file of efgs")]
    Malformed,
    #[error("another gateway uses it, and each needs its own")]
    InUse,
}

impl StateFileError {
    /// As an error that says what to do.
    pub(crate) fn at_start(&self, path: &Path) -> StartError {
        StartError::Setting(format!(
            "the state file {} cannot be used: {self}; check its owner and its folder's space, or \
             set [database] state_file to another file",
            path.display()
        ))
    }
}

impl From<&LogMark> for RememberedRow {
    fn from(row: &LogMark) -> Self {
        Self {
            seq: row.seq,
            stored_at: row.created_at,
            digest: row.digest(),
        }
    }
}

impl From<&DownloadBatchRow> for RememberedBatch {
    fn from(batch: &DownloadBatchRow) -> Self {
        Self {
            ordinal: batch.columns.ordinal,
            tag: batch.columns.tag,
            digest: batch.identity(),
        }
    }
}

impl State {
    /// What a database has.
    pub(super) fn of(epoch: u64, row: Option<&LogMark>, batch: Option<&DownloadBatchRow>) -> Self {
        Self {
            epoch,
            row: row.map(Into::into),
            batch: batch.map(Into::into),
            ..Self::default()
        }
    }

    /// The highest number of a download batch that may have been given out.
    pub(crate) fn newest_tag(&self) -> Option<BatchTag> {
        self.batch.map(|batch| batch.tag).max(self.cutting)
    }

    /// What is remembered and the database does not have. One of a newer epoch need not have it, but
    /// must skip the numbers that were given out.
    pub(super) fn missing_in(
        &self,
        epoch: &Epoch,
        store: &mut Store,
    ) -> Result<Option<String>, SqlError> {
        if epoch.number > self.epoch {
            let unskipped = self
                .newest_tag()
                .filter(|tag| Some(*tag) > epoch.skipped_to);
            return Ok(unskipped.map(|tag| {
                format!(
                    "download batch {tag}, which epoch {} does not skip",
                    epoch.number
                )
            }));
        }
        if epoch.number < self.epoch {
            return Ok(Some(format!("its epoch {}", self.epoch)));
        }
        if let Some(row) = self.row
            && !row.is_in(store)?
        {
            return Ok(Some(format!("its position {} of the log", row.seq.0)));
        }
        if let Some(batch) = self.batch
            && !batch.is_in(store)?
        {
            return Ok(Some(format!("its download batch {}", batch.tag)));
        }
        if store.newest_withdrawal()? < self.withdrawals {
            return Ok(Some(format!("its withdrawal {}", self.withdrawals)));
        }
        Ok(None)
    }

    /// Reads a file; nothing if there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, StateFileError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text)
                .map(Some)
                .ok_or(StateFileError::Malformed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the file by way of a second one: a crash leaves the old text or the new one.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = path.with_file_name(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(self.to_string().as_bytes())?;
        file.sync_data()?;
        fs::rename(&beside, path)?;
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != HEADING {
            return None;
        }
        let mut state = Self {
            epoch: value(lines.next()?, "epoch ")?,
            ..Self::default()
        };
        for line in lines {
            let (name, values) = line.split_once(' ')?;
            match (name, values.split(' ').collect::<Vec<_>>().as_slice()) {
                ("row", [seq, stored_at, digest]) => {
                    state.row = Some(RememberedRow {
                        seq: Seq(seq.parse().ok()?),
                        stored_at: UnixMillis(stored_at.parse().ok()?),
                        digest: RowDigest::parse_hex(digest)?,
                    });
                }
                ("batch", [ordinal, tag, digest]) => {
                    state.batch = Some(RememberedBatch {
                        ordinal: ordinal.parse().ok()?,
                        tag: BatchTag::parse(tag).ok()?,
                        digest: RowDigest::parse_hex(digest)?,
                    });
                }
                ("cutting", [tag]) => state.cutting = Some(BatchTag::parse(tag).ok()?),
                ("withdrawals", [number]) => state.withdrawals = number.parse().ok()?,
                ("certificates", [counter]) => state.certificates = counter.parse().ok()?,
                _ => return None,
            }
        }
        Some(state)
    }
}

fn value<T: FromStr>(line: &str, prefix: &str) -> Option<T> {
    line.strip_prefix(prefix)?.parse().ok()
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADING}\nepoch {}", self.epoch)?;
        if let Some(row) = &self.row {
            let (seq, stored_at) = (row.seq.0, row.stored_at.0);
            writeln!(f, "row {seq} {stored_at} {}", row.digest)?;
        }
        if let Some(batch) = &self.batch {
            writeln!(f, "batch {} {} {}", batch.ordinal, batch.tag, batch.digest)?;
        }
        if let Some(tag) = self.cutting {
            writeln!(f, "cutting {tag}")?;
        }
        for (name, number) in [
            ("withdrawals", self.withdrawals),
            ("certificates", self.certificates),
        ] {
            if number > 0 {
                writeln!(f, "{name} {number}")?;
            }
        }
        Ok(())
    }
}

impl RememberedRow {
    /// Whether a database has the row, or has forgotten it in good order.
    fn is_in(&self, store: &mut Store) -> Result<bool, SqlError> {
        match store.log_mark(self.seq)? {
            Some(found) => Ok(found.digest() == self.digest),
            None => Ok(store.forgotten_to()? >= self.seq),
        }
    }
}

impl RememberedBatch {
    fn is_in(&self, store: &mut Store) -> Result<bool, SqlError> {
        match store.recall(self.ordinal)?.batch {
            Some(found) => Ok(found.identity() == self.digest),
            None => Ok(store.first_ordinal()? > self.ordinal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            epoch: 2,
            row: Some(RememberedRow {
                seq: Seq(931),
                stored_at: UnixMillis(1_602_028_800_000),
                digest: RowDigest([7; 32]),
            }),
            batch: Some(RememberedBatch {
                ordinal: 17,
                tag: BatchTag::parse("20201007-3").unwrap(),
                digest: RowDigest([8; 32]),
            }),
            cutting: Some(BatchTag::parse("20201007-4").unwrap()),
            withdrawals: 2,
            certificates: 1_602_028_800_001,
        }
    }

    #[test]
    fn reads_what_it_writes_and_replaces_it_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert_eq!(State::read(&path).unwrap(), None);
        for state in [State::default(), state()] {
            state.write(&path).unwrap();
            assert_eq!(State::read(&path).unwrap(), Some(state));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn refuses_what_it_has_not_written() {
        let whole = state().to_string();
        assert_eq!(State::parse(&whole), Some(state()));
        for (text, changed) in [
            ("efgs", "other"),
            ("epoch 2", "epoch"),
            ("row 931", "row x"),
            ("20201007-3", "20201007"),
            ("cutting", "other"),
            ("withdrawals 2", "withdrawals -"),
            ("certificates 1", "certificates x"),
            ("0707", "07"),
        ] {
            let broken = whole.replacen(text, changed, 1);
            assert_eq!(State::parse(&broken), None, "{broken}");
        }
    }
}
