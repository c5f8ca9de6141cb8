//! Renews certificates, trust anchors, sealing keys and the log level of a running gateway.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::server::{Reloaded, Reloads, TlsSettings};
use api::settings::{Settings, SettingsError, environment};
use api::signals::ReloadSignal;
use api::telemetry::LogLevel;
use engine::Engine;
use engine::seal::Keys;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between looks at the files.
const INTERVAL: Duration = Duration::from_secs(10);

/// The variable that overrides the log level.
const LOG_LEVEL: &str = "EFGS__LOG__LEVEL";

/// What distinguishes a file from what it was: inode, size and time of its last change. Of a symbolic link,
/// as mounted secrets are, those of its target.
type Stamp = Option<(u64, u64, i64, i64)>;

/// The files of a configuration, as they were before it was read.
#[derive(Debug, PartialEq, Eq)]
struct Stamps(Vec<(PathBuf, Stamp)>);

impl Stamps {
    fn of(files: &[PathBuf]) -> Self {
        let stamp = |path: &Path| {
            let metadata = fs::metadata(path).ok()?;
            let changed = (metadata.ctime(), metadata.ctime_nsec());
            Some((metadata.ino(), metadata.size(), changed.0, changed.1))
        };
        let stamps = files.iter().map(|path| (path.clone(), stamp(path)));
        Self(stamps.collect())
    }

    fn are_current(&self) -> bool {
        let files: Vec<_> = self.0.iter().map(|(path, _)| path.clone()).collect();
        *self == Self::of(&files)
    }
}

/// Where renewed certificates and keys go.
pub(super) struct Renewals {
    pub(super) tls: Option<watch::Sender<TlsSettings>>,
    pub(super) callback_identity: Option<watch::Sender<TlsSettings>>,
    pub(super) engine: Arc<Engine>,
    /// As the engine has it.
    pub(super) trust_anchor_pem: Mutex<String>,
    pub(super) log_level: LogLevel,
    pub(super) reloads: Reloads,
}

/// What was read again.
struct Renewed {
    tls: Option<TlsSettings>,
    callback_identity: Option<TlsSettings>,
    trust_anchor_pem: String,
    keys: Keys,
    /// An unusable one stops nothing else.
    log_level: Result<String, SettingsError>,
    stamps: Stamps,
}

/// Reads the configuration again on each SIGHUP, and within [`INTERVAL`] of a change of its files,
/// and passes on certificates, trust anchors, sealing keys and the log level. What cannot be read or used
/// changes nothing.
pub(super) async fn run(
    config: PathBuf,
    files: Vec<PathBuf>,
    mut signal: ReloadSignal,
    renewals: Renewals,
) {
    let mut last_error = None;
    let mut read = Some(Stamps::of(&files));
    let mut next_look = Instant::now() + INTERVAL;
    loop {
        let asked = tokio::select! {
            () = signal.received() => true,
            () = tokio::time::sleep_until(next_look) => false,
        };
        next_look = Instant::now() + INTERVAL;
        if !asked && read.as_ref().is_some_and(Stamps::are_current) {
            continue;
        }
        match renew(config.clone(), &renewals, asked).await {
            Ok(stamps) => {
                renewals.reloads.note(Reloaded::Configuration, None);
                (read, last_error) = (Some(stamps), None);
            }
            Err(error) => {
                // Perhaps files are just being replaced: they are read again at the next look, and the
                // same error is logged only once.
                read = None;
                let error = engine::chain(error.as_ref());
                if asked || last_error.as_ref() != Some(&error) {
                    tracing::error!(%error, "cannot reload certificates and keys: the previous ones stay in use");
                }
                let reloads = &renewals.reloads;
                reloads.note(Reloaded::Configuration, Some(error.clone()));
                last_error = Some(error);
            }
        }
    }
}

async fn renew(config: PathBuf, renewals: &Renewals, asked: bool) -> anyhow::Result<Stamps> {
    let renewed = tokio::task::spawn_blocking(move || load(&config)).await??;
    renew_log_level(renewals, renewed.log_level);
    send(renewals.tls.as_ref(), renewed.tls, asked);
    send(
        renewals.callback_identity.as_ref(),
        renewed.callback_identity,
        asked,
    );
    renew_trust_anchors(renewals, renewed.trust_anchor_pem, asked)?;
    let (engine, keys) = (Arc::clone(&renewals.engine), renewed.keys);
    tokio::task::spawn_blocking(move || renew_keys(&engine, &keys, asked)).await??;
    Ok(renewed.stamps)
}

fn renew_log_level(renewals: &Renewals, read: Result<String, SettingsError>) {
    let current = &renewals.log_level;
    let changed = read
        .map_err(|error| error.to_string())
        .and_then(|level| current.change(&level).map_err(|error| error.to_string()));
    let error = changed.err();
    if let Some(error) = &error {
        tracing::warn!(%error, "cannot change the log level: the former one stays in force");
    }
    renewals.reloads.note(Reloaded::LogLevel, error);
}

/// On SIGHUP also what has not changed, so that the log answers.
fn send(renewals: Option<&watch::Sender<TlsSettings>>, renewed: Option<TlsSettings>, asked: bool) {
    if let (Some(renewals), Some(renewed)) = (renewals, renewed) {
        renewals.send_if_modified(|current| {
            let changed = asked || *current != renewed;
            *current = renewed;
            changed
        });
    }
}

fn renew_trust_anchors(renewals: &Renewals, pem: String, asked: bool) -> anyhow::Result<()> {
    let mut anchors = renewals
        .trust_anchor_pem
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if asked || *anchors != pem {
        renewals.engine.renew_trust_anchors(&pem)?;
        *anchors = pem;
        tracing::info!("trust anchors reloaded");
    }
    Ok(())
}

/// Asks the database only when there is a reason.
fn renew_keys(engine: &Engine, keys: &Keys, asked: bool) -> anyhow::Result<()> {
    let before = engine.sealing_keys();
    if asked || before != keys.summary() {
        engine.renew_keys(keys)?;
        let (known, seals) = (keys.sealing_checks().len(), keys.newest_sealing_key());
        tracing::info!(known, seals, "sealing keys reloaded");
    }
    Ok(())
}

fn load(config: &Path) -> anyhow::Result<Renewed> {
    // Twice at the most: which files there are is known when they have been read.
    let (first, _) = load_settings(config)?;
    let stamps = Stamps::of(&first.files);
    let (settings, log_level) = load_settings(config)?;
    Ok(Renewed {
        log_level,
        tls: settings.public.map(|public| public.tls),
        callback_identity: settings.callback.identity,
        trust_anchor_pem: settings.engine.trust_anchor_pem,
        keys: settings.engine.keys,
        stamps,
    })
}

/// The settings, and the log level if it is one: settings that are good but for it are read with another.
fn load_settings(
    config: &Path,
) -> Result<(Settings, Result<String, SettingsError>), SettingsError> {
    match Settings::load(config, environment()) {
        Ok(settings) => {
            let level = settings.log.level.clone();
            Ok((settings, Ok(level)))
        }
        Err(error) => {
            let another = (LOG_LEVEL.into(), "info".into());
            let loaded = Settings::load(config, environment().chain([another]));
            let settings = loaded.map_err(|_| error.clone())?;
            Ok((settings, Err(error)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_a_file_that_is_written_replaced_removed_or_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        let files = ["written", "replaced", "removed", "made", "linked"].map(path);
        for file in &files[..3] {
            fs::write(file, "one").unwrap();
        }
        fs::write(path("first"), "one").unwrap();
        fs::write(path("second"), "one").unwrap();
        std::os::unix::fs::symlink(path("first"), path("linked")).unwrap();
        let before = |at: usize| Stamps::of(&files[at..=at]);
        let all = (0..5).map(before).collect::<Vec<_>>();
        assert!(all.iter().all(Stamps::are_current));
        fs::write(path("written"), "two").unwrap();
        fs::rename(path("second"), path("replaced")).unwrap();
        fs::remove_file(path("removed")).unwrap();
        fs::write(path("made"), "two").unwrap();
        fs::write(path("third"), "one").unwrap();
        fs::remove_file(path("linked")).unwrap();
        std::os::unix::fs::symlink(path("third"), path("linked")).unwrap();
        for (file, stamps) in files.iter().zip(&all) {
            assert!(!stamps.are_current(), "{}", file.display());
        }
    }
}
