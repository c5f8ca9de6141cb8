//! Why an import does not go through.

use crate::failure::{DatabaseError, StartError};
use crate::limits;
use crate::trust::TrustAnchorError;

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source is no server.
    #[error("a reference database is on a server: name it as mysql://USER:PASSWORD@HOST:PORT/NAME")]
    NotAServer,
    /// The source cannot be read.
    #[error(
        "cannot read the reference database: check its address and that it is of release 1.1.3"
    )]
    Source(#[source] DatabaseError),
    /// The password cannot be one.
    #[error("the password of the reference's encrypted columns has 16, 24 or 32 characters")]
    PasswordLength,
    /// A column does not open, or holds what it should not.
    #[error(
        "{column} of the row {id} of diagnosiskey cannot be read: check the password of the encrypted columns"
    )]
    Key {
        /// The row.
        id: u64,
        /// The column.
        column: &'static str,
    },
    /// A name of a download batch is none.
    #[error(
        "{0:?} is no name of a download batch (yyyyMMdd-N): correct it in the reference database"
    )]
    BatchName(String),
    /// A row went away while it was read.
    #[error("the reference database changes while it is read: stop the reference first")]
    Changed,
    /// The target has content.
    #[error("{0} is in use: import into a fresh database, without certificates and uploads")]
    InUse(String),
    /// A gateway works on the target.
    #[error("a gateway works on {0}: stop it first (and wait {seconds} seconds if it was killed)", seconds = limits::LEASE_TTL.as_secs())]
    Served(String),
    /// The trust anchor cannot be used.
    #[error("[trust_anchor] certificate cannot be used")]
    TrustAnchor(#[from] TrustAnchorError),
    /// The target cannot be opened.
    #[error(transparent)]
    Target(#[from] StartError),
    /// The target failed.
    #[error("the import has stopped: run efgs import again, which starts from scratch")]
    Write(#[source] DatabaseError),
}
