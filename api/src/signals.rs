//! The signals of the process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM, from a service manager: whoever sends us requests may have yet to notice.
    Terminate,
    /// SIGINT or SIGQUIT, from a user at a terminal: at once.
    Now,
}

/// Listens for SIGTERM, SIGINT and SIGQUIT from its creation on: each starts a graceful shutdown.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl StopSignals {
    /// Registers the signal handlers. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the operating system accepts no signal handler.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Completes on the next signal.
    pub async fn requested(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Now,
            _ = self.quit.recv() => StopSignal::Now,
        }
    }
}

/// Listens for SIGHUP from its creation on: each asks for a reload.
#[derive(Debug)]
pub struct ReloadSignal(Signal);

impl ReloadSignal {
    /// Registers the signal handlers. Needs a tokio runtime. SIGUSR1 and SIGUSR2 are caught, too,
    /// and ignored: a log rotation that sends one must not end the gateway, which is the system's
    /// default action.
    ///
    /// # Errors
    /// When the operating system accepts no signal handler.
    pub fn new() -> io::Result<Self> {
        for without_meaning in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
            // The handler stays for the life of the process, whatever becomes of the stream.
            drop(signal(without_meaning)?);
        }
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Completes on the next signal.
    pub async fn received(&mut self) {
        // `None` means that no further signal can come: there is nothing to do any more.
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
