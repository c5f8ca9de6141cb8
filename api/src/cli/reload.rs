//! Renews the TLS certificate of a running gateway.

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::server::TlsSettings;
use api::settings::{Settings, environment};
use api::signals::ReloadSignal;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between looks at the files.
const INTERVAL: Duration = Duration::from_secs(10);

/// Reads the configuration again on each SIGHUP and every [`INTERVAL`], and sends the TLS certificate
/// and key when they have changed. A configuration that cannot be read changes nothing.
pub(super) async fn run(
    config: PathBuf,
    mut signal: ReloadSignal,
    renewed: watch::Sender<TlsSettings>,
) {
    let mut last_error = None;
    let mut next_look = Instant::now() + INTERVAL;
    loop {
        let asked = tokio::select! {
            () = signal.received() => true,
            () = tokio::time::sleep_until(next_look) => false,
        };
        next_look = Instant::now() + INTERVAL;
        match read(config.clone()).await {
            Ok(Some(tls)) => {
                last_error = None;
                // On SIGHUP also when nothing has changed, so that the log answers.
                let send = |current: &mut TlsSettings| {
                    let changed = asked || *current != tls;
                    *current = tls;
                    changed
                };
                renewed.send_if_modified(send);
            }
            Ok(None) => {}
            Err(error) => {
                let error = engine::chain(error.as_ref());
                // Perhaps files are just being replaced: the same error is logged only once.
                if asked || last_error.as_ref() != Some(&error) {
                    tracing::error!(%error, "cannot read the configuration again: nothing changes");
                }
                last_error = Some(error);
            }
        }
    }
}

/// The certificate and key of the public port, if there is one.
async fn read(config: PathBuf) -> anyhow::Result<Option<TlsSettings>> {
    let load = move || load(&config);
    tokio::task::spawn_blocking(load).await?
}

fn load(config: &Path) -> anyhow::Result<Option<TlsSettings>> {
    let settings = Settings::load(config, environment())?;
    Ok(settings.public.map(|public| public.tls))
}
