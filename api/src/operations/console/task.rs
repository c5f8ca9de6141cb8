//! The task of the console.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::history::STEP;
use super::state::Console;
use crate::lifecycle::Running;

/// How long a gateway that stops may take to write so into the database, where the others read it.
const LAST_WRITE_MAX: Duration = Duration::from_secs(1);

/// Samples, and asks the database in a thread of its own, until the shutdown signal; then writes that this gateway has stopped.
pub(crate) async fn run(console: Arc<Console>, mut shutdown: watch::Receiver<bool>) {
    let mut interval = tokio::time::interval(STEP);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asking: Option<JoinHandle<()>> = None;
    loop {
        let is_due = tokio::select! {
            _ = interval.tick() => true,
            () = console.looked.notified() => false,
            _ = shutdown.wait_for(|shutdown| *shutdown) => break,
        };
        if is_due {
            let console = Arc::clone(&console);
            // Fails only when it panics, and then tries again.
            let _ = tokio::task::spawn_blocking(move || console.sample()).await;
        }
        let is_idle = asking.as_ref().is_none_or(JoinHandle::is_finished);
        if is_idle && console.has_to_ask() {
            asking = Some(with_engine(&console, Console::ask_database));
        }
    }
    let last_write = with_engine(&console, |console, running| {
        if running.engine.status().database_available {
            console.announce(&running.engine, true);
        }
    });
    let _ = tokio::time::timeout(LAST_WRITE_MAX, last_write).await;
}

/// Runs something that waits for the database, once the engine runs.
fn with_engine(
    console: &Arc<Console>,
    work: impl FnOnce(&Console, &Running) + Send + 'static,
) -> JoinHandle<()> {
    let console = Arc::clone(console);
    tokio::task::spawn_blocking(move || {
        if let Some(running) = console.shown.lifecycle.running() {
            work(&console, running);
        }
    })
}
