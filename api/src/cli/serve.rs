//! `efgs serve`: the gateway itself.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::anyhow;
use api::settings::{Settings, environment, variables};
use clap::Args;
use engine::{Clock, Engine, SystemClock};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{ConfigArguments, log, say};

/// Run the gateway until it is told to stop (SIGTERM or Ctrl-C)
///
/// Prints the addresses that it listens on, then `ready`; log lines go to standard error. The
/// environment overrides the configuration file: `EFGS__PUBLIC__LISTEN` stands for
/// [public] listen, and so on for every setting.
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
    let mut help = format!("{EXAMPLE}\n\nSettings, as `efgs init` explains them in its efgs.toml:");
    for variable in variables() {
        help.push_str("\n  ");
        help.push_str(&variable);
    }
    help
}

pub(super) fn run(arguments: &ServeArguments) -> anyhow::Result<()> {
    let settings = Settings::load(&arguments.config.config, environment())?;
    log::start(&settings.log)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let engine = Engine::start(settings.engine.clone(), Arc::clone(&clock))?;
    let engine = Arc::new(engine);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow!("cannot start threads: {error}; raise the limit on threads"))?;
    let served = runtime.block_on(serve(&engine, &clock, &settings));
    engine.shutdown();
    served
}

/// Listens, says where, and answers until a signal comes.
async fn serve(
    engine: &Arc<Engine>,
    clock: &Arc<dyn Clock>,
    settings: &Settings,
) -> anyhow::Result<()> {
    let mut stop = StopSignals::new()?;
    let public = listen(
        "public",
        settings.public.as_ref().map(|public| public.listen),
    )
    .await?;
    let proxy = listen("proxy", settings.proxy.as_ref().map(|proxy| proxy.listen)).await?;
    let operations = listen("operations", settings.operations_listen).await?;
    // The HTTP server is joined here: it takes the three listeners.
    let _joined = (engine, clock, public, proxy, operations);
    say("ready")?;
    stop.wait().await;
    Ok(())
}

/// Opens a port and says which.
async fn listen(name: &str, address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address).await.map_err(|error| {
        anyhow!("cannot listen on {address}: {error}; set [{name}] listen to a free address")
    })?;
    say(format_args!("listening {name} {}", listener.local_addr()?))?;
    Ok(Some(listener))
}

/// What tells the gateway to stop.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).map_err(|error| anyhow!("cannot watch for signals: {error}"));
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
