//! How the writer follows the log that all gateways write: it reads what is newer than its
//! position, reconnects when the connection is lost, and locks the tail of the log when other
//! gateways have appended first too often.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Writer;
use crate::database::SqlError;
use crate::domain::Seq;
use crate::limits;
use crate::persist::access::LogAccess;
use crate::store::{LogEntry, LogTail, Store};

impl Writer {
    /// Between uploads: reads what other gateways have written.
    pub(super) fn follow(&mut self) {
        if self.continuity.is_lost() {
            self.store = None;
        } else if self.connected().is_some() {
            self.catch_up_or_disconnect();
        }
    }

    pub(super) fn catch_up_or_disconnect(&mut self) {
        if let Err(error) = self.catch_up() {
            tracing::warn!(stage = "persist", error = %error, "cannot follow the log");
            self.store = None;
        }
    }

    /// Holds the database against what we know, and reads the log behind our position.
    fn catch_up(&mut self) -> Result<(), SqlError> {
        self.read_log_with(Store::read_log, Store::make_reads_durable)?;
        self.confirm_batches()
    }

    fn read_log_with(
        &mut self,
        read: fn(&mut Store, Seq, u64) -> Result<LogTail, SqlError>,
        mut make_durable: impl FnMut(&mut Store) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        self.apply_stored();
        loop {
            let Some(store) = self.store.as_mut() else {
                return Ok(());
            };
            let tail = read(store, self.position, limits::FOLLOW_ROWS)?;
            let continuity = &self.continuity;
            let (known, found) = (self.newest.as_ref(), tail.at_position.as_ref());
            if !continuity.is_same_file() || !continuity.holds_row(known, found, store)? {
                self.store = None;
                return Ok(());
            }
            let read = tail.newer.len() as u64;
            if read > 0 {
                make_durable(store)?;
                self.take_over(tail.newer);
            }
            if read < limits::FOLLOW_ROWS {
                return Ok(());
            }
        }
    }

    /// Applies rows behind our position that are durable.
    fn take_over(&mut self, entries: Vec<LogEntry>) {
        self.newest = entries.last().map(LogEntry::mark);
        for entry in entries {
            let day = entry.created_at.day();
            self.state
                .tags
                .insert(entry.country, entry.tag, entry.content, day);
            self.apply(&entry.identities, day, entry.seq);
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
        if self.continuity.holds_batches(store)? {
            self.is_confirmed = true;
        } else {
            self.store = None;
        }
        Ok(())
    }

    /// The connection; a new one has read the log to its end before it is used.
    pub(super) fn connected(&mut self) -> Option<&mut Store> {
        if self.store.is_none() && !self.continuity.is_lost() {
            self.reconnect();
        }
        self.store.as_mut()
    }

    fn reconnect(&mut self) {
        if !self.continuity.is_same_file() {
            return;
        }
        let begun = Instant::now();
        match Store::open(&self.database) {
            Ok(store) => {
                self.store = Some(store);
                if let Err(error) = self.catch_up() {
                    tracing::warn!(stage = "persist", error = %error, "cannot follow the log");
                    self.store = None;
                }
            }
            Err(error) => {
                tracing::warn!(stage = "persist", error = %error, "database is not available");
                std::thread::sleep(limits::RECONNECT_INTERVAL);
            }
        }
        let available = self.store.is_some();
        self.unavailable_since = match available {
            true => None,
            false => self.unavailable_since.or(Some(begun)),
        };
        self.state
            .database_available
            .store(available, Ordering::Release);
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
        metrics::counter!("efgs_log_claims_total").increment(1);
        match self.lock_log() {
            Ok(()) => LogAccess::Exclusive,
            Err(error) => {
                tracing::warn!(stage = "persist", error = %error, "cannot lock the log");
                self.store = None;
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
        self.read_log_with(Store::read_locked_log, |_| outside.make_reads_durable())
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
