//! Where connections come from.

use crossbeam::channel::Sender;

use super::checkpoint::Checkpoints;
use super::connection::{BadColumn, Connection, SqlError, Timeouts, UnreadableRow};
use super::mysql::MysqlConnection;
use super::sqlite::SqliteConnection;
use crate::failure::StartError;
use crate::settings::DatabaseUrl;

/// A database that connections can be opened to.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    url: DatabaseUrl,
    checkpoints: Option<Sender<()>>,
    #[cfg(test)]
    pub(super) faults: Option<super::faulty::Faults>,
}

impl Database {
    pub(crate) const fn new(url: DatabaseUrl) -> Self {
        Self {
            url,
            checkpoints: None,
            #[cfg(test)]
            faults: None,
        }
    }

    /// Leaves SQLite's checkpoints to what this gives, for all connections that are opened from
    /// now on. A server makes its own.
    pub(crate) fn checkpoints(&mut self) -> Option<Checkpoints> {
        let DatabaseUrl::Sqlite(path) = &self.url else {
            return None;
        };
        let (checkpoints, wake) = Checkpoints::new(path.clone());
        self.checkpoints = Some(wake);
        Some(checkpoints)
    }

    /// Opens a connection.
    pub(crate) fn connect(&self, timeouts: Timeouts) -> Result<Box<dyn Connection>, SqlError> {
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.connect()?;
        }
        let connection: Box<dyn Connection> = match &self.url {
            DatabaseUrl::Sqlite(path) => {
                let checkpoints = self.checkpoints.as_ref();
                Box::new(SqliteConnection::open(path, checkpoints)?)
            }
            DatabaseUrl::Mysql(url) => Box::new(MysqlConnection::open(url, timeouts)?),
        };
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            return Ok(Box::new(faults.wrap(connection)));
        }
        Ok(connection)
    }

    /// An error at start, with what to do about it.
    pub(crate) fn unreachable(&self, error: SqlError) -> StartError {
        let database = self.url.to_string();
        match error {
            SqlError::Refused(ref source)
                if source.is::<UnreadableRow>() || source.is::<BadColumn>() =>
            {
                StartError::UnreadableRow {
                    database,
                    source: error.doing("reading it"),
                }
            }
            _ => StartError::Unreachable {
                database,
                source: error.doing("opening it"),
            },
        }
    }
}
