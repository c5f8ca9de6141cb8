//! The tasks of HTTP/2 streams, so that one of them can be ended: hyper polls a response body only
//! when the peer's window is open, and has no other way to reset a stream.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use hyper::rt::Executor;
use tokio::task::AbortHandle;

tokio::task_local! {
    static CURRENT: StreamTask;
}

/// The task that answers one stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamTask(Arc<OnceLock<AbortHandle>>);

impl StreamTask {
    /// The task that is running; none on HTTP/1, where the connection's task answers.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// Drops the stream's half of the connection, which resets the stream. False if it is gone: then
    /// it has handed over all of its answer.
    pub(crate) fn end(&self) -> bool {
        let running = self.0.get().filter(|task| !task.is_finished());
        running.inspect(|task| task.abort()).is_some()
    }
}

/// Spawns each stream as a [`StreamTask`].
#[derive(Debug, Clone)]
pub(crate) struct StreamExecutor;

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        let task = StreamTask::default();
        let spawned = tokio::spawn(CURRENT.scope(task.clone(), stream));
        // Set once, here.
        let _ = task.0.set(spawned.abort_handle());
    }
}
