//! `efgs serve`: the gateway itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use api::server::{self, BoundAddresses, ServerSettings};
use api::settings::{self, Settings, environment};
use api::signals::{ReloadSignal, StopSignals};
use api::telemetry;
use clap::Args;
use engine::admin::Admin;
use engine::{Clock, Engine, SystemClock};
use tokio::sync::watch;

use super::config::ConfigArguments;
use super::output::say;

/// Run the gateway until it is told to stop (SIGTERM, SIGQUIT or Ctrl-C)
///
/// Prints the addresses that it listens on, then `ready`; log lines go to standard error. The
/// environment overrides the configuration file: `EFGS__PUBLIC__LISTEN` sets `[public] listen`, and
/// so on for every setting. On SIGHUP, and within 10 seconds of a change of their files, the TLS
/// certificate and its key are read again; if the new ones cannot be used, the former ones stay.
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
    let _log_end = telemetry::install(&settings.log)?;
    server::collect_metrics()?;
    Admin::schema_version(&settings.engine.database)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow!("cannot start threads: {error}; raise the limit on threads"))?;
    // Before the engine, which may take long to start: SIGHUP must not end the gateway meanwhile.
    let reload = runtime
        .block_on(async { ReloadSignal::new() })
        .map_err(no_signals)?;
    let engine = Engine::start(settings.engine.clone(), Arc::clone(&clock))?;
    let engine = Arc::new(engine);
    if engine.status().certificates == 0 {
        tracing::warn!("no certificate is listed: nobody can connect or sign; use efgs cert add");
    }
    let mut server = ServerSettings::from(&settings);
    if let Some(tls) = &server.tls {
        let (sender, renewed) = watch::channel(tls.clone());
        server.renewed_tls = Some(renewed);
        runtime.spawn(super::reload::run(
            arguments.config.config.clone(),
            reload,
            sender,
        ));
    }
    let served = runtime.block_on(serve(&engine, clock, server));
    engine.shutdown();
    served
}

/// Listens, says where, and answers until a signal comes.
async fn serve(
    engine: &Arc<Engine>,
    clock: Arc<dyn Clock>,
    settings: ServerSettings,
) -> anyhow::Result<()> {
    let stop = StopSignals::new().map_err(no_signals)?;
    let mut said = Ok(());
    let bound = |addresses: &BoundAddresses| said = say_where(addresses);
    let end = async {
        tokio::select! {
            () = stop.requested() => {}
            () = failure(engine) => {}
        }
    };
    server::serve(Arc::clone(engine), clock, settings, bound, end).await?;
    if engine.status().failed {
        bail!("a part of the gateway has failed, as the log says: start efgs again");
    }
    said
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

fn say_where(addresses: &BoundAddresses) -> anyhow::Result<()> {
    let ports = [
        ("public", addresses.public),
        ("proxy", addresses.proxy),
        ("operations", addresses.operations),
    ];
    for (name, address) in ports {
        if let Some(address) = address {
            say(format_args!("listening {name} {address}"))?;
        }
    }
    say("ready")
}
