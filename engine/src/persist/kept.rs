//! A connection that a thread keeps between its jobs.

use std::time::Instant;

use super::{Database, SqlError, Store};
use crate::limits;

/// Opens a connection when it is first needed and keeps it; one that was idle for too long is not
/// used again, since the server has closed it, or is about to.
#[derive(Debug)]
pub(crate) struct KeptStore {
    database: Database,
    kept: Option<(Store, Instant)>,
}

impl KeptStore {
    pub(crate) const fn new(database: Database) -> Self {
        Self {
            database,
            kept: None,
        }
    }

    /// The connection. It counts as used now.
    ///
    /// # Errors
    /// When a connection cannot be opened: nothing was done.
    pub(crate) fn store(&mut self) -> Result<&mut Store, SqlError> {
        let fresh = self
            .kept
            .take()
            .filter(|(_, used)| used.elapsed() < limits::CONNECTION_IDLE_MAX);
        let store = match fresh {
            Some((store, _)) => store,
            None => self.database.store()?,
        };
        Ok(&mut self.kept.insert((store, Instant::now())).0)
    }

    /// Ends the connection, if there is one: something has failed on it.
    pub(crate) fn close(&mut self) {
        self.kept = None;
    }

    /// Lets time go by.
    #[cfg(test)]
    pub(crate) fn idle_for(&mut self, time: std::time::Duration) {
        if let Some((_, used)) = &mut self.kept {
            *used = used.checked_sub(time).expect("the machine runs for longer");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::DatabaseUrl;

    #[test]
    fn keeps_a_connection_until_it_fails_or_is_idle_for_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::Sqlite(folder.path().join("db"));
        let mut connection = KeptStore::new(Database::new(url));
        let mut seen = Vec::new();
        for before in [
            (|_| {}) as fn(&mut KeptStore),
            |_| {},
            |kept| kept.idle_for(limits::CONNECTION_IDLE_MAX - Duration::from_secs(5)),
            |kept| kept.idle_for(limits::CONNECTION_IDLE_MAX),
            |_| {},
            KeptStore::close,
        ] {
            before(&mut connection);
            let store = connection.store().unwrap();
            // A temporary table is there as long as its connection is.
            seen.push(store.0.script("CREATE TEMP TABLE mark (x INTEGER)").is_ok());
        }
        assert_eq!(seen, [true, false, false, true, false, true], "opened anew");
    }
}
