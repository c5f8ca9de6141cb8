//! A cached connection: a thread keeps it between its jobs.

use std::time::Instant;

use super::session::Store;
use crate::database::{Database, SqlError};
use crate::limits;

/// Opens a connection when it is first needed and keeps it; one that was idle for too long is not
/// used again, since the server has closed it, or is about to.
#[derive(Debug)]
pub(crate) struct CachedStore {
    database: Database,
    cached: Option<(Store, Instant)>,
}

impl CachedStore {
    pub(crate) const fn new(database: Database) -> Self {
        Self {
            database,
            cached: None,
        }
    }

    /// The connection. It counts as used now.
    ///
    /// # Errors
    /// When a connection cannot be opened: nothing was done.
    pub(crate) fn store(&mut self) -> Result<&mut Store, SqlError> {
        let fresh = self.cached.take().filter(|(store, used)| {
            used.elapsed() < limits::CONNECTION_IDLE_MAX && !store.is_outdated()
        });
        let store = match fresh {
            Some((store, _)) => store,
            None => Store::open(&self.database)?,
        };
        Ok(&mut self.cached.insert((store, Instant::now())).0)
    }

    /// Closes the connection, if there is one: something has failed on it.
    pub(crate) fn close(&mut self) {
        self.cached = None;
    }

    /// Lets time go by.
    #[cfg(test)]
    pub(crate) fn idle_for(&mut self, time: std::time::Duration) {
        if let Some((_, used)) = &mut self.cached {
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
        let mut connection = CachedStore::new(Database::new(url));
        let mut seen = Vec::new();
        for before in [
            (|_| {}) as fn(&mut CachedStore),
            |_| {},
            |cached| cached.idle_for(limits::CONNECTION_IDLE_MAX - Duration::from_secs(5)),
            |cached| cached.idle_for(limits::CONNECTION_IDLE_MAX),
            |_| {},
            CachedStore::close,
        ] {
            before(&mut connection);
            let store = connection.store().unwrap();
            // A temporary table is there while its connection is.
            seen.push(store.0.script("CREATE TEMP TABLE mark (x INTEGER)").is_ok());
        }
        assert_eq!(
            seen,
            [true, false, false, true, false, true],
            "opened again"
        );
    }
}
