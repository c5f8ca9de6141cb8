//! What `loadgen run` and `loadgen find-limit` measure, on a running gateway or a private one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use clap::Args;
use engine::clock::{Clock, SystemClock};
use engine::output::say;
use loadgen::client::{Protocol, Target};
use loadgen::config::Config;
use loadgen::load::{Experiment, LoadOptions, MEMORY_BYTES_MIN, Participants, Watch};
use loadgen::local::Installation;
use loadgen::profiles::Distribution;
use loadgen::results::{self, Authentication, Http, Machine, Run, Transport};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::block_in_place;

use super::conclusion::{Measured, SummaryFile};
use super::connection::{
    ConnectionArgs, LocalArg, beside_this_program, check_program, parse_targets,
};

/// Participants of a private gateway that has more than `efgs init` makes by itself: the European
/// Union and its neighbours, 60 in all, the headroom of sizing §1.
const SIXTY: [&str; 60] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT",
    "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK", "CH", "NO", "IS", "LI", "GB",
    "AD", "AL", "AM", "AX", "AZ", "BA", "BY", "FO", "GE", "GG", "GI", "GL", "IL", "IM", "JE", "MA",
    "MC", "MD", "ME", "MK", "RS", "RU", "SM", "TN", "TR", "UA", "VA", "XK",
];
/// Number of participants that `efgs init` makes by default.
const PARTICIPANTS_DEFAULT: usize = 27;

/// Where results go, and what is watched.
#[derive(Debug, Args)]
pub(super) struct MeasuringArgs {
    /// Write every second's figures to this file, for `loadgen report` and `loadgen plan`.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Write the run's summary to this file, as one JSON object: figures with units, and what became of
    /// the objectives.
    #[arg(long, value_name = "FILE")]
    summary_json: Option<PathBuf>,
    /// Start a private gateway on this database, watch both, and clean up.
    #[arg(long, value_enum, value_name = "DATABASE")]
    local: Option<LocalArg>,
    /// The gateway's program for --local [default: beside this one].
    #[arg(long, value_name = "PATH", requires = "local")]
    efgs: Option<PathBuf>,
    /// Keep the private gateway's folder here.
    #[arg(long, value_name = "DIR", requires = "local")]
    keep: Option<PathBuf>,
    /// Processes on this machine whose CPU time and memory are recorded, as
    /// gateway=PID,database=PID.
    #[arg(long, value_name = "NAME=PID", value_delimiter = ',', value_parser = parse_watch)]
    watch: Vec<(String, u32)>,
    /// The gateway's operations port, for figures of its stages, as http://HOST:PORT.
    #[arg(long, value_name = "URL")]
    metrics: Option<String>,
    /// Memory for uploads prepared ahead [default: half of the machine's].
    #[arg(long, value_name = "N")]
    memory_mib: Option<u64>,
}

fn parse_watch(text: &str) -> Result<(String, u32), String> {
    let parsed = text
        .split_once('=')
        .and_then(|(name, id)| Some((name.to_owned(), id.parse().ok()?)));
    parsed.ok_or_else(|| "write NAME=PID, as in gateway=4711".to_owned())
}

/// A gateway, and how to reach it.
pub(super) struct Environment {
    pub(super) installation: Option<Installation>,
    pki: PathBuf,
    targets: Vec<Target>,
    protocol: Protocol,
    watch: Watch,
    database: Option<String>,
}

/// What is run, by name.
pub(super) struct RunInputs<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
    pub(super) participants: usize,
    pub(super) distribution: Distribution,
    pub(super) seed: Option<u64>,
    pub(super) record: Option<PathBuf>,
    pub(super) summary_file: Option<SummaryFile>,
}

impl MeasuringArgs {
    /// Whether the gateway is to be watched, or started.
    pub(super) const fn is_wanted(&self) -> bool {
        self.results.is_some() || self.local.is_some()
    }

    /// Whether the gateway's metrics are read.
    pub(super) const fn asks_for_metrics(&self) -> bool {
        self.metrics.is_some() || self.local.is_some()
    }

    /// The file of the summary, made at once.
    pub(super) fn summary_file(&self) -> anyhow::Result<Option<SummaryFile>> {
        let path = self.summary_json.as_deref();
        path.map(SummaryFile::create).transpose()
    }

    pub(super) fn environment(
        &self,
        connection: &ConnectionArgs,
        config: &Config,
        participants: usize,
    ) -> anyhow::Result<Environment> {
        let protocol = connection.protocol();
        let Some(database) = self.local else {
            return self.existing_gateway(connection, config, protocol);
        };
        ensure!(
            connection.target.is_empty() && connection.pki.is_none(),
            "--local starts a private gateway: give neither --target nor --pki"
        );
        let program = match &self.efgs {
            Some(path) => path.clone(),
            None => beside_this_program()?,
        };
        check_program(&program)?;
        let names = &SIXTY[..participants.clamp(1, SIXTY.len())];
        let names = if participants <= PARTICIPANTS_DEFAULT {
            &[]
        } else {
            names
        };
        let label = match database {
            LocalArg::Sqlite => "SQLite",
            LocalArg::Mysql => "MariaDB",
            LocalArg::Galera => "Galera",
        };
        let keep = self.keep.as_deref();
        let installation =
            block_in_place(|| Installation::start(&program, database.into(), keep, names))?;
        Ok(Environment {
            pki: installation.pki(),
            targets: vec![installation.gateway().target()],
            protocol,
            watch: watch_local(&installation),
            database: Some(label.to_owned()),
            installation: Some(installation),
        })
    }

    fn existing_gateway(
        &self,
        connection: &ConnectionArgs,
        config: &Config,
        protocol: Protocol,
    ) -> anyhow::Result<Environment> {
        let operations = self.metrics.as_ref().map(|url| {
            let url = url.trim_end_matches('/').trim_end_matches("/metrics");
            Target::parse(url)
        });
        let operations = operations.transpose()?;
        ensure!(
            !operations.as_ref().is_some_and(|target| target.tls),
            "the operations port does not use TLS: write --metrics http://HOST:PORT"
        );
        Ok(Environment {
            installation: None,
            pki: connection.pki(config)?.to_owned(),
            targets: parse_targets(&connection.targets(config)?)?,
            protocol,
            watch: Watch {
                processes: self.watch.iter().cloned().collect(),
                operations,
                database_files: Vec::new(),
            },
            database: None,
        })
    }

    fn memory_bytes(&self) -> u64 {
        let given = self.memory_mib.map(|mib| mib << 20);
        given.unwrap_or_else(|| (Machine::here().memory_bytes / 2).max(MEMORY_BYTES_MIN))
    }

    pub(super) fn experiment(
        &self,
        environment: &Environment,
        connection: &ConnectionArgs,
        inputs: RunInputs<'_>,
    ) -> anyhow::Result<Measured> {
        let RunInputs {
            name,
            text,
            participants: wanted,
            distribution,
            seed,
            record,
            summary_file,
        } = inputs;
        let participants =
            Participants::read(&environment.pki, wanted, distribution, environment.protocol)?;
        if participants.len() < wanted {
            say(format_args!(
                "note: {name} needs {wanted} participants, and the PKI folder has {}: \
                 `efgs init --participants` makes more",
                participants.len()
            ))?;
        }
        // A private gateway is fresh; any other may have the keys of an earlier run, and would
        // only see a replay.
        let fresh = environment.installation.is_some();
        let seed = seed.unwrap_or_else(|| {
            if fresh {
                1
            } else {
                SystemClock.now().seconds()
            }
        });
        say(format_args!(
            "{name}, seed {seed}, {} participants",
            participants.len()
        ))?;
        let run = Description {
            name,
            text,
            seed,
            targets: &environment.targets,
            protocol: environment.protocol,
            database: environment.database.as_deref(),
        }
        .run();
        let options = LoadOptions {
            targets: environment.targets.clone(),
            timeout: Duration::from_secs(connection.timeout_seconds),
            seed,
            memory_bytes_max: self.memory_bytes(),
            watch: environment.watch.clone(),
            results: self.results.clone().map(|path| (path, run.clone())),
            record,
            name: name.to_owned(),
            text: text.to_owned(),
        };
        Ok(Measured {
            experiment: Experiment::new(participants, options)?,
            run,
            summary_file,
        })
    }
}

pub(super) fn watch_local(installation: &Installation) -> Watch {
    let gateway = installation.gateway();
    let database = installation
        .database()
        .and_then(|server| server.process_id());
    let named = [("gateway", gateway.process_id()), ("database", database)];
    let processes: BTreeMap<_, _> = named
        .into_iter()
        .filter_map(|(name, id)| Some((name.to_owned(), id?)))
        .collect();
    let operations = gateway.operations();
    Watch {
        processes,
        operations: Some(Target {
            tls: false,
            host: operations.ip().to_string(),
            port: operations.port(),
        }),
        database_files: vec![installation.database_files()],
    }
}

/// What the first line of the results says of a run.
pub(super) struct Description<'a> {
    pub(super) name: &'a str,
    /// The scenario in TOML; empty without one.
    pub(super) text: &'a str,
    pub(super) seed: u64,
    pub(super) targets: &'a [Target],
    pub(super) protocol: Protocol,
    /// Of a private gateway.
    pub(super) database: Option<&'a str>,
}

impl Description<'_> {
    /// With this machine, now.
    pub(super) fn run(&self) -> Run {
        let tls = self.targets.iter().all(|target| target.tls);
        let started = i64::try_from(SystemClock.now().seconds())
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .and_then(|time| time.format(&Rfc3339).ok());
        Run {
            version: results::VERSION,
            name: self.name.to_owned(),
            scenario: self.text.to_owned(),
            seed: self.seed,
            started: started.unwrap_or_default(),
            machine: Machine::here(),
            targets: self.targets.iter().map(Target::to_string).collect(),
            transport: Transport {
                authentication: if tls {
                    Authentication::Mtls
                } else {
                    Authentication::Proxy
                },
                http: match self.protocol {
                    Protocol::Http1 => Http::Http1,
                    Protocol::Http2 => Http::Http2,
                },
            },
            database: self.database.map(str::to_owned),
            command: std::env::args().collect(),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("EFGS_COMMIT").map(str::to_owned),
        }
    }
}

/// Stops the work on SIGINT or SIGTERM, so that the caller can clean up.
pub(super) async fn unless_interrupted<T>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => Err(anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow!("interrupted")),
    }
}

/// Stops the private gateway.
pub(super) fn end(mut environment: Environment) -> anyhow::Result<()> {
    if let Some(installation) = &mut environment.installation {
        block_in_place(|| installation.terminate())?;
    }
    Ok(())
}
