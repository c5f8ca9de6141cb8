//! `efgs serve`: the gateway itself.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{anyhow, bail};
use api::server::{self, BoundAddresses, Readiness, Server, ServerSettings, TlsSettings};
use api::settings::{self, Settings, environment};
use api::signals::{ReloadSignal, StopSignal, StopSignals};
use api::telemetry::{self, LogLevel};
use clap::Args;
use engine::admin::Admin;
use engine::output::{self, OutputError};
use engine::settings::Settings as EngineSettings;
use engine::{Clock, Engine, StartProgress, SystemClock};
use tokio::sync::{oneshot, watch};

use super::config::ConfigArguments;
use super::peers::Peers;
use super::reload::Renewals;
use super::service_manager;

/// Run the gateway until it is stopped (SIGTERM, SIGQUIT or Ctrl-C)
///
/// Prints the addresses that it listens on, then `ready`; log lines go to standard error. The
/// environment overrides the configuration file: `EFGS__PUBLIC__LISTEN` sets `[public] listen`, and
/// so on for every setting. The operators' port answers at once; those of participants refuse
/// connections until the log is read. On SIGHUP, and within 10 seconds of a change of their files, the
/// certificates of the public port and of callbacks, the sealing keys and the log level are read again;
/// if the new ones cannot be used, the former ones stay. After SIGTERM, /ready answers 503 for a while
/// (`[operations] shutdown_delay_ms`) before connections are refused and the last requests end.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE, after_long_help = settings_help())]
pub(super) struct ServeArguments {
    #[command(flatten)]
    config: ConfigArguments,
}

const EXAMPLE: &str = "\
Examples:
  efgs serve --config demo/efgs.toml
  EFGS__DATABASE__URL=mysql://efgs:secret@db:3306/efgs efgs serve --config demo/efgs.toml";

/// The example, and every setting.
fn settings_help() -> String {
    let settings = settings::help();
    format!("{EXAMPLE}\n\nSettings, with their defaults and environment variables:\n{settings}")
}

pub(super) fn run(arguments: &ServeArguments) -> anyhow::Result<()> {
    let settings = Settings::load(&arguments.config.config, environment())?;
    // Dropped last, on every way out.
    let (_log_end, log_level) =
        telemetry::install(&settings.log, settings.gateway_name.as_deref())?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    server::collect_metrics()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow!("cannot start threads: {error}; raise the limit on threads"))?;
    let served = runtime.block_on(serve(arguments.config.config.clone(), settings, log_level));
    // A start that was broken off continues in its thread until the process ends.
    runtime.shutdown_background();
    served
}

/// Serves operators, starts the engine, serves participants, and stops when a signal comes.
async fn serve(config: PathBuf, settings: Settings, log_level: LogLevel) -> anyhow::Result<()> {
    // First of all: no signal may end the gateway in the middle.
    let mut stop = StopSignals::new().map_err(no_signals)?;
    let reload = ReloadSignal::new().map_err(no_signals)?;
    let mut server_settings = ServerSettings::from(&settings);
    let (tls, renewed_tls) = channel(&server_settings.tls);
    let (callback_identity, renewed) = channel(&server_settings.callback.identity);
    server_settings.renewed_tls = renewed_tls;
    server_settings.renewed_callback_identity = renewed;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let progress = Arc::new(StartProgress::default());
    let server = Server::open(server_settings, Arc::clone(&progress)).await?;
    let addresses = *server.addresses();
    say_listening("operations", addresses.operations)?;
    let trust_anchor_pem = settings.engine.trust_anchor_pem.clone();
    let starting = start(settings.engine, Arc::clone(&clock), Arc::clone(&progress))?;
    let engine = tokio::select! {
        started = starting => started.map_err(|_| anyhow!("the start failed; the log says why"))??,
        _ = stop.requested() => {
            tracing::info!("stopped before the start was complete");
            return Ok(());
        }
        never = service_manager::report_start(&progress) => match never {},
    };
    let renewals = Renewals {
        tls,
        callback_identity,
        engine: Arc::clone(&engine),
        trust_anchor_pem: Mutex::new(trust_anchor_pem),
        log_level,
    };
    tokio::spawn(super::reload::run(config, settings.files, reload, renewals));
    tokio::spawn(service_manager::answer_watchdog(Arc::clone(&engine)));
    let (mut said, mut peers) = (Ok(()), None);
    let bound = |addresses: &BoundAddresses| {
        service_manager::ready();
        peers = settings
            .practice
            .as_ref()
            .and_then(|practice| Peers::start(practice, addresses.public));
        said = say_ready(addresses);
    };
    let end = end(&engine, stop, server.readiness(), settings.shutdown_delay);
    let served = server.serve(Arc::clone(&engine), clock, bound, end).await;
    drop(peers);
    let failed = engine.status().failed;
    tokio::task::spawn_blocking(move || engine.shutdown()).await?;
    served?;
    if failed {
        bail!("a thread of the gateway panicked; see the log, and restart efgs");
    }
    said
}

/// How a certificate is renewed.
type Renewal = (
    Option<watch::Sender<TlsSettings>>,
    Option<watch::Receiver<TlsSettings>>,
);

fn channel(current: &Option<TlsSettings>) -> Renewal {
    current.clone().map(watch::channel).unzip()
}

/// Starts the engine in a thread of its own: it may take minutes, and be broken off by the end of the
/// process.
fn start(
    settings: EngineSettings,
    clock: Arc<dyn Clock>,
    progress: Arc<StartProgress>,
) -> anyhow::Result<oneshot::Receiver<anyhow::Result<Arc<Engine>>>> {
    let (started, starting) = oneshot::channel();
    let work = move || {
        let engine = Admin::schema_version(&settings.database)
            .and_then(|_| Engine::start_watched(settings, clock, &progress));
        // Fails when the gateway stops meanwhile.
        let _ = started.send(engine.map(Arc::new).map_err(Into::into));
    };
    std::thread::Builder::new()
        .name("start".to_owned())
        .spawn(work)
        .map_err(|error| anyhow!("cannot start threads: {error}; raise the limit on threads"))?;
    Ok(starting)
}

/// Completes when no more connections are to be accepted: after SIGTERM, when load balancers have had
/// time to notice; after any other signal, or when a thread of the engine has panicked, at once.
async fn end(engine: &Engine, mut stop: StopSignals, readiness: Readiness, delay: Duration) {
    let signal = tokio::select! {
        signal = stop.requested() => signal,
        () = failure(engine) => StopSignal::Now,
    };
    readiness.withdraw();
    service_manager::stopping();
    if signal == StopSignal::Terminate && !delay.is_zero() {
        tracing::info!(?delay, "about to shut down: not ready, and still serving");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = stop.requested() => {}
        }
    }
}

fn no_signals(error: io::Error) -> anyhow::Error {
    anyhow!("cannot watch for signals: {error}; start efgs another way")
}

/// Completes when a thread of the engine has panicked: the process ends, so that its supervisor
/// restarts it.
async fn failure(engine: &Engine) {
    while !engine.status().failed {
        tokio::time::sleep(FAILURE_INTERVAL).await;
    }
}

/// Between looks at whether the engine is whole.
const FAILURE_INTERVAL: Duration = Duration::from_millis(500);

/// A gateway serves on when nobody reads what it says.
fn say(line: impl fmt::Display) -> anyhow::Result<()> {
    match output::say(line) {
        Err(OutputError::Closed) => Ok(()),
        said => Ok(said?),
    }
}

fn say_ready(addresses: &BoundAddresses) -> anyhow::Result<()> {
    say_listening("public", addresses.public)?;
    say_listening("proxy", addresses.proxy)?;
    say("ready")
}

fn say_listening(name: &str, address: Option<SocketAddr>) -> anyhow::Result<()> {
    match address {
        Some(address) => say(format_args!("listening {name} {address}")),
        None => Ok(()),
    }
}
