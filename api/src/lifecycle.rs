//! Where the gateway is between its start and its end: for `/ready`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use engine::{Clock, Engine, StartProgress};

use crate::bounds::Bounds;

/// The engine, from when it runs on, and whether the gateway is about to stop.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    progress: Arc<StartProgress>,
    running: OnceLock<Running>,
    is_stopping: AtomicBool,
}

/// What runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Those of the server before it.
    pub(crate) bounds: Bounds,
}

impl Lifecycle {
    pub(crate) fn new(progress: Arc<StartProgress>) -> Self {
        Self {
            progress,
            running: OnceLock::new(),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// How far the engine has come with its start.
    pub(crate) fn progress(&self) -> &StartProgress {
        &self.progress
    }

    /// The engine runs. Only the first counts.
    pub(crate) fn started(&self, running: Running) {
        // A server serves one engine.
        let _ = self.running.set(running);
    }

    pub(crate) fn running(&self) -> Option<&Running> {
        self.running.get()
    }

    /// Not ready any more, whatever is still served.
    pub(crate) fn stopping(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }
}
