//! The certificate list as all threads see it: replaced whole when the database has a new revision.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, RecvTimeoutError};

use crate::database::{Database, SqlError};
use crate::limits;
use crate::store::{CachedStore, Store};
use crate::trust::{Trust, TrustAnchor};

/// The current [`Trust`], and how to renew it.
#[derive(Debug)]
pub(crate) struct TrustList {
    anchor: TrustAnchor,
    current: ArcSwap<Trust>,
    revision: AtomicU64,
}

impl TrustList {
    /// Loads the list.
    pub(crate) fn load(anchor: TrustAnchor, store: &mut Store) -> Result<Self, SqlError> {
        let list = Self {
            anchor,
            current: ArcSwap::from_pointee(Trust::default()),
            revision: AtomicU64::new(u64::MAX),
        };
        list.refresh(store)?;
        Ok(list)
    }

    /// The list as of now.
    pub(crate) fn current(&self) -> Arc<Trust> {
        self.current.load_full()
    }

    /// Keeps the list current until the engine stops, on a connection of its own: a revocation
    /// does not wait for other work.
    pub(crate) fn follow(&self, database: &Database, stop: &Receiver<()>) {
        let mut connection = CachedStore::new(database.clone());
        while stop.recv_timeout(limits::TRUST_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            let refreshed = connection.store().and_then(|store| self.refresh(store));
            if let Err(error) = refreshed {
                tracing::warn!(error = %error, "cannot follow the certificate list");
                connection.close();
            }
        }
    }

    /// Reads the list again if it has changed.
    ///
    /// The revision is read first: a change between the two reads is read again next time.
    pub(crate) fn refresh(&self, store: &mut Store) -> Result<(), SqlError> {
        let revision = store.certificate_revision()?;
        if self.revision.load(Ordering::Acquire) == revision {
            return Ok(());
        }
        let rows = store.certificates()?;
        let trust = Trust::load(rows, &self.anchor, Some(&self.current.load()));
        let certificates = trust.certificates().count();
        self.current.store(Arc::new(trust));
        self.revision.store(revision, Ordering::Release);
        tracing::info!(revision, certificates, "certificate list loaded");
        Ok(())
    }
}
