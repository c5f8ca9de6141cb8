//! Persist: uploads become durable, in one order for all gateways.
//!
//! - *In*: [`SealedBatch`](crate::upload::SealedBatch), through a bounded channel.
//! - *Out*: a [`Receipt`](crate::upload::Receipt), only after the commit.
//! - *Refuses*: a tag taken for other content; duplicates that came in behind the probe.
//! - *Assumes*: one writer a gateway; any number of gateways. The primary key of the log is the
//!   arbiter between them.
//! - *Runs on*: the writer thread, and the commit thread that waits for the database meanwhile.
//!
//! Weighed against: a row a key (0.03 to 0.4 M keys/s, falling with the size of the index, where
//! the log keeps 2.7 M flat), and a lock between gateways for every commit (a round trip more, and
//! a lease to lose); a lock is taken only by who has lost the race too often. [`mysql`] and
//! [`sqlite`] are the only doors to the databases; the SQL of the other modules runs on both, but for
//! [`mod@reference`], which is MySQL's.

mod callbacks;
mod checkpoint;
mod connection;
mod group;
mod import;
mod migrate;
mod mysql;
mod reference;
mod retention;
mod sqlite;
mod statistics;
mod store;
mod writer;

pub(crate) use callbacks::{ClaimTerms, DueDelivery, ImportedSubscription};
pub(crate) use checkpoint::Checkpoints;
pub(crate) use connection::SqlError;
pub(crate) use import::ImportState;
pub(crate) use migrate::{known_version, migrate};
pub(crate) use reference::{
    PAYLOAD, Reference, ReferenceBatch, ReferenceCertificate, ReferenceKey, ReferenceSubscription,
    ReferenceUpload,
};
pub(crate) use retention::Step;
pub(crate) use store::{
    DownloadBatchRow, Lease, LogEntry, NewDownloadBatch, Store, UploadMeta, UploadRow,
};
pub(crate) use writer::{Submission, Writer, WriterState};

use connection::Connection;
use crossbeam::channel::Sender;

use crate::error::StartError;
use crate::settings::DatabaseUrl;

/// Where connections come from.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    url: DatabaseUrl,
    checkpoints: Option<Sender<()>>,
    #[cfg(test)]
    faults: Option<faulty::Faults>,
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
    fn connect(&self) -> Result<Box<dyn Connection>, SqlError> {
        let connection: Box<dyn Connection> = match &self.url {
            DatabaseUrl::Sqlite(path) => {
                let checkpoints = self.checkpoints.as_ref();
                Box::new(sqlite::SqliteConnection::open(path, checkpoints)?)
            }
            DatabaseUrl::Mysql(url) => Box::new(mysql::MysqlConnection::open(url)?),
        };
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            return Ok(Box::new(faults.wrap(connection)));
        }
        Ok(connection)
    }

    /// Opens a connection for the statements of the product.
    pub(crate) fn store(&self) -> Result<Store, SqlError> {
        Ok(Store::new(self.connect()?))
    }

    /// Opens a connection to a reference database.
    pub(crate) fn reference(&self) -> Result<Reference, SqlError> {
        Ok(Reference::new(self.connect()?))
    }

    /// An error at start, with what to do about it.
    pub(crate) fn unreachable(&self, error: SqlError) -> StartError {
        let source = error.doing("opening it");
        StartError::Unreachable {
            database: self.url.to_string(),
            source,
        }
    }
}

#[cfg(test)]
mod faulty;
#[cfg(test)]
mod tests;
