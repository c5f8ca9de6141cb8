//! `loadgen report`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use engine::output::say;
use loadgen::objective::Objective;
use loadgen::report;
use loadgen::results::Results;

use super::status::Status;

pub(super) const EXAMPLES: &str = "Examples:
  loadgen report results.jsonl                            (writes report.html)
  loadgen report sqlite.jsonl mariadb.jsonl --out comparison.html
  loadgen report results.jsonl --objective upload_p99=2s,errors=0.1%

The page begins with what was reached and what was not. It needs nothing from anywhere: drawings and styles are in it, and there are no scripts.";

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Results, as `loadgen run` writes them; several are shown side by side.
    #[arg(value_name = "RESULTS", required = true)]
    results: Vec<PathBuf>,
    /// What the runs must have reached, instead of the objectives that they were given: see `loadgen run
    /// --help`. The exit status is 99 when one of them has not.
    #[arg(long, value_name = "NAME=LIMIT", value_delimiter = ',')]
    objective: Vec<Objective>,
    /// The page.
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
}

impl ReportArgs {
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        let runs = self
            .results
            .iter()
            .map(|path| Ok((path.as_path(), self.with_verdict(Results::read(path)?))));
        let runs = runs.collect::<anyhow::Result<Vec<_>>>()?;
        let reached = |(_, results): &(&Path, Results)| {
            let summary = results.summary.as_ref();
            summary.is_some_and(|summary| summary.objectives.iter().all(|outcome| outcome.ok))
        };
        let status = match self.objective.is_empty() || runs.iter().all(reached) {
            true => Status::Good,
            false => Status::Missed,
        };
        let page = report::page(&report::named(runs));
        std::fs::write(&self.out, page)
            .with_context(|| format!("cannot write {}", self.out.display()))?;
        say(format_args!("report written to {}", self.out.display()))?;
        Ok(status)
    }

    /// With the objectives that are asked for now, if there are any.
    fn with_verdict(&self, mut results: Results) -> Results {
        if let Some(summary) = results
            .summary
            .as_mut()
            .filter(|_| !self.objective.is_empty())
        {
            let outcomes = self
                .objective
                .iter()
                .map(|objective| objective.outcome(summary));
            summary.objectives = outcomes.collect();
        }
        results
    }
}
