//! `loadgen run --scenario` and `loadgen find-limit`, against a running gateway or a private one.

use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{anyhow, bail, ensure};
use clap::Args;
use engine::clock::{Clock, SystemClock};
use loadgen::client::{Protocol, Target};
use loadgen::config::Config;
use loadgen::find_limit::{FindLimitOptions, Objective, Search};
use loadgen::load::{Experiment, LoadOptions, MEMORY_BYTES_MIN, Participants, Watch};
use loadgen::local::Installation;
use loadgen::profiles::Distribution;
use loadgen::results::{self, Authentication, Http, Machine, Run, Summary, Transport};
use loadgen::scenario::Scenario;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::block_in_place;

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
struct Environment {
    installation: Option<Installation>,
    pki: PathBuf,
    targets: Vec<Target>,
    protocol: Protocol,
    watch: Watch,
    database: Option<String>,
}

/// What is run, by name.
struct RunInputs<'a> {
    name: &'a str,
    text: &'a str,
    participants: usize,
    distribution: Distribution,
    seed: Option<u64>,
    record: Option<PathBuf>,
}

impl MeasuringArgs {
    /// Whether any of it was given.
    pub(super) const fn is_wanted(&self) -> bool {
        self.results.is_some() || self.local.is_some()
    }

    fn environment(
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

    fn experiment(
        &self,
        environment: &Environment,
        connection: &ConnectionArgs,
        inputs: RunInputs<'_>,
    ) -> anyhow::Result<Experiment> {
        let RunInputs {
            name,
            text,
            participants: wanted,
            distribution,
            seed,
            record,
        } = inputs;
        let participants =
            Participants::read(&environment.pki, wanted, distribution, environment.protocol)?;
        if participants.len() < wanted {
            writeln!(
                stdout(),
                "note: {name} needs {wanted} participants, and the PKI folder has {}: \
                 `efgs init --participants` makes more",
                participants.len()
            )?;
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
        writeln!(
            stdout(),
            "{name}, seed {seed}, {} participants",
            participants.len()
        )?;
        let run = || describe(environment, name, text, seed);
        let options = LoadOptions {
            targets: environment.targets.clone(),
            timeout: Duration::from_secs(connection.timeout_seconds),
            seed,
            memory_bytes_max: self.memory_bytes(),
            watch: environment.watch.clone(),
            results: self.results.clone().map(|path| (path, run())),
            record,
            name: name.to_owned(),
            text: text.to_owned(),
        };
        Ok(Experiment::new(participants, options)?)
    }
}

fn watch_local(installation: &Installation) -> Watch {
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

fn describe(environment: &Environment, name: &str, text: &str, seed: u64) -> Run {
    let tls = environment.targets.iter().all(|target| target.tls);
    let started = i64::try_from(SystemClock.now().seconds())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok());
    Run {
        version: results::VERSION,
        name: name.to_owned(),
        scenario: text.to_owned(),
        seed,
        started: started.unwrap_or_default(),
        machine: Machine::here(),
        targets: environment.targets.iter().map(Target::to_string).collect(),
        transport: Transport {
            authentication: if tls {
                Authentication::Mtls
            } else {
                Authentication::Proxy
            },
            http: match environment.protocol {
                Protocol::Http1 => Http::Http1,
                Protocol::Http2 => Http::Http2,
            },
        },
        database: environment.database.clone(),
        command: std::env::args().collect(),
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: option_env!("EFGS_COMMIT").map(str::to_owned),
    }
}

/// Stops the work on SIGINT or SIGTERM, so that the caller can clean up.
async fn unless_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => Err(anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow!("interrupted")),
    }
}

/// Runs a scenario; returns whether every response was expected.
pub(super) async fn run_scenario(
    name: &str,
    measuring: &MeasuringArgs,
    connection: &ConnectionArgs,
    config: &Config,
    seed: Option<u64>,
    record: Option<PathBuf>,
) -> anyhow::Result<bool> {
    let scenario = Scenario::find(name)?;
    let mut environment = measuring.environment(connection, config, scenario.participants)?;
    let inputs = RunInputs {
        name: &scenario.name,
        text: &scenario.text,
        participants: scenario.participants,
        distribution: scenario.distribution,
        seed: seed.or(config.seed),
        record,
    };
    let experiment = measuring.experiment(&environment, connection, inputs)?;
    let done = unless_interrupted(run_phases(&scenario, experiment, &mut environment)).await;
    end(environment)?;
    done
}

async fn run_phases(
    scenario: &Scenario,
    mut experiment: Experiment,
    environment: &mut Environment,
) -> anyhow::Result<bool> {
    for phase in &scenario.phases {
        let mut summary = experiment.phase(phase).await?;
        if let Some(installation) = environment.installation.as_mut().filter(|_| phase.restart) {
            let took = block_in_place(|| installation.restart_gateway())?;
            experiment.note_restart(took);
            summary.restart_seconds = Some(took.as_secs_f64());
            experiment.watch(watch_local(installation));
        }
        write!(stdout(), "\n{summary}")?;
    }
    conclude(experiment, None)
}

/// Prints the summary; returns whether every response was expected.
fn conclude(experiment: Experiment, limit: Option<results::Limit>) -> anyhow::Result<bool> {
    let unexpected = experiment.unexpected_responses();
    let summary: Summary = experiment.finish(limit)?;
    writeln!(stdout(), "\n{summary}")?;
    for (what, response) in &unexpected {
        writeln!(
            stdout(),
            "unexpected: {} x {what}: {}",
            response.count,
            response.example
        )?;
    }
    Ok(unexpected.is_empty())
}

fn end(mut environment: Environment) -> anyhow::Result<()> {
    if let Some(installation) = &mut environment.installation {
        block_in_place(|| installation.terminate())?;
    }
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct FindLimitArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    measuring: MeasuringArgs,
    /// Latency objective, from the scheduled arrival to 201: p50, p90, p99, p99.9 or max.
    #[arg(long, value_name = "PERCENTILE=TIME", default_value = "p99=250ms")]
    objective: Objective,
    /// Share of the uploads that may be answered other than with 201.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    errors_max: f64,
    /// Uploads per second of the first step.
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    start: f64,
    /// Length of a step, in seconds.
    #[arg(long, value_name = "S", default_value_t = 15)]
    step_seconds: u64,
    /// Stop when the highest rate that held and the lowest that failed differ by at most this
    /// share.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    precision: f64,
    /// Keys per upload.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    upload_keys: u32,
    /// Participants that take part, the most populous first.
    #[arg(long, value_name = "N", default_value_t = 27)]
    participants: usize,
    /// Connections per participant, each with one upload in flight.
    #[arg(long, value_name = "N", default_value_t = 2)]
    connections: usize,
    /// Seed of every key and every arrival.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl FindLimitArgs {
    pub(super) async fn run(self) -> anyhow::Result<bool> {
        let options = self.options()?;
        let config = self.connection.config()?;
        let environment =
            self.measuring
                .environment(&self.connection, &config, self.participants)?;
        let text = format!(
            "# {} with at most {} errors, steps of {} s, {} keys in an upload\n",
            options.objective, options.errors_max, self.step_seconds, options.upload_keys
        );
        let inputs = RunInputs {
            name: "find-limit",
            text: &text,
            participants: self.participants,
            distribution: Distribution::Even,
            seed: self.seed.or(config.seed),
            record: None,
        };
        let experiment = self
            .measuring
            .experiment(&environment, &self.connection, inputs)?;
        let done = unless_interrupted(search(&options, experiment)).await;
        end(environment)?;
        done
    }

    fn options(&self) -> anyhow::Result<FindLimitOptions> {
        ensure!(
            self.start > 0.0 && self.step_seconds > 0 && self.precision > 0.0,
            "--start, --step-seconds and --precision must be more than 0"
        );
        if self.upload_keys == 0 || self.connections == 0 || self.participants == 0 {
            bail!("--upload-keys, --connections and --participants must be at least 1");
        }
        Ok(FindLimitOptions {
            objective: self.objective.clone(),
            errors_max: self.errors_max,
            start: self.start,
            step: Duration::from_secs(self.step_seconds),
            precision: self.precision,
            upload_keys: self.upload_keys,
            connections: self.connections,
        })
    }
}

async fn search(options: &FindLimitOptions, mut experiment: Experiment) -> anyhow::Result<bool> {
    writeln!(
        stdout(),
        "{:>12} {:>12} {:>10} {:>10} {:>10}  {}",
        "uploads/s",
        "keys/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        options.objective
    )?;
    let mut search = Search::new(options.start, options.precision);
    let mut number = 0;
    while let Some(rate) = search.next() {
        number += 1;
        let mut phase = options.phase(number, rate);
        phase.ahead = experiment.fits(&phase);
        let step = experiment.phase(&phase).await?;
        let broke = options.broken_by(&step);
        let latency = step
            .all
            .upload
            .map(|upload| upload.corrected)
            .unwrap_or_default();
        let [p50, p99, max] = [latency.p50, latency.p99, latency.max]
            .map(|micros| Duration::from_micros(micros).as_secs_f64() * 1000.0);
        writeln!(
            stdout(),
            "{rate:>12.1} {:>12.0} {p50:>10.1} {p99:>10.1} {max:>10.1}  {}",
            rate * f64::from(options.upload_keys),
            broke.as_deref().unwrap_or("held")
        )?;
        search.tell(rate, broke);
    }
    ensure!(
        number > 0,
        "--start must be between 0.1 and 100000 uploads per second"
    );
    conclude(experiment, Some(search.limit(options)))
}

/// The built-in scenarios, for `--help`.
pub(super) fn list_scenarios() -> String {
    let lines = Scenario::shipped().map(|(name, what)| format!("  {name:<18} {what}"));
    lines.collect::<Vec<_>>().join("\n")
}
