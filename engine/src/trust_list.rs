//! The certificate list as all threads see it: replaced whole when the database has another one whose
//! digest is the command line's.
//!
//! A list with another digest is never used. The last good one stays in force; a gateway that starts without
//! one trusts no one.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, RecvTimeoutError};

use crate::continuity::Continuity;
use crate::database::{Database, SqlError};
use crate::key_ring::KeyRing;
use crate::limits;
use crate::locks::LockIgnoringPoison;
use crate::seal::Keys;
use crate::store::{CachedStore, Store};
use crate::trust::{CertificateList, ListFault, Trust, TrustAnchors};

/// The current [`Trust`], and how to renew it.
#[derive(Debug)]
pub(crate) struct TrustList {
    anchors: ArcSwap<TrustAnchors>,
    keys: Keys,
    /// Remembers which list was in force, for the next start.
    continuity: Arc<Continuity>,
    current: ArcSwap<Trust>,
    state: Mutex<State>,
}

/// What was read last.
#[derive(Debug, Default)]
struct State {
    revision: Option<u64>,
    read_at: Option<Instant>,
    /// Counter of the list in force; nothing if there is no such list.
    counter: Option<u64>,
    /// Whether its rows are to be checked with other trust anchors.
    has_new_anchors: bool,
    /// What is wrong with the list in the database, if it is not the one in force.
    fault: Option<ListFault>,
    /// Rows that cannot be read, as the log says.
    unreadable: Vec<String>,
}

impl TrustList {
    /// Loads the list.
    pub(crate) fn load(
        anchors: TrustAnchors,
        keys: &Keys,
        continuity: &Arc<Continuity>,
        store: &mut Store,
        now: Instant,
    ) -> Result<Self, SqlError> {
        let list = Self {
            anchors: ArcSwap::from_pointee(anchors),
            keys: keys.clone(),
            continuity: Arc::clone(continuity),
            current: ArcSwap::from_pointee(Trust::default()),
            state: Mutex::default(),
        };
        list.refresh(store, now)?;
        Ok(list)
    }

    /// The list as of now.
    pub(crate) fn current(&self) -> Arc<Trust> {
        self.current.load_full()
    }

    /// Why the list in the database is not the one in force, if so.
    pub(crate) fn fault(&self) -> Option<ListFault> {
        self.state().fault
    }

    /// Checks the rows with other trust anchors from the next look at the list on, within
    /// [`limits::TRUST_INTERVAL`].
    pub(crate) fn renew_anchors(&self, anchors: TrustAnchors) {
        self.anchors.store(Arc::new(anchors));
        let mut state = self.state();
        state.revision = None;
        state.has_new_anchors = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock_ignoring_poison()
    }

    /// Keeps the list current until the engine stops, on a connection of its own: a revocation
    /// does not wait for other work. Looks at the installation's keys, too, which change as rarely.
    pub(crate) fn follow(&self, database: &Database, key_ring: &KeyRing, stop: &Receiver<()>) {
        let mut connection = CachedStore::new(database.clone());
        while stop.recv_timeout(limits::TRUST_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            let store = connection.store();
            let refreshed = store.and_then(|store| {
                self.refresh(store, Instant::now())?;
                key_ring.refresh(store)
            });
            if let Err(error) = refreshed {
                database.log_error("trust", &error, "cannot follow the certificate list");
                connection.close();
            }
        }
    }

    /// Reads the list again if its revision has changed, and from time to time whatever the revision
    /// says: anyone who writes the database could hold it back.
    ///
    /// The revision is read first: a change between the two reads is read again next time.
    pub(crate) fn refresh(&self, store: &mut Store, now: Instant) -> Result<(), SqlError> {
        let revision = store.certificate_revision()?;
        let is_due = |read_at| now.duration_since(read_at) >= limits::TRUST_REREAD_INTERVAL;
        let is_known = {
            let state = self.state();
            state.revision == Some(revision) && !state.read_at.is_none_or(is_due)
        };
        if is_known {
            return Ok(());
        }
        let list = store.certificate_list()?;
        let mut state = self.state();
        state.revision = Some(revision);
        state.read_at = Some(now);
        self.take(&mut state, list);
        Ok(())
    }

    /// Puts a list in force if it is as the command line has written it.
    fn take(&self, state: &mut State, list: CertificateList) {
        if state.unreadable != list.unreadable {
            for error in &list.unreadable {
                tracing::warn!(error, "ignoring an unreadable row of the certificate list");
            }
            state.unreadable = list.unreadable.clone();
        }
        let known = state.counter.unwrap_or(0);
        let known = known.max(self.continuity.certificate_counter());
        match list.check(self.keys.certificate_list_key(), known) {
            Ok(counter) => {
                // Where this fails, `/ready` says so, and it is tried again.
                let _ = self.continuity.remember_certificates(counter);
                let current = self.current.load();
                let trust = Trust::load(list.rows, &self.anchors.load(), Some(&current));
                note_good(state, counter, trust.certificates().count());
                self.current.store(Arc::new(trust));
            }
            Err(fault) => note_fault(state, fault),
        }
    }
}

fn note_good(state: &mut State, counter: u64, certificates: usize) {
    let is_new = state.counter != Some(counter) || state.fault.is_some() || state.has_new_anchors;
    state.counter = Some(counter);
    state.fault = None;
    state.has_new_anchors = false;
    metrics::gauge!("efgs_certificate_list_refused").set(0.0);
    if is_new {
        tracing::info!(counter, certificates, "certificate list loaded");
    }
}

/// The same fault is logged once.
fn note_fault(state: &mut State, fault: ListFault) {
    if state.fault.replace(fault) == Some(fault) {
        return;
    }
    metrics::gauge!("efgs_certificate_list_refused").set(1.0);
    tracing::error!(
        has_former = state.counter.is_some(),
        "the certificate list in the database is not used: {fault}; the previous list stays in force, or \
         no one is trusted if there is none: run efgs cert verify"
    );
}

#[cfg(test)]
mod tests;
