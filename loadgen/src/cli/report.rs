//! `loadgen report`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use engine::output::say;
use loadgen::report;
use loadgen::results::Results;

use super::Status;

pub(super) const EXAMPLES: &str = "Examples:
  loadgen report results.jsonl                            (writes report.html)
  loadgen report sqlite.jsonl mariadb.jsonl --out comparison.html

The page needs nothing from anywhere: drawings and styles are in it, and there are no scripts.";

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Results, as `loadgen run` writes them; several are shown side by side.
    #[arg(value_name = "RESULTS", required = true)]
    results: Vec<PathBuf>,
    /// The page.
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
}

impl ReportArgs {
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        let runs = self
            .results
            .iter()
            .map(|path| Ok((path.as_path(), Results::read(path)?)));
        let runs = runs.collect::<anyhow::Result<Vec<_>>>()?;
        let page = report::page(&report::named(runs));
        std::fs::write(&self.out, page)
            .with_context(|| format!("cannot write {}", self.out.display()))?;
        say(format_args!("report written to {}", self.out.display()))?;
        Ok(Status::Good)
    }
}
