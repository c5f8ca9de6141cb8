//! A private gateway with its database in a separate folder: everything that one command needs for
//! an experiment.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::error::LocalError;
use super::galera::Galera;
use super::gateway::{Gateway, GatewayOptions, initialise_for};
use super::mariadb::MariaDb;

/// The gateway's database on a private server.
const DATABASE_NAME: &str = "efgs";
/// The file of the embedded database, as `efgs init` names it.
const EMBEDDED: &str = "efgs.sqlite";

/// Which database a private gateway uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalDatabase {
    /// The embedded one.
    Sqlite,
    /// A private MariaDB server.
    MariaDb,
    /// A private Galera cluster of three MariaDB nodes.
    Galera,
}

/// What a database runs on.
#[derive(Debug)]
enum Server {
    Single(MariaDb),
    Cluster(Galera),
}

impl Server {
    /// The server, or the node that the gateway prefers.
    fn first(&self) -> &MariaDb {
        match self {
            Self::Single(server) => server,
            Self::Cluster(cluster) => cluster.node(0),
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Single(server) => server.url(DATABASE_NAME),
            Self::Cluster(cluster) => {
                let order: Vec<usize> = (0..cluster.len()).collect();
                cluster.url(&order, DATABASE_NAME)
            }
        }
    }
}

/// A running gateway with its database. Dropping it ends both; the folder goes unless it is kept.
#[derive(Debug)]
pub struct Installation {
    // In this order, so that the gateway ends before its database, and the folder goes last.
    gateway: Gateway,
    database: Option<Server>,
    home: PathBuf,
    _temporary: Option<TempDir>,
}

impl Installation {
    /// Starts one for these participants, or for `efgs init`'s defaults when the list is empty.
    /// With `keep`, certificates, settings, logs and the embedded database stay in that folder;
    /// a MariaDB server's data is always removed.
    ///
    /// # Errors
    /// When a program is missing or does not start, or the folder is in use.
    pub fn start(
        program: &Path,
        database: LocalDatabase,
        keep: Option<&Path>,
        participants: &[&str],
    ) -> Result<Self, LocalError> {
        let folder = |source| LocalError::io("cannot create a folder for the gateway")(source);
        let (temporary, parent) = match keep {
            Some(path) => {
                std::fs::create_dir_all(path).map_err(folder)?;
                (None, path.to_owned())
            }
            None => {
                let made = tempfile::Builder::new().prefix("efgs-load").tempdir();
                let made = made.map_err(folder)?;
                let path = made.path().to_owned();
                (Some(made), path)
            }
        };
        let server = match database {
            LocalDatabase::Sqlite => None,
            LocalDatabase::MariaDb => Some(Server::Single(MariaDb::start(&parent)?)),
            LocalDatabase::Galera => Some(Server::Cluster(Galera::start()?)),
        };
        if let Some(server) = &server {
            server.first().create_database(DATABASE_NAME)?;
        }
        let home = parent.join("efgs");
        let url = server.as_ref().map(Server::url);
        initialise_for(program, &home, url.as_deref(), participants)?;
        let gateway = Gateway::start(GatewayOptions::new(program, &home))?;
        Ok(Self {
            gateway,
            database: server,
            home,
            _temporary: temporary,
        })
    }

    /// The gateway.
    pub const fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The participants' certificates.
    pub fn pki(&self) -> PathBuf {
        self.home.join("pki")
    }

    /// The database server, or the node of a cluster that the gateway prefers, if there is one.
    pub fn database(&self) -> Option<&MariaDb> {
        self.database.as_ref().map(Server::first)
    }

    /// The folder of the database's files, or the embedded database's file.
    pub fn database_files(&self) -> PathBuf {
        let server = self.database();
        let embedded = || self.home.join(EMBEDDED);
        server.map_or_else(embedded, |server| server.folder().to_owned())
    }

    /// Restarts the gateway gracefully; returns how long it took from its start until it was ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn restart_gateway(&mut self) -> Result<Duration, LocalError> {
        self.gateway.terminate()?;
        let begun = Instant::now();
        self.gateway.restart()?;
        Ok(begun.elapsed())
    }

    /// Shuts the gateway down gracefully.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn terminate(&mut self) -> Result<(), LocalError> {
        self.gateway.terminate().map(drop)
    }
}
