//! `loadgen plan`.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Args;
use engine::output::{Notes, note, print, say};
use loadgen::plan::assumptions::Assumptions;
use loadgen::plan::check::Check;
use loadgen::plan::costs::{DatabaseKind, UnitCosts};
use loadgen::plan::measure::{Database, MeasureOptions, measure};
use loadgen::plan::{Plan, html, read_costs, text};
use loadgen::profiles::Profiles;
use loadgen::results::Results;

use super::connection::{DatabaseArg, beside_this_program};
use super::status::Status;

pub(super) const EXAMPLES: &str = "Examples:
  loadgen plan --profile worst-day
  loadgen plan --profile worst-day --html                 (writes plan.html)
  loadgen plan --profile peak-2022 --set participants=28 --set gateway_cores=4 --json
  loadgen plan --measure --save-costs costs.toml          (measures this machine, for a minute)
  loadgen plan --profile worst-day --costs costs.toml --html worst-day.html
  loadgen plan --costs costs.toml --check results.jsonl   (predictions against a run)

Every number of a plan is an assumption with a name, listed at its end with its source. Without
--measure and --costs the unit costs are those that come with the program, and the plan says on
which machine they were measured.";

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Profile: planning-2020, peak-2022, worst-day, smoke, or one of your own file.
    #[arg(long, value_name = "NAME", default_value = "worst-day")]
    profile: String,
    /// File of profiles, instead of the built-in ones.
    #[arg(long, value_name = "FILE")]
    profiles: Option<PathBuf>,
    /// Changes an assumption; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Unit costs: a file of --save-costs, or the results of a `loadgen run`.
    #[arg(long, value_name = "FILE", conflicts_with = "measure")]
    costs: Option<PathBuf>,
    /// Measure unit costs now, with a private gateway and database on this machine.
    #[arg(long)]
    measure: bool,
    /// Keys that --measure uploads in full uploads.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 2_000_000,
        requires = "measure"
    )]
    measure_keys: u64,
    /// The gateway's program, for --measure [default: beside this one].
    #[arg(long, value_name = "PATH", requires = "measure")]
    efgs: Option<PathBuf>,
    /// Write the unit costs to this file.
    #[arg(long, value_name = "FILE")]
    save_costs: Option<PathBuf>,
    /// The gateway's database: which of the built-in costs to use, or what to measure [default: mysql;
    /// with --check, the run's].
    #[arg(long, value_enum)]
    database: Option<DatabaseArg>,
    /// Print the plan as JSON.
    #[arg(long)]
    json: bool,
    /// Write the plan as a page [default file: plan.html].
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "plan.html")]
    html: Option<PathBuf>,
    /// Instead of a plan: predict what this run measured, and print the error.
    #[arg(long, value_name = "RESULTS")]
    check: Option<PathBuf>,
}

impl PlanArgs {
    pub(super) async fn run(self) -> anyhow::Result<Status> {
        let results = self.check.as_ref().map(|path| Results::read(path));
        let results = results.transpose()?;
        let costs = self.unit_costs(results.as_ref()).await?;
        if let Some(path) = &self.save_costs {
            costs.save(path)?;
            note(format_args!("unit costs written to {}", path.display()));
        }
        match &results {
            Some(results) => self.check(&costs, results)?,
            None => self.plan(&costs)?,
        }
        Ok(Status::Good)
    }

    fn check(&self, costs: &UnitCosts, results: &Results) -> anyhow::Result<()> {
        let check = Check::of(results, costs);
        match self.json {
            true => say(serde_json::to_string_pretty(&check)?)?,
            false => say(check)?,
        }
        Ok(())
    }

    fn plan(&self, costs: &UnitCosts) -> anyhow::Result<()> {
        let profiles = match &self.profiles {
            Some(path) => Profiles::read(path)?,
            None => Profiles::shipped()?,
        };
        let profile = profiles.find(&self.profile)?;
        let mut assumptions = Assumptions::new(&profile, costs);
        for change in &self.set {
            assumptions.set(change)?;
        }
        let plan = Plan::make(&profile.name, costs, assumptions);
        if let Some(path) = &self.html {
            std::fs::write(path, html::page(&plan))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        match (self.json, &self.html) {
            (true, _) => say(serde_json::to_string_pretty(&plan)?)?,
            (false, None) => print(plan)?,
            (false, Some(path)) => {
                let answer = text::answer(&plan).join("\n  ");
                say(format_args!("{}: buy\n  {answer}", plan.profile))?;
                say(format_args!("gives first: {}", text::first_to_give(&plan)))?;
                say(format_args!("the whole plan: {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// For a check, those of the run's kind of database, unless they are given.
    async fn unit_costs(&self, results: Option<&Results>) -> anyhow::Result<UnitCosts> {
        if let Some(path) = &self.costs {
            return Ok(read_costs(path)?);
        }
        if !self.measure {
            let given = self.database.map(|database| match database {
                DatabaseArg::Mysql => DatabaseKind::Server,
                DatabaseArg::Sqlite => DatabaseKind::Embedded,
            });
            let found = || results.and_then(|results| DatabaseKind::of(&results.run));
            let kind = given.or_else(found).unwrap_or(DatabaseKind::Server);
            return Ok(UnitCosts::shipped(kind)?);
        }
        let efgs = match &self.efgs {
            Some(path) => path.clone(),
            None => beside_this_program()?,
        };
        ensure!(
            efgs.is_file(),
            "{} is no program: build it with `cargo build --release`, or give --efgs PATH",
            efgs.display()
        );
        let options = MeasureOptions {
            efgs,
            database: match self.database {
                Some(DatabaseArg::Sqlite) => Database::Sqlite,
                Some(DatabaseArg::Mysql) | None => Database::Mysql,
            },
            keys: self.measure_keys,
        };
        Ok(measure(&options, &mut Notes).await?)
    }
}
