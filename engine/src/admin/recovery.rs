//! A new epoch, after the database went back to an earlier state.

use std::path::{Path, PathBuf};

use crate::continuity::{RememberedRow, State};
use crate::database::SqlError;
use crate::domain::{BatchTag, UnixMillis};
use crate::failure::{DatabaseError, StartError};
use crate::store::{Epoch, Store};

/// A row of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPlace {
    /// Its position.
    pub position: u64,
    /// When it was stored.
    pub stored_at: UnixMillis,
}

/// What has become of a row that a gateway remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOutcome {
    /// It is there.
    Held,
    /// There is no row at its position.
    Gone,
    /// There is another row at its position.
    Replaced,
}

/// A new epoch, and what may be lost with the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Its number.
    pub epoch: u64,
    /// The last row of the log.
    pub log_end: Option<LogPlace>,
    /// The newest row that a gateway remembers and the database does not have; if there is none, the
    /// newest that any of them remembers.
    pub remembered: Option<(LogPlace, RowOutcome)>,
    /// The newest download batch of the database.
    pub newest_batch: Option<BatchTag>,
    /// The highest number of a download batch that may have been given out: the next one comes after it.
    pub skipped_to: Option<BatchTag>,
    before: Epoch,
}

/// Why no epoch begins.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A state file cannot be used.
    #[error(transparent)]
    StateFile(#[from] StartError),
    /// A file that was named is not there.
    #[error("there is no state file {0}: check its name")]
    MissingFile(String),
    /// Nobody knows which numbers were given out.
    #[error(
        "which download batches were given out is not known: name the state files of all gateways \
         with --state-file, or the newest tag in their logs (\"Batch created\") with --skip-to"
    )]
    NothingRemembered,
    /// A tag, given or remembered, is of a day to come.
    #[error(
        "download batch {0} is of a day to come: check --skip-to, the state files and the clocks"
    )]
    InTheFuture(BatchTag),
    /// Another operator was faster.
    #[error("another epoch has been begun meanwhile: look again with --dry-run")]
    Raced,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// What a new epoch would be; only reads.
pub(super) fn plan_recovery(
    store: &mut Store,
    state_files: &[PathBuf],
    skip_to: Option<BatchTag>,
) -> Result<Recovery, RecoveryError> {
    let states = state_files.iter().map(|path| read(path));
    let states = states.collect::<Result<Vec<_>, _>>()?;
    if states.is_empty() && skip_to.is_none() {
        return Err(RecoveryError::NothingRemembered);
    }
    let reading = |error: SqlError| error.doing("reading what the database has");
    let plan = plan(store, &states, skip_to).map_err(reading)?;
    // An epoch cannot be taken back: all later download batches would have that day.
    let today = store.now().map_err(reading)?.day();
    let newest = plan.newest_batch.map_or(today, |tag| tag.day);
    match plan.skipped_to {
        Some(tag) if tag.day > today.next().max(newest) => Err(RecoveryError::InTheFuture(tag)),
        _ => Ok(plan),
    }
}

/// Begins an epoch as planned.
pub(super) fn begin_epoch(store: &mut Store, recovery: &Recovery) -> Result<(), RecoveryError> {
    let new = Epoch {
        number: recovery.epoch,
        skipped_to: recovery.skipped_to,
    };
    let begun = store.begin_epoch(&recovery.before, &new);
    match begun.map_err(|error| error.doing("beginning an epoch"))? {
        true => Ok(()),
        false => Err(RecoveryError::Raced),
    }
}

fn read(path: &Path) -> Result<State, RecoveryError> {
    let state = State::read(path).map_err(|error| error.at_start(path))?;
    state.ok_or_else(|| RecoveryError::MissingFile(path.display().to_string()))
}

fn plan(
    store: &mut Store,
    states: &[State],
    skip_to: Option<BatchTag>,
) -> Result<Recovery, SqlError> {
    let before = store.epoch()?;
    let newest_batch = store
        .newest_download_batch()?
        .map(|batch| batch.columns.tag);
    let log_end = store.last_log_mark()?.map(|row| LogPlace {
        position: row.seq.0,
        stored_at: row.created_at,
    });
    let given_out = states.iter().map(State::newest_tag);
    let given_out = given_out.chain([newest_batch, before.skipped_to, skip_to]);
    // Each gateway may remember what the others do not: one that was started on the older database
    // has gone on from there.
    let mut remembered: Vec<_> = states
        .iter()
        .filter_map(|state| state.row)
        .map(|row| outcome(row, store))
        .collect::<Result<_, _>>()?;
    remembered.sort_by_key(|(place, outcome)| (*outcome != RowOutcome::Held, place.position));
    let epochs = states.iter().map(|state| state.epoch);
    Ok(Recovery {
        epoch: epochs.chain([before.number]).max().unwrap_or(0) + 1,
        log_end,
        remembered: remembered.pop(),
        newest_batch,
        skipped_to: given_out.max().flatten(),
        before,
    })
}

fn outcome(row: RememberedRow, store: &mut Store) -> Result<(LogPlace, RowOutcome), SqlError> {
    let outcome = match store.log_mark(row.seq)? {
        // Retention deletes from the front.
        None if store.forgotten_to()? >= row.seq => RowOutcome::Held,
        None => RowOutcome::Gone,
        Some(found) if found.digest() == row.digest => RowOutcome::Held,
        Some(_) => RowOutcome::Replaced,
    };
    let place = LogPlace {
        position: row.seq.0,
        stored_at: row.stored_at,
    };
    Ok((place, outcome))
}
