//! The engine's threads: started, watched for panics, and joined in two groups.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam::channel::Sender;

use crate::failure::StartError;
use crate::locks::LockIgnoringPoison;

/// The threads of an engine.
#[derive(Debug)]
pub(super) struct Threads {
    /// They end when nothing is sent to them any more.
    workers: Mutex<Vec<JoinHandle<()>>>,
    /// They end when `stop` is dropped, after all others.
    background: Mutex<Vec<JoinHandle<()>>>,
    stop: Mutex<Option<Sender<()>>>,
    /// Whether one of them has panicked.
    failed: Arc<AtomicBool>,
}

impl Threads {
    /// Takes over the readers, which have been started. The background threads hold receivers of
    /// `stop`.
    pub(super) fn new(readers: Vec<JoinHandle<()>>, stop: Sender<()>) -> Self {
        Self {
            workers: Mutex::new(readers),
            background: Mutex::default(),
            stop: Mutex::new(Some(stop)),
            failed: Arc::default(),
        }
    }

    /// Starts a thread that ends when nothing is sent to it any more.
    pub(super) fn spawn(
        &self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let thread = spawn(name, &self.failed, work)?;
        self.workers.lock_ignoring_poison().push(thread);
        Ok(())
    }

    /// Starts a thread that ends after all others.
    pub(super) fn spawn_background(
        &self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let thread = spawn(name, &self.failed, work)?;
        self.background.lock_ignoring_poison().push(thread);
        Ok(())
    }

    /// Whether one of them has panicked: nothing but a restart helps.
    pub(super) fn have_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Waits for all of them: first for those that end by themselves.
    pub(super) fn join(&self) {
        let workers = std::mem::take(&mut *self.workers.lock_ignoring_poison());
        workers.into_iter().for_each(join);
        self.stop.lock_ignoring_poison().take();
        let background = std::mem::take(&mut *self.background.lock_ignoring_poison());
        background.into_iter().for_each(join);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the engine panicked");
    }
}

/// Starts a thread of the engine. A panic in it leaves the engine without a part of itself: it is
/// remembered, so that the process can end and be started again whole.
fn spawn(
    name: &str,
    failed: &Arc<AtomicBool>,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let failed = Arc::clone(failed);
    let guarded = move || {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            metrics::counter!("efgs_panics_total").increment(1);
            failed.store(true, Ordering::Release);
        }
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(guarded)
        .map_err(StartError::Threads)
}
