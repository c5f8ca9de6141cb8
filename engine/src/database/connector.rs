//! Where connections come from.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crossbeam::channel::Sender;

use super::checkpoint::Checkpoints;
use super::cluster::Cluster;
use super::connection::{
    BadColumn, Connection, SqlError, Timeouts, UnreadableAnswer, UnreadableRow,
};
use super::file_identity::FileIdentity;
use super::hosts::Hosts;
use super::outage::Outage;
use super::remedy::remedy;
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
    place: Place,
    /// What the database is known to be.
    cluster: Arc<OnceLock<Cluster>>,
    outage: Arc<Outage>,
    #[cfg(any(test, debug_assertions))]
    pub(super) faults: Option<super::faulty::Faults>,
}

/// What connections lead to.
#[derive(Debug, Clone)]
enum Place {
    File(PathBuf),
    /// Clones share what is known of the hosts.
    Server(Arc<Hosts>),
}

/// An empty SQLite database in memory.
pub(crate) fn in_memory() -> Result<Box<dyn Connection>, SqlError> {
    Ok(Box::new(SqliteConnection::in_memory()?))
}

impl Database {
    pub(crate) fn new(url: DatabaseUrl) -> Self {
        let (file, place) = match &url {
            DatabaseUrl::Sqlite(path) => {
                let file = FileIdentity::of(path.clone());
                (Some(Arc::new(file)), Place::File(path.clone()))
            }
            DatabaseUrl::Mysql(server) => (None, Place::Server(Arc::new(Hosts::of(server)))),
        };
        Self {
            url,
            file,
            checkpoints: None,
            place,
            cluster: Arc::default(),
            outage: Arc::default(),
            #[cfg(any(test, debug_assertions))]
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
        #[cfg(any(test, debug_assertions))]
        if let Some(faults) = &self.faults {
            faults.connect()?;
        }
        let connection: Box<dyn Connection> = match &self.place {
            Place::File(path) => Box::new(self.open_file(path)?),
            Place::Server(hosts) => Box::new(hosts.connect(timeouts, self.cluster.get().copied())?),
        };
        self.outage.connected();
        #[cfg(any(test, debug_assertions))]
        if let Some(faults) = &self.faults {
            return Ok(Box::new(faults.wrap(connection)));
        }
        Ok(connection)
    }

    /// Logs an error of a statement or connection, as far as it is news.
    pub(crate) fn log_error(&self, stage: &'static str, error: &SqlError, message: &'static str) {
        self.outage.log(stage, error, message);
    }

    /// From now on only members of this cluster are connected to.
    pub(crate) fn remember_cluster(&self, cluster: Cluster) {
        self.cluster.get_or_init(|| cluster);
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
                if source.is::<UnreadableRow>()
                    || source.is::<UnreadableAnswer>()
                    || source.is::<BadColumn>() =>
            {
                StartError::UnreadableRow {
                    database,
                    source: error.doing("reading it"),
                }
            }
            _ => {
                let source = error.doing("opening it");
                StartError::Unreachable {
                    database,
                    remedy: remedy(&self.url, &source.source.to_string()),
                    source,
                }
            }
        }
    }
}
