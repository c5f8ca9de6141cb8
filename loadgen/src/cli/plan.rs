//! `loadgen plan`.

use std::io::{Write, stderr, stdout};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Args;
use loadgen::plan::assumptions::Assumptions;
use loadgen::plan::check::Check;
use loadgen::plan::costs::{DatabaseKind, UnitCosts};
use loadgen::plan::measure::{Database, MeasureOptions, measure};
use loadgen::plan::{Plan, html, read_costs, text};
use loadgen::profiles::Profiles;
use loadgen::results::Results;

use super::connection::{DatabaseArg, beside_this_program};

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
    /// The gateway's database: which costs come with the program, or which to measure.
    #[arg(long, value_enum, default_value_t = DatabaseArg::Mysql)]
    database: DatabaseArg,
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
    pub(super) async fn run(self) -> anyhow::Result<bool> {
        let costs = self.unit_costs().await?;
        if let Some(path) = &self.save_costs {
            costs.save(path)?;
            writeln!(stderr(), "unit costs written to {}", path.display())?;
        }
        match &self.check {
            Some(path) => self.check(&costs, &Results::read(path)?)?,
            None => self.plan(&costs)?,
        }
        Ok(true)
    }

    fn check(&self, costs: &UnitCosts, results: &Results) -> anyhow::Result<()> {
        let check = Check::of(results, costs);
        match self.json {
            true => writeln!(stdout(), "{}", serde_json::to_string_pretty(&check)?)?,
            false => writeln!(stdout(), "{check}")?,
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
            (true, _) => writeln!(stdout(), "{}", serde_json::to_string_pretty(&plan)?)?,
            (false, None) => write!(stdout(), "{plan}")?,
            (false, Some(path)) => {
                let answer = text::answer(&plan).join("\n  ");
                writeln!(stdout(), "{}: buy\n  {answer}", plan.profile)?;
                writeln!(stdout(), "gives first: {}", text::first_to_give(&plan))?;
                writeln!(stdout(), "the whole plan: {}", path.display())?;
            }
        }
        Ok(())
    }

    async fn unit_costs(&self) -> anyhow::Result<UnitCosts> {
        if let Some(path) = &self.costs {
            return Ok(read_costs(path)?);
        }
        if !self.measure {
            let kind = match self.database {
                DatabaseArg::Mysql => DatabaseKind::Server,
                DatabaseArg::Sqlite => DatabaseKind::Embedded,
            };
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
                DatabaseArg::Mysql => Database::Mysql,
                DatabaseArg::Sqlite => Database::Sqlite,
            },
            keys: self.measure_keys,
        };
        Ok(measure(&options, &mut stderr()).await?)
    }
}
