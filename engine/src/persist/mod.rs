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
mod certificates;
mod checkpoint;
mod connection;
mod download_batches;
mod group;
mod import;
mod kept;
mod leases;
mod log;
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
pub(crate) use download_batches::{DownloadBatchRow, NewDownloadBatch};
pub(crate) use import::ImportState;
pub(crate) use kept::KeptStore;
pub(crate) use leases::Lease;
pub use log::AuditEntry;
pub(crate) use log::{LogEntry, UploadMeta, UploadRow};
pub(crate) use migrate::{known_version, migrate};
pub(crate) use reference::{
    PAYLOAD, Reference, ReferenceBatch, ReferenceCertificate, ReferenceKey, ReferenceSubscription,
    ReferenceUpload,
};
pub(crate) use retention::Step;
pub(crate) use store::Store;
pub(crate) use writer::{Submission, Writer, WriterState};

use connection::Connection;
use crossbeam::channel::Sender;

use crate::failure::StartError;
use crate::settings::DatabaseUrl;

/// Where connections come from.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    url: DatabaseUrl,
    checkpoints: Option<Sender<()>>,
    #[cfg(test)]
    faults: Option<faulty::Faults>,
}

/// How long a connection waits for an answer, and its server for a question. A local file answers
/// at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// A gateway at work: who does not answer soon is lost.
    Brisk,
    /// Full scans, and the wait for who migrates.
    Leisurely,
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
    fn connect(&self, pace: Pace) -> Result<Box<dyn Connection>, SqlError> {
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.connect()?;
        }
        let connection: Box<dyn Connection> = match &self.url {
            DatabaseUrl::Sqlite(path) => {
                let checkpoints = self.checkpoints.as_ref();
                Box::new(sqlite::SqliteConnection::open(path, checkpoints)?)
            }
            DatabaseUrl::Mysql(url) => Box::new(mysql::MysqlConnection::open(url, pace)?),
        };
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            return Ok(Box::new(faults.wrap(connection)));
        }
        Ok(connection)
    }

    /// Opens a connection for the statements of a gateway at work.
    pub(crate) fn store(&self) -> Result<Store, SqlError> {
        Ok(Store::new(self.connect(Pace::Brisk)?))
    }

    /// Opens a connection for statements that may take minutes: at start, and for the command line.
    pub(crate) fn patient_store(&self) -> Result<Store, SqlError> {
        Ok(Store::new(self.connect(Pace::Leisurely)?))
    }

    /// Opens a connection to a reference database.
    pub(crate) fn reference(&self) -> Result<Reference, SqlError> {
        Ok(Reference::new(self.connect(Pace::Leisurely)?))
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
pub(crate) mod faulty;
#[cfg(test)]
mod tests;
