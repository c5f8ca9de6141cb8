//! How the writer follows the log that all gateways write: it reads what is newer than its
//! position, reconnects when the connection is lost, and locks the tail of the log when other
//! gateways have appended first too often.

use std::sync::Arc;
use std::time::Instant;

use super::Writer;
use crate::database::SqlError;
use crate::domain::Seq;
use crate::limits;
use crate::log_chain::WithdrawalMark;
use crate::persist::access::LogAccess;
use crate::persist::freed_uploads::{Freed, read_freed};
use crate::store::{LogEntry, LogTail, Store};
use crate::text::excerpt;

impl Writer {
    /// Between uploads: reads what other gateways have written.
    pub(super) fn follow(&mut self) {
        if self.continuity.has_gone_back() {
            self.store = None;
        } else if self.connected().is_some() {
            self.catch_up_or_disconnect();
        }
    }

    pub(super) fn catch_up_or_disconnect(&mut self) {
        let mut caught_up = self.catch_up();
        if let Err(error @ SqlError::Conflict(_)) = &caught_up {
            // Another gateway has written at the same time: what was read is read again.
            self.database
                .log_error("persist", error, "cannot follow the log");
            caught_up = self.catch_up();
        }
        if let Err(error) = caught_up {
            self.lose_connection(&error, "cannot follow the log");
        }
    }

    /// Closes the connection, on which something has failed.
    fn lose_connection(&mut self, error: &SqlError, message: &'static str) {
        self.retries.last_error = excerpt(&error.to_string());
        self.database.log_error("persist", error, message);
        self.store = None;
    }

    /// Compares the database with what this gateway knows, and reads the log after our position.
    fn catch_up(&mut self) -> Result<(), SqlError> {
        let continuity = Arc::clone(&self.continuity);
        self.read_log_with(Store::read_log, |store, applied_to| {
            let freed = read_freed(store, &continuity, applied_to)?;
            store.make_reads_durable()?;
            Ok(freed)
        })?;
        self.confirm_batches()
    }

    /// Reads and applies the log after our position. `complete` runs after the rows were read: it reads the
    /// withdrawals after a mark, and makes both reads durable.
    fn read_log_with(
        &mut self,
        read: fn(&mut Store, Seq, u64) -> Result<LogTail, SqlError>,
        mut complete: impl FnMut(&mut Store, WithdrawalMark) -> Result<Option<Freed>, SqlError>,
    ) -> Result<(), SqlError> {
        self.apply_stored();
        loop {
            let Some(store) = self.store.as_mut() else {
                return Ok(());
            };
            let tail = read(store, self.position, limits::FOLLOW_ROWS)?;
            self.state.health.note_answer();
            let continuity = &self.continuity;
            let (known, found) = (self.newest.as_ref(), tail.at_position.as_ref());
            if !continuity.is_same_file() || !continuity.still_has_row(known, found, store)? {
                self.store = None;
                return Ok(());
            }
            let mut walk = continuity.log_walk(self.last_link);
            if known.is_some() && found.is_none() {
                // A gateway that was away for weeks continues where retention has stopped.
                let forgotten = store.forgotten(continuity.chain())?;
                walk = continuity.log_walk(forgotten.last);
                walk = walk.with_forgotten_to(forgotten.to);
            }
            if !continuity.follows_chain(&mut walk, &tail.newer) {
                self.store = None;
                return Ok(());
            }
            let read = tail.newer.len() as u64;
            if read > 0 {
                let Some(freed) = complete(store, self.freed.applied_to)? else {
                    self.store = None;
                    return Ok(());
                };
                self.last_link = walk.last();
                self.apply_freed(freed);
                self.apply_rows(tail.newer);
            }
            if read < limits::FOLLOW_ROWS {
                return Ok(());
            }
        }
    }

    /// Applies rows after our position that are durable.
    fn apply_rows(&mut self, entries: Vec<LogEntry>) {
        self.newest = entries.last().map(LogEntry::mark);
        for entry in entries {
            let day = entry.created_at.day();
            let name = (entry.country, entry.tag);
            self.state
                .remember(name, entry.content, day, entry.key_count);
            let identities = match self.freed.contain(entry.seq) {
                true => &[][..],
                false => &entry.identities,
            };
            self.apply(identities, day, entry.seq);
            self.position = entry.seq;
        }
        self.publish_position();
        if let Some(row) = &self.newest {
            // Where this fails, whatever is answered from now on tries again before it is.
            let _ = self.continuity.remember_row(row);
        }
    }

    fn confirm_batches(&mut self) -> Result<(), SqlError> {
        let Some(store) = self.store.as_mut() else {
            return Ok(());
        };
        if self.continuity.still_has_batches(store)? {
            self.is_confirmed = true;
        } else {
            self.store = None;
        }
        Ok(())
    }

    /// The connection; a new one has read the log to its end before it is used.
    pub(super) fn connected(&mut self) -> Option<&mut Store> {
        if self.store.as_ref().is_some_and(Store::is_outdated) {
            self.store = None;
        }
        if self.store.is_none() && !self.continuity.has_gone_back() {
            self.reconnect();
        }
        self.store.as_mut()
    }

    fn reconnect(&mut self) {
        if !self.continuity.is_same_file() {
            return;
        }
        let begun = Instant::now();
        self.connecting_backoff.wait();
        match Store::open(&self.database) {
            Ok(store) => {
                self.store = Some(store);
                self.catch_up_or_disconnect();
            }
            Err(error) => self.lose_connection(&error, "database is not available"),
        }
        let available = self.store.is_some();
        if available {
            self.connecting_backoff.succeeded();
            self.retries.unavailable_since = None;
        } else {
            self.connecting_backoff.failed();
            self.retries.unavailable_since = self.retries.unavailable_since.or(Some(begun));
        }
        self.state.health.set_connected(available);
    }

    /// Connects if need be, and locks the tail of the log after too many lost races. Comes before
    /// the re-check, since both read what others have written meanwhile.
    pub(super) fn acquire(&mut self, lost_races: u32) -> LogAccess {
        if self.connected().is_none() {
            return LogAccess::Unavailable;
        }
        if lost_races < limits::LOST_RACES_MAX {
            return LogAccess::Shared;
        }
        metrics::counter!("efgs_log_tail_locks_total").increment(1);
        match self.lock_log() {
            Ok(()) => LogAccess::Exclusive,
            Err(error) => {
                self.lose_connection(&error, "cannot lock the log");
                self.committing_backoff.failed();
                LogAccess::Unavailable
            }
        }
    }

    fn lock_log(&mut self) -> Result<(), SqlError> {
        if let Some(store) = self.store.as_mut() {
            store.lock_log()?;
        }
        // The lock is a transaction: the commit that makes reads durable has to be outside of it. Nor
        // are download batches confirmed inside, whose view may be older than a cut that is known.
        let mut outside = Store::open(&self.database)?;
        let continuity = Arc::clone(&self.continuity);
        self.read_log_with(Store::read_locked_log, |_, applied_to| {
            let freed = read_freed(&mut outside, &continuity, applied_to)?;
            outside.make_reads_durable()?;
            Ok(freed)
        })
    }

    /// Unlocks the log if it is locked and not needed.
    pub(super) fn release(&mut self, access: LogAccess) {
        let released = match (access, self.store.as_mut()) {
            (LogAccess::Exclusive, Some(store)) => store.unlock_log(),
            _ => Ok(()),
        };
        if released.is_err() {
            self.store = None;
        }
    }
}
