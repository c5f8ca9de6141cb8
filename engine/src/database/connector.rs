//! Where connections come from.

use std::path::Path;
use std::sync::Arc;

use crossbeam::channel::Sender;

use super::checkpoint::Checkpoints;
use super::connection::{BadColumn, Connection, SqlError, Timeouts, UnreadableRow};
use super::file_identity::FileIdentity;
use super::mysql::MysqlConnection;
use super::sqlite::{MissingFile, SqliteConnection};
use crate::failure::StartError;
use crate::settings::DatabaseUrl;

/// A database that connections can be opened to.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    url: DatabaseUrl,
    /// With SQLite.
    file: Option<Arc<FileIdentity>>,
    checkpoints: Option<Sender<()>>,
    #[cfg(test)]
    pub(super) faults: Option<super::faulty::Faults>,
}

impl Database {
    pub(crate) fn new(url: DatabaseUrl) -> Self {
        let file = match &url {
            DatabaseUrl::Sqlite(path) => Some(Arc::new(FileIdentity::of(path.clone()))),
            DatabaseUrl::Mysql(_) => None,
        };
        Self {
            url,
            file,
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
            DatabaseUrl::Sqlite(path) => Box::new(self.open_file(path)?),
            DatabaseUrl::Mysql(url) => Box::new(MysqlConnection::open(url, timeouts)?),
        };
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            return Ok(Box::new(faults.wrap(connection)));
        }
        Ok(connection)
    }

    /// A file that was there once is not created again: it would be an empty database.
    fn open_file(&self, path: &Path) -> Result<SqliteConnection, SqlError> {
        let missing = match self.file.as_ref().is_some_and(|file| file.is_known()) {
            true => MissingFile::Refuse,
            false => MissingFile::Create,
        };
        let connection = SqliteConnection::open(path, missing, self.checkpoints.as_ref())?;
        if let Some(file) = &self.file {
            file.remember();
        }
        Ok(connection)
    }

    /// With SQLite: what became of the path, if it leads to the file no more that the first
    /// connection was opened to.
    pub(crate) fn file_change(&self) -> Option<&'static str> {
        self.file.as_ref()?.change()
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
