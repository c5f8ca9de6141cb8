//! When to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What tells the gateway to stop: SIGTERM or SIGINT, from the moment that this is made.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Begins to watch. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the operating system takes no signal handler.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Completes on the first signal.
    pub async fn requested(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
