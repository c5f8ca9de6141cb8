//! `loadgen run`: a profile's day, a constant rate, or a scenario.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use engine::output::{print, say};
use loadgen::client::Target;
use loadgen::config::Config;
use loadgen::load::{RunOptions, prepared_phase, send_prepared};
use loadgen::objective::{Measure, Objective};
use loadgen::quantity::{read_scaled, read_seconds};
use loadgen::record::RecordWriter;
use loadgen::scenario::{ConstantRate, Phase, Scenario};
use loadgen::steps;
use tokio::task::block_in_place;

use super::conclusion::{Measured, conclude, delay_limit, status};
use super::connection::ConnectionArgs;
use super::load::{
    Description, Environment, MeasuringArgs, RunInputs, end, unless_interrupted, watch_local,
};
use super::status::Status;
use super::volume::VolumeArgs;

pub(super) const EXAMPLES: &str = "Examples:
  efgs init --dir run && efgs serve --config run/efgs.toml
  loadgen run --pki run/pki --target https://localhost:8443 --profile planning-2020 --seed 1
  loadgen run --pki run/pki --target https://localhost:8443 --profile worst-day --keys 500000 \\
      --seed 7 --connections 2 --record run/record.jsonl
  loadgen run --pki run/pki --target https://localhost:8443 --rate 20 --duration 5m \\
      --objective upload_p99=2s,errors=0.1% --summary-json summary.json

A profile's day is sent as fast as the gateway takes it, once. The same seed on the same day is the
same run: repeating it is a replay, which is answered 201. With --rate uploads of the profile's size
become due at equal distances, however slow the answers; latencies count from the moment at which
each was due.

Exit status: 0 when all is well, 1 when an answer was not as expected, 2 when the run failed, 99 when
an objective was missed.";

const OBJECTIVES: &str = "Objectives, as [PHASE/]NAME=LIMIT:
  upload_p99=2s, download_p99=5s   latency at most; also p50, p90, p99.9 and max
  delay_p99=5s                     from accepting an upload until it can be downloaded, at most, by the
                                   gateway's metrics, whose steps are 0.5, 1, 2, 3, 5, 10, 30, 60 s …
  errors=0.1%                      requests not answered as expected, or never sent, at most
  rate=50                          uploads stored per second, at least
  key_rate=250k                    keys stored per second, at least
  delivery_rate=5M                 keys delivered per second, at least";

const SCENARIO_EXAMPLES: &str = "With a scenario:
  loadgen run --scenario steady --local mysql --results steady.jsonl
  loadgen run --scenario steady --local sqlite --objective steady/upload_p99=100ms
  loadgen run --scenario mine.toml --pki run/pki --target https://localhost:8443 \\
      --watch gateway=4711 --metrics http://127.0.0.1:9090 --results mine.jsonl

loadgen/scenarios/steady.toml explains how scenarios are written. Scenarios that come with the
program:
";

/// Duration of a run at a constant rate, in seconds, unless it is given.
const DURATION_S: f64 = 60.0;
/// How long an upload of a profile's day is retried, in seconds, unless it is given.
const RETRY_S: u64 = 60;

pub(super) fn long_help() -> String {
    let lines = Scenario::shipped().map(|(name, what)| format!("  {name:<18} {what}"));
    let scenarios = lines.collect::<Vec<_>>().join("\n");
    format!("{EXAMPLES}\n\n{OBJECTIVES}\n\n{SCENARIO_EXAMPLES}{scenarios}")
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    volume: VolumeArgs,
    /// Upload at this constant rate instead of a day at once: uploads per second of all participants
    /// together.
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    rate: Option<f64>,
    /// How long uploads become due at --rate, as 90s, 5m or 1h [default: 60s].
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<f64>,
    /// What the run must reach, as `upload_p99=2s` or `errors=0.1%` (--help lists them); may be
    /// repeated. The exit status is 99 when it does not.
    #[arg(long, value_name = "NAME=LIMIT", value_delimiter = ',')]
    objective: Vec<Objective>,
    /// Write what was sent and answered to this file, for `loadgen verify`.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// How long an upload is retried after 429, 503 and broken connections, in seconds; a scenario
    /// sets this itself [default: 60; with --rate 0].
    #[arg(long, value_name = "S")]
    retry_seconds: Option<u64>,
    /// Run a scenario instead of a profile: a name (see --help) or a file.
    #[arg(long, value_name = "NAME|FILE", conflicts_with_all = ["profile", "keys", "connections"])]
    scenario: Option<String>,
    #[command(flatten)]
    measuring: MeasuringArgs,
}

fn parse_rate(text: &str) -> Result<f64, &'static str> {
    let rate = read_scaled(text).filter(|rate| (0.001..=1e6).contains(rate));
    rate.ok_or("write uploads per second, from 0.001 to 1000000, as 20 or 0.5")
}

fn parse_duration(text: &str) -> Result<f64, &'static str> {
    let seconds = read_seconds(text).filter(|seconds| (1.0..=7.0 * 86_400.0).contains(seconds));
    seconds.ok_or("write a number and a unit, from 1s to a week, as 90s, 5m or 1h")
}

impl RunArgs {
    pub(super) async fn run(self) -> anyhow::Result<Status> {
        self.check()?;
        let config = self.connection.config()?;
        match (&self.scenario, self.rate) {
            (Some(name), _) => {
                let scenario = Scenario::find(name)?;
                self.run_scenario(scenario, &config).await
            }
            (None, Some(rate)) => {
                let scenario = self.at_constant_rate(rate, &config)?;
                self.run_scenario(scenario, &config).await
            }
            (None, None) => self.run_day(config).await,
        }
    }

    /// Refuses options that do not go together.
    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.scenario.is_none() || (self.rate.is_none() && self.duration.is_none()),
            "a scenario has rates and durations of its own: write them into its file, or give --rate \
             and --duration without --scenario"
        );
        ensure!(
            self.duration.is_none() || self.rate.is_some(),
            "--duration needs --rate: without it a profile's day is sent once, as fast as the gateway \
             takes it"
        );
        ensure!(
            self.rate.is_none() || self.volume.keys.is_none(),
            "--keys is the volume of a day; with --rate the volume is the rate times --duration: leave \
             one of them out"
        );
        ensure!(
            self.scenario.is_some() || self.rate.is_some() || !self.measuring.is_wanted(),
            "--results and --local need --rate, or --scenario: one of {}",
            Scenario::shipped()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
                .join(", ")
        );
        Ok(())
    }

    fn check_objectives(&self, phases: &[Phase]) -> anyhow::Result<()> {
        ensure!(
            delay_limit(&self.objective).is_none()
                || (self.measuring.asks_for_metrics()
                    && (self.scenario.is_some() || self.rate.is_some())),
            "a delay is read from the gateway's metrics: give --metrics http://HOST:PORT, its operations \
             port, or --local, with --rate or --scenario"
        );
        for objective in &self.objective {
            objective.check(phases)?;
        }
        Ok(())
    }

    fn limits_latency(&self) -> bool {
        let mut measures = self.objective.iter().map(Objective::measure);
        measures.any(|measure| matches!(measure, Measure::Upload(_)))
    }

    /// The uploads of a profile at a constant rate.
    fn at_constant_rate(&self, per_second: f64, config: &Config) -> anyhow::Result<Scenario> {
        let volume = self.volume.or(config);
        let found = volume
            .profiles()?
            .find(volume.profile.as_deref().unwrap_or("planning-2020"))?;
        let load = ConstantRate {
            per_second,
            seconds: self.duration.unwrap_or(DURATION_S),
            connections: volume.connections()?,
            retry_seconds: self.retry_seconds.unwrap_or(0),
        };
        Ok(Scenario::constant_rate(&found, &load)?)
    }

    async fn run_scenario(self, scenario: Scenario, config: &Config) -> anyhow::Result<Status> {
        self.check_objectives(&scenario.phases)?;
        let summary_file = self.measuring.summary_file()?;
        let mut environment =
            self.measuring
                .environment(&self.connection, config, scenario.participants)?;
        let inputs = RunInputs {
            name: &scenario.name,
            text: &scenario.text,
            participants: scenario.participants,
            distribution: scenario.distribution,
            seed: self.volume.seed.or(config.seed),
            record: self.record.clone().or_else(|| config.record.clone()),
            summary_file,
        };
        let measured = self
            .measuring
            .experiment(&environment, &self.connection, inputs)?;
        let work = self.run_phases(&scenario, measured, &mut environment);
        let done = unless_interrupted(work).await;
        end(environment)?;
        done
    }

    async fn run_phases(
        &self,
        scenario: &Scenario,
        mut measured: Measured,
        environment: &mut Environment,
    ) -> anyhow::Result<Status> {
        let experiment = &mut measured.experiment;
        for phase in &scenario.phases {
            let mut phase = phase.clone();
            if self.rate.is_some() {
                // Making uploads then takes no time from sending them.
                phase.ahead = experiment.fits(&phase);
            }
            let mut summary = experiment.phase(&phase).await?;
            if let Some(installation) = environment.installation.as_mut().filter(|_| phase.restart)
            {
                let took = block_in_place(|| installation.restart_gateway())?;
                experiment.note_restart(took);
                summary.restart_seconds = Some(took.as_secs_f64());
                experiment.watch(watch_local(installation));
            }
            print(format_args!("\n{summary}"))?;
        }
        measured.conclude(None, &self.objective).await
    }

    /// A profile's day, once, as fast as the gateway takes it.
    async fn run_day(self, config: Config) -> anyhow::Result<Status> {
        let volume = self.volume.or(&config);
        let profiles = volume.profiles()?;
        let profile = volume.profile(&profiles)?;
        let options = RunOptions {
            targets: self.connection.parsed_targets(&config)?,
            connections: volume.connections()?,
            timeout: Duration::from_secs(self.connection.timeout_seconds),
            retry_for: Duration::from_secs(self.retry_seconds.unwrap_or(RETRY_S)),
        };
        self.check_objectives(&[prepared_phase(&[], &options)])?;
        let summary_file = self.measuring.summary_file()?;
        let clients = self.connection.clients(&config)?;
        let participants = Arc::clone(&clients.participants);
        let (workload, uploads) =
            steps::prepare(participants, &profiles, &profile, volume.seed()).await?;
        let record = self.record.as_ref().or(config.record.as_ref()).map(|path| {
            RecordWriter::create(path, &profile.name, workload.seed, &workload.countries)
        });
        let record = record.transpose()?;
        let (protocol, seed) = (self.connection.protocol(), volume.seed());
        let run = Description {
            name: &profile.name,
            text: "",
            seed,
            targets: &options.targets,
            protocol,
            database: None,
        }
        .run();
        let report = send_prepared(&clients.callers, uploads, &options, record).await?;
        say(format_args!("{}, seed {seed}\n{report}", profile.name))?;
        if self.limits_latency() {
            say(
                "note: a day is sent as fast as the gateway takes it, and its latencies count from \
                 sending; with --rate they count from the moment at which an upload is due",
            )?;
        }
        let mut summary = report.whole;
        summary.objectives = self
            .objective
            .iter()
            .map(|objective| objective.outcome(&summary))
            .collect();
        let all_stored = report.uploads_failed == 0;
        let status = status(&summary, &self.objective, all_stored);
        conclude(&run, &summary, summary_file, status)
    }
}

/// Gateways that a run of a day is sent to.
impl ConnectionArgs {
    fn parsed_targets(&self, config: &Config) -> anyhow::Result<Vec<Target>> {
        super::connection::parse_targets(&self.targets(config)?)
    }
}
