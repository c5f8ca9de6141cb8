//! What systemd, or another service manager, is told: `sd_notify(3)`. Without one, nothing is sent.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, StartProgress};
use sd_notify::NotifyState;

/// Between reports of a start. Each asks for [`START_EXTENSION`] more: a start takes as long as the
/// log is, and is not to be taken for one that hangs.
const START_REPORT_INTERVAL: Duration = Duration::from_secs(2);
const START_EXTENSION: NotifyState<'_> = NotifyState::ExtendTimeoutUsec(60_000_000);

/// Reports how far the start is, until it is dropped.
pub(super) async fn report_start(progress: &StartProgress) -> Infallible {
    loop {
        let status = match (progress.keys_read(), progress.keys_expected()) {
            (_, 0) => "starting: opening the database".to_owned(),
            (read, expected) => format!("starting: {read} of {expected} keys read"),
        };
        tell(&[START_EXTENSION, NotifyState::Status(&status)]);
        tokio::time::sleep(START_REPORT_INTERVAL).await;
    }
}

/// Every port listens.
pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("ready")]);
}

/// A stop begins; its end takes `delay` and what the last requests take.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Answers the watchdog while the engine is whole, twice in the time that it waits. A gateway whose
/// threads hang does not, and is started anew.
pub(super) async fn answer_watchdog(engine: Arc<Engine>) {
    let Some(waits) = sd_notify::watchdog_enabled() else {
        return;
    };
    while !engine.status().failed {
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(waits / 2).await;
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the service manager: look at NOTIFY_SOCKET");
    }
}
