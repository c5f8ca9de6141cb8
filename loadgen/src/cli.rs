//! Arguments, and what they mean.

mod plan;
mod report;

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use engine::domain::{Day, DayError};
use loadgen::client::{Caller, Protocol, Target};
use loadgen::config::Config;
use loadgen::demo::{self, DemoOptions, demo};
use loadgen::participants::{self, Participant};
use loadgen::profiles::{Profile, Profiles};
use loadgen::record::{Record, RecordWriter};
use loadgen::run::RunOptions;
use loadgen::steps;
use loadgen::verify::VerifyOptions;

/// Synthetic participants for the gateway: load, end-to-end verification, and a demonstration.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Uploads a profile's day from all participants at once, and prints rates and latencies.
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Downloads as every participant and checks every key, its order and its signature.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Starts a gateway in a temporary folder, sends a day through it, verifies, cleans up.
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// Makes a capacity plan: what to buy for a profile, how long its burst takes, what gives first.
    #[command(after_help = plan::EXAMPLES)]
    Plan(plan::PlanArgs),
    /// Makes one page with plots of one or several runs.
    #[command(after_help = report::EXAMPLES)]
    Report(report::ReportArgs),
}

const RUN_EXAMPLES: &str = "Examples:
  efgs init --dir run && efgs serve --config run/efgs.toml
  loadgen run --pki run/pki --target https://localhost:8443 --profile planning-2020 --seed 1
  loadgen run --pki run/pki --target https://localhost:8443 --profile worst-day --keys 500000 \\
      --seed 7 --connections 2 --record run/record.jsonl

The same seed on the same day is the same run: repeated, it is a replay, and is answered 201.";

const VERIFY_EXAMPLES: &str = "Examples:
  loadgen verify --pki run/pki --target https://localhost:8443 --record run/record.jsonl
  loadgen verify --config run/loadgen.toml --date 2021-06-01

The exit status is 1 when anything is missing, double, unverified, unexpected or out of order.";

const DEMO_EXAMPLES: &str = "Examples:
  loadgen demo --efgs target/release/efgs --database sqlite
  loadgen demo --efgs target/release/efgs --database mysql --profile peak-2022 --seed 7";

/// Where the gateway and the participants are.
#[derive(Debug, Args)]
struct Place {
    /// File with settings for everything below; what is given here wins.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder with the participants' certificates and keys, as `efgs init` writes it.
    #[arg(long, value_name = "DIR")]
    pki: Option<PathBuf>,
    /// Gateway, https://HOST:PORT, or http://HOST:PORT for its proxy mode; may be repeated.
    #[arg(long, value_name = "URL")]
    target: Vec<String>,
    /// Speak HTTP/2 instead of HTTP/1.1.
    #[arg(long)]
    http2: bool,
    /// Longest wait for an answer, in seconds.
    #[arg(long, value_name = "S", default_value_t = 30)]
    timeout_seconds: u64,
}

/// How much, and which keys.
#[derive(Debug, Args)]
struct Volume {
    /// Profile: planning-2020, peak-2022, worst-day, smoke, or one of your own file
    /// [default: planning-2020].
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// File of profiles, instead of the ones that come with the program.
    #[arg(long, value_name = "FILE")]
    profiles: Option<PathBuf>,
    /// Keys of the whole run, instead of the profile's.
    #[arg(long, value_name = "N")]
    keys: Option<u64>,
    /// Decides about every key: the same seed, the same keys [default: 1].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Connections of each participant, each with one upload in flight [default: 1].
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    volume: Volume,
    /// Write what was sent and answered to this file, for `loadgen verify`.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// How long an upload is tried again after "not now" and broken connections, in seconds.
    #[arg(long, value_name = "S", default_value_t = 60)]
    retry_seconds: u64,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    place: Place,
    /// What was sent, as `loadgen run` recorded it; may be repeated.
    #[arg(long, value_name = "FILE")]
    record: Vec<PathBuf>,
    /// First day to ask for [default: the record's].
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<String>,
    /// How long to wait for a next batch while keys are missing, in seconds.
    #[arg(long, value_name = "S", default_value_t = 30)]
    patience_seconds: u64,
    /// Do not mind keys that are in no record.
    #[arg(long)]
    ignore_unknown: bool,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// The gateway's program [default: beside this one].
    #[arg(long, value_name = "PATH")]
    efgs: Option<PathBuf>,
    /// The gateway's database.
    #[arg(long, value_enum, default_value_t = DatabaseArg::Sqlite)]
    database: DatabaseArg,
    #[command(flatten)]
    volume: Volume,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DatabaseArg {
    Sqlite,
    Mysql,
}

impl Cli {
    /// Does what was asked for; tells whether all is well.
    pub(crate) async fn run(self) -> anyhow::Result<bool> {
        match self.command {
            Command::Run(args) => args.run().await,
            Command::Verify(args) => args.run().await,
            Command::Demo(args) => args.run().await,
            Command::Plan(args) => args.run().await,
            Command::Report(args) => args.run(),
        }
    }
}

impl RunArgs {
    async fn run(self) -> anyhow::Result<bool> {
        let config = self.place.config()?;
        let scene = self.place.scene(&config)?;
        let volume = self.volume.or(&config);
        let profiles = volume.profiles()?;
        let profile = volume.profile(&profiles)?;
        let participants = Arc::clone(&scene.participants);
        let (workload, uploads) =
            steps::prepare(participants, &profiles, &profile, volume.seed()).await?;
        let record = self.record.or(config.record).map(|path| {
            RecordWriter::create(&path, &profile.name, workload.seed, &workload.countries)
        });
        let options = RunOptions {
            targets: scene.targets,
            connections: volume.connections()?,
            timeout: Duration::from_secs(self.place.timeout_seconds),
            retry_for: Duration::from_secs(self.retry_seconds),
        };
        let report = steps::upload(&scene.callers, uploads, &options, record.transpose()?).await?;
        writeln!(
            stdout(),
            "{}, seed {}\n{report}",
            profile.name,
            volume.seed()
        )?;
        Ok(report.uploads_failed == 0)
    }
}

impl VerifyArgs {
    async fn run(self) -> anyhow::Result<bool> {
        let config = self.place.config()?;
        let scene = self.place.scene(&config)?;
        let mut paths = self.record;
        if paths.is_empty() {
            paths.extend(config.record);
        }
        ensure!(
            !paths.is_empty(),
            "give --record FILE, as `loadgen run --record FILE` wrote it"
        );
        let records = paths
            .iter()
            .map(|path| Record::read(path))
            .collect::<Result<Vec<_>, _>>()?;
        let first_day = records.iter().map(|record| record.seed.day).min();
        let day = match &self.date {
            Some(text) => {
                Day::parse_iso(text).with_context(|| format!("--date {text}: {DayError}"))?
            }
            None => first_day.context("no record")?,
        };
        let options = VerifyOptions {
            targets: scene.targets,
            day,
            timeout: Duration::from_secs(self.place.timeout_seconds),
            patience: Duration::from_secs(self.patience_seconds),
            ignore_unknown: self.ignore_unknown,
        };
        let verdict =
            steps::download(&scene.callers, scene.participants, records, &options).await?;
        writeln!(stdout(), "{verdict}")?;
        Ok(verdict.is_clean())
    }
}

impl DemoArgs {
    async fn run(self) -> anyhow::Result<bool> {
        let volume = self.volume.or(&Config::default());
        let profiles = volume.profiles()?;
        let options = DemoOptions {
            efgs: match self.efgs {
                Some(path) => path,
                None => beside_this_program()?,
            },
            database: match self.database {
                DatabaseArg::Sqlite => demo::Database::Sqlite,
                DatabaseArg::Mysql => demo::Database::Mysql,
            },
            profile: volume.profile(&profiles)?,
            profiles,
            seed: volume.seed(),
            connections: volume.connections()?,
        };
        ensure!(
            options.efgs.is_file(),
            "{} is no program: build it with `cargo build --release`, or give --efgs PATH",
            options.efgs.display()
        );
        Ok(demo(options, &mut stdout()).await?)
    }
}

fn beside_this_program() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("efgs"))
}

/// Participants and gateways, ready.
struct Scene {
    participants: Arc<Vec<Participant>>,
    callers: Vec<Arc<Caller>>,
    targets: Vec<Target>,
}

impl Place {
    fn config(&self) -> anyhow::Result<Config> {
        Ok(match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        })
    }

    fn scene(&self, config: &Config) -> anyhow::Result<Scene> {
        let pki = self.pki.as_ref().or(config.pki.as_ref());
        let pki = pki.context("give --pki DIR, the folder that `efgs init` wrote")?;
        let targets = match self.target.is_empty() {
            true => config.targets.clone().into_vec(),
            false => self.target.clone(),
        };
        if targets.is_empty() {
            bail!("give --target URL, as in https://localhost:8443");
        }
        let targets = targets
            .iter()
            .map(|text| Target::parse(text))
            .collect::<Result<_, _>>()?;
        let protocol = if self.http2 {
            Protocol::Http2
        } else {
            Protocol::Http1
        };
        let participants = participants::read(pki)?;
        let server_ca = participants::read_server_ca(pki)?;
        let caller = |participant| Caller::new(participant, &server_ca, protocol).map(Arc::new);
        let callers = participants.iter().map(caller).collect::<Result<_, _>>()?;
        Ok(Scene {
            participants: Arc::new(participants),
            callers,
            targets,
        })
    }
}

impl Volume {
    /// What is not given comes from the file.
    fn or(self, config: &Config) -> Self {
        Self {
            profile: self.profile.or_else(|| config.profile.clone()),
            profiles: self.profiles.or_else(|| config.profiles.clone()),
            keys: self.keys.or(config.keys),
            seed: self.seed.or(config.seed),
            connections: self.connections.or(config.connections),
        }
    }

    fn profiles(&self) -> anyhow::Result<Profiles> {
        Ok(match &self.profiles {
            Some(path) => Profiles::read(path)?,
            None => Profiles::shipped()?,
        })
    }

    fn profile(&self, profiles: &Profiles) -> anyhow::Result<Profile> {
        let found = profiles.find(self.profile.as_deref().unwrap_or("planning-2020"))?;
        Ok(Profile {
            keys: self.keys.unwrap_or(found.keys),
            ..found
        })
    }

    fn seed(&self) -> u64 {
        self.seed.unwrap_or(1)
    }

    fn connections(&self) -> anyhow::Result<usize> {
        let connections = self.connections.unwrap_or(1);
        ensure!(connections > 0, "--connections must be at least 1");
        Ok(connections)
    }
}
