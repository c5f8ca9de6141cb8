//! How the writer keeps up with the log that all gateways write: it reads what is newer than its
//! position, connects again when the connection is gone, and claims the end of the log when others
//! are faster too often.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Writer;
use crate::domain::Seq;
use crate::limits;
use crate::persist::{LogEntry, SqlError, Store};

/// What the writer holds while it judges and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// The database is away.
    Nothing,
    /// A connection: another gateway may be faster.
    Connection,
    /// The end of the log: nobody else appends until this is over.
    Log,
}

impl Writer {
    /// Between uploads: what other gateways have written.
    pub(super) fn follow(&mut self) {
        if self.connected().is_some() {
            self.catch_up_or_disconnect();
        }
    }

    pub(super) fn catch_up_or_disconnect(&mut self) {
        if let Err(error) = self.catch_up() {
            tracing::warn!(stage = "persist", error = %error, "cannot follow the log");
            self.store = None;
        }
    }

    /// Reads the log behind our position, and makes it ours.
    fn catch_up(&mut self) -> Result<(), SqlError> {
        self.read_on(Store::read_log, Store::settle_what_was_read)
    }

    fn read_on(
        &mut self,
        read: fn(&mut Store, Seq, u64) -> Result<Vec<LogEntry>, SqlError>,
        mut settle: impl FnMut(&mut Store) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        self.insert_stored();
        loop {
            let Some(store) = self.store.as_mut() else {
                return Ok(());
            };
            let entries = read(store, self.position, limits::FOLLOW_ROWS)?;
            let read = entries.len() as u64;
            if read > 0 {
                settle(store)?;
            }
            for entry in entries {
                let day = entry.created_at.day();
                self.state
                    .tags
                    .insert(entry.country, entry.tag, entry.content, day);
                self.learn(&entry.identities, day, entry.seq);
                self.position = entry.seq;
            }
            if read > 0 {
                self.publish_position();
            }
            if read < limits::FOLLOW_ROWS {
                return Ok(());
            }
        }
    }

    /// The connection; a new one has followed the log to its end before it is used.
    pub(super) fn connected(&mut self) -> Option<&mut Store> {
        if self.store.is_none() {
            self.reconnect();
        }
        self.store.as_mut()
    }

    fn reconnect(&mut self) {
        let begun = Instant::now();
        match self.database.store() {
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
        self.away_since = match available {
            true => None,
            false => self.away_since.or(Some(begun)),
        };
        self.state
            .database_available
            .store(available, Ordering::Release);
    }

    /// Connects if need be, and claims the end of the log after too many lost races. Comes before
    /// the judgement, since both read what others wrote meanwhile.
    pub(super) fn take_hold(&mut self, lost_races: u32) -> Hold {
        if self.connected().is_none() {
            return Hold::Nothing;
        }
        if lost_races < limits::LOST_RACES_MAX {
            return Hold::Connection;
        }
        metrics::counter!("efgs_log_claims_total").increment(1);
        match self.claim_log() {
            Ok(()) => Hold::Log,
            Err(error) => {
                tracing::warn!(stage = "persist", error = %error, "cannot claim the log");
                self.store = None;
                Hold::Nothing
            }
        }
    }

    fn claim_log(&mut self) -> Result<(), SqlError> {
        if let Some(store) = self.store.as_mut() {
            store.claim_log()?;
        }
        // The claim is a transaction: what makes durable has to come from outside of it.
        let mut outside = self.database.store()?;
        self.read_on(Store::read_claimed_log, |_| outside.settle_what_was_read())
    }

    /// Ends a claim that is not needed.
    pub(super) fn let_go(&mut self, hold: Hold) {
        let released = match (hold, self.store.as_mut()) {
            (Hold::Log, Some(store)) => store.release_log(),
            _ => Ok(()),
        };
        if released.is_err() {
            self.store = None;
        }
    }
}
