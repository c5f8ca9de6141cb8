//! The command-line arguments and what each command does.

mod conclusion;
mod connection;
mod find_limit;
mod load;
mod plan;
mod report;
mod run;
mod status;
mod volume;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use engine::clock::{Clock, SystemClock};
use engine::domain::{Day, DayError};
use engine::output::{Output, say};
use loadgen::config::Config;
use loadgen::demo::{DemoOptions, demo};
use loadgen::fairness::{FairnessOptions, fairness};
use loadgen::participants;
use loadgen::record::Record;
use loadgen::steps;
use loadgen::verify::VerifyOptions;

use connection::{ConnectionArgs, LocalArg, beside_this_program, check_program};
pub(crate) use status::Status;
use volume::VolumeArgs;

/// Synthetic participants for the gateway: load, end-to-end verification, and a demonstration.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Uploads a profile's day from all participants at once, or runs a scenario, and prints rates
    /// and latencies.
    #[command(after_help = run::EXAMPLES, after_long_help = run::long_help())]
    Run(run::RunArgs),
    /// Raises the upload rate until the latency objective fails, and reports the highest rate that
    /// held.
    #[command(after_help = find_limit::EXAMPLES)]
    FindLimit(find_limit::FindLimitArgs),
    /// Downloads as every participant and checks every key, its order, and through the audit its
    /// batch's signature and the certificates.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Starts a gateway in a temporary folder, sends a day through it, verifies, cleans up.
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// Puts small uploads on two gateways and large ones on a third, on a private Galera cluster, and
    /// prints how long each waited: with a node for each gateway, and with one order of hosts.
    #[command(after_help = FAIRNESS_EXAMPLES)]
    Fairness(FairnessArgs),
    /// Makes a capacity plan: what to buy for a profile, how long its burst takes, what fails
    /// first.
    #[command(after_help = plan::EXAMPLES)]
    Plan(plan::PlanArgs),
    /// Makes one page with plots of one or several runs.
    #[command(after_help = report::EXAMPLES)]
    Report(report::ReportArgs),
    /// Writes man pages and shell completions into a folder.
    #[command(hide = true, after_help = GENERATE_EXAMPLES)]
    Generate {
        /// Folder; made if it is not there.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

const GENERATE_EXAMPLES: &str = "Example:
  loadgen generate target/man";

const VERIFY_EXAMPLES: &str = "Examples:
  loadgen verify --pki run/pki --target https://localhost:8443 --record run/record.jsonl
  loadgen verify --config run/loadgen.toml --date 2021-06-01
  loadgen verify --pki run/pki --target https://localhost:8443 --trust-anchor operator.pem

Without a record it audits whatever the gateway holds: every upload is proven by the operator's and
the uploader's signatures, but nothing is known about what should be there.

The exit status is 1 when anything is missing, duplicate, unverified, unexpected or out of order.";

const FAIRNESS_EXAMPLES: &str = "Example:
  loadgen fairness --efgs target/release/efgs --seconds 60";

const DEMO_EXAMPLES: &str = "Examples:
  loadgen demo --efgs target/release/efgs --database sqlite
  loadgen demo --efgs target/release/efgs --database mysql --profile peak-2022 --seed 7";

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// What was sent, as `loadgen run` recorded it; may be repeated. Without it, only the audit is
    /// checked.
    #[arg(long, value_name = "FILE")]
    record: Vec<PathBuf>,
    /// Certificate of the operator, who signs all others [default: trust-anchor.pem in the
    /// folder of certificates].
    #[arg(long, value_name = "FILE")]
    trust_anchor: Option<PathBuf>,
    /// First day to ask for [default: the record's, or today].
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<String>,
    /// How long to wait for a next batch while keys are missing, in seconds.
    #[arg(long, value_name = "S", default_value_t = 30)]
    wait_seconds: u64,
    /// Ignore keys that are in no record.
    #[arg(long)]
    ignore_unknown: bool,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// The gateway's program [default: beside this one].
    #[arg(long, value_name = "PATH")]
    efgs: Option<PathBuf>,
    /// The gateway's database.
    #[arg(long, value_enum, default_value_t = LocalArg::Sqlite)]
    database: LocalArg,
    #[command(flatten)]
    volume: VolumeArgs,
}

#[derive(Debug, Args)]
struct FairnessArgs {
    /// The gateway's program [default: beside this one].
    #[arg(long, value_name = "PATH")]
    efgs: Option<PathBuf>,
    /// How long each order of hosts is under load.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Seed of every key.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl FairnessArgs {
    async fn run(self) -> anyhow::Result<Status> {
        let options = FairnessOptions {
            efgs: match self.efgs {
                Some(path) => path,
                None => beside_this_program()?,
            },
            lasts: Duration::from_secs(self.seconds),
            seed: self.seed,
        };
        check_program(&options.efgs)?;
        let mut out = Output::default();
        let done = fairness(&options, &mut out).await;
        out.check()?;
        done?;
        Ok(Status::Good)
    }
}

impl Cli {
    /// Runs the command; returns whether everything was as expected.
    pub(crate) async fn run(self) -> anyhow::Result<Status> {
        match self.command {
            Command::Run(args) => args.run().await,
            Command::FindLimit(args) => args.run().await,
            Command::Verify(args) => args.run().await,
            Command::Demo(args) => args.run().await,
            Command::Fairness(args) => args.run().await,
            Command::Plan(args) => args.run().await,
            Command::Report(args) => args.run(),
            Command::Generate { folder } => generate(&folder).map(|()| Status::Good),
        }
    }
}

/// Man pages and completions, for packages.
fn generate(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut command = Cli::command();
    clap_mangen::generate_to(command.clone(), folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "loadgen", folder)?;
    }
    Ok(())
}

impl VerifyArgs {
    async fn run(self) -> anyhow::Result<Status> {
        let config = self.connection.config()?;
        let clients = self.connection.clients(&config)?;
        let mut paths = self.record;
        if paths.is_empty() {
            paths.extend(config.record.clone());
        }
        let records = paths
            .iter()
            .map(|path| Record::read(path))
            .collect::<Result<Vec<_>, _>>()?;
        let first_day = records.iter().map(|record| record.seed.day).min();
        let day = match &self.date {
            Some(text) => {
                Day::parse_iso(text).with_context(|| format!("--date {text}: {DayError}"))?
            }
            None => first_day.unwrap_or_else(|| SystemClock.now().day()),
        };
        let anchor = match self.trust_anchor {
            Some(path) => path,
            None => self.connection.pki(&config)?.join("trust-anchor.pem"),
        };
        let anchor = participants::read_trust_anchor(&anchor)?;
        let options = VerifyOptions {
            targets: clients.targets,
            day,
            timeout: Duration::from_secs(self.connection.timeout_seconds),
            delivery_timeout: Duration::from_secs(self.wait_seconds),
            ignore_unknown: self.ignore_unknown,
        };
        let verdict = steps::download(
            &clients.callers,
            clients.participants,
            records,
            &anchor,
            &options,
        )
        .await?;
        say(&verdict)?;
        Ok(verdict.is_clean().into())
    }
}

impl DemoArgs {
    async fn run(self) -> anyhow::Result<Status> {
        let volume = self.volume.or(&Config::default());
        let profiles = volume.profiles()?;
        let options = DemoOptions {
            efgs: match self.efgs {
                Some(path) => path,
                None => beside_this_program()?,
            },
            database: self.database.into(),
            profile: volume.profile(&profiles)?,
            profiles,
            seed: volume.seed(),
            connections: volume.connections()?,
        };
        check_program(&options.efgs)?;
        let mut out = Output::default();
        let done = demo(options, &mut out).await;
        out.check()?;
        Ok(done?.into())
    }
}
