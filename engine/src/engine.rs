//! The engine's face: starts pools and threads, takes uploads, answers downloads, drains in order
//! (stub, being built).

use std::sync::Arc;

use crate::admission::{Admission, Permit};
use crate::bundle::{AuditEntry, Download, DownloadError, DownloadRequest};
use crate::clock::Clock;
use crate::domain::{BatchTag, Country, Day};
use crate::error::{StartError, UploadError};
use crate::settings::Settings;
use crate::trust::Trust;
use crate::upload::{Receipt, UploadRequest};

/// A running engine. Share it in an [`Arc`].
#[derive(Debug)]
pub struct Engine {
    admission: Admission,
    trust: Arc<Trust>,
}

/// What `/health`, `/ready` and the dashboard say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether the database answered at the last attempt.
    pub database_available: bool,
    /// Number of uploads in the log, as far as this gateway has followed it.
    pub log_position: u64,
    /// Key identities in memory.
    pub identities: u64,
    /// The newest download batch.
    pub newest_batch: Option<BatchTag>,
    /// Whether this gateway cuts download batches now.
    pub cuts: bool,
}

impl Engine {
    /// Opens the database (migrating it if needed), rebuilds the set of identities, starts all
    /// threads.
    ///
    /// # Errors
    /// [`StartError`]: one sentence that says what to do.
    pub fn start(_settings: Settings, _clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        Ok(Self {
            admission: Admission::default(),
            trust: Arc::default(),
        })
    }

    /// Where permits come from. Ask before reading a body.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// The certificate list as of now; a change in the database is seen within two seconds.
    pub fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.trust)
    }

    /// Takes an upload through all stages. Returns at once; `reply` is called exactly once, from
    /// another thread, after the commit or the refusal. It must not block.
    pub fn upload(
        &self,
        _permit: Permit,
        _request: UploadRequest,
        _reply: impl FnOnce(Result<Receipt, UploadError>) + Send + 'static,
    ) {
    }

    /// Answers a download. `reply` is called exactly once: on this thread if the answer is warm or
    /// a plain refusal, else from a reader thread. It must not block.
    pub fn download(
        &self,
        _request: DownloadRequest,
        _reply: impl FnOnce(Result<Download, DownloadError>) + Send + 'static,
    ) {
    }

    /// Lists the uploads of a download batch for `country`: all of them in log order, the caller's
    /// own last. `reply` is called exactly once, from a reader thread or this one.
    pub fn audit(
        &self,
        _country: Country,
        _date: Day,
        _tag: &str,
        _reply: impl FnOnce(Result<Vec<AuditEntry>, DownloadError>) + Send + 'static,
    ) {
    }

    /// What the engine is doing.
    pub fn status(&self) -> Status {
        Status {
            database_available: false,
            log_position: 0,
            identities: 0,
            newest_batch: None,
            cuts: false,
        }
    }

    /// Stops in order: no new work, everything admitted is answered, threads end. Blocks.
    pub fn shutdown(&self) {}
}
