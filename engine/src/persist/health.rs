//! Whether an upload could be stored now, as far as the writer has seen: for `/ready`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::limits;
use crate::locks::LockIgnoringPoison;
use crate::text::excerpt;

/// What the writer has seen of the database.
#[derive(Debug)]
pub(crate) struct DatabaseHealth {
    started: Instant,
    is_connected: AtomicBool,
    /// When the database last answered, in milliseconds since the start.
    answered_ms: AtomicU64,
    /// Why it stores nothing, as it says.
    refusal: Mutex<Option<String>>,
}

impl DatabaseHealth {
    /// Of a database that has just answered.
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            is_connected: AtomicBool::new(true),
            answered_ms: AtomicU64::new(0),
            refusal: Mutex::default(),
        }
    }

    /// Whether the database answers. The writer asks it several times per second, so one that is
    /// silent for [`limits::SILENCE_MAX`] does not.
    pub(crate) fn answers(&self) -> bool {
        let silent_ms = self
            .now_ms()
            .saturating_sub(self.answered_ms.load(Ordering::Acquire));
        self.is_connected.load(Ordering::Acquire)
            && u128::from(silent_ms) < limits::SILENCE_MAX.as_millis()
    }

    /// What the database said when it refused to store, if it does.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.lock().clone()
    }

    pub(super) fn set_connected(&self, is_connected: bool) {
        self.is_connected.store(is_connected, Ordering::Release);
    }

    /// The database has answered, whatever it said.
    pub(super) fn note_answer(&self) {
        self.answered_ms.store(self.now_ms(), Ordering::Release);
    }

    /// A commit, or a probe, has gone through.
    pub(super) fn note_stored(&self) {
        if self.lock().take().is_some() {
            tracing::info!(stage = "persist", "the database stores uploads again");
        }
    }

    /// The database stores nothing.
    pub(super) fn note_refusal(&self, error: &str) {
        let error = excerpt(error);
        let mut refusal = self.lock();
        if refusal.is_none() {
            tracing::error!(
                stage = "persist",
                error,
                "the database does not store uploads: they are refused until it does"
            );
        }
        *refusal = Some(error);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.refusal.lock_ignoring_poison()
    }
}
