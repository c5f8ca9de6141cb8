//! How a run ends: its summary, its verdict, its exit status.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use engine::output::say;
use loadgen::load::{Experiment, UnexpectedResponses};
use loadgen::objective::{Measure, Objective};
use loadgen::results::{Export, Limit, Run, Summary};
use loadgen::verdict;

use super::status::Status;

/// The file of `--summary-json`. It is made, empty, before the run: whoever reads it never takes an older
/// run for this one, and a path that cannot be written is found out at once.
#[derive(Debug)]
pub(super) struct SummaryFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl SummaryFile {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
        })
    }

    fn write(mut self, run: &Run, summary: &Summary) -> anyhow::Result<()> {
        let verdict = verdict::sentence(summary);
        let export = Export::new(run, summary, verdict::met(summary), verdict);
        serde_json::to_writer_pretty(&mut self.file, &export)
            .map_err(std::io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"))
            .and_then(|()| self.file.flush())
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// A run on its way to its conclusion.
pub(super) struct Measured {
    pub(super) experiment: Experiment,
    pub(super) run: Run,
    pub(super) summary_file: Option<SummaryFile>,
}

impl Measured {
    /// Ends the run: writes and prints its summary and its verdict.
    pub(super) async fn conclude(
        mut self,
        limit: Option<Limit>,
        objectives: &[Objective],
    ) -> anyhow::Result<Status> {
        if let Some(patience) = delay_limit(objectives) {
            self.experiment.await_delivery(patience).await;
        }
        let unexpected = self.experiment.unexpected_responses();
        let summary = self.experiment.finish(limit, objectives)?;
        say(format_args!("\n{summary}"))?;
        say_unexpected(&unexpected)?;
        conclude(
            &self.run,
            &summary,
            self.summary_file,
            status(&summary, objectives, unexpected.is_empty()),
        )
    }
}

/// The longest delay that an objective allows: an upload that can be downloaded later misses them all.
pub(super) fn delay_limit(objectives: &[Objective]) -> Option<Duration> {
    let delays = objectives
        .iter()
        .filter(|objective| matches!(objective.measure(), Measure::Delay(_)));
    let limits = delays.map(|objective| Duration::from_secs_f64(objective.limit()));
    limits.max()
}

/// Writes the summary for other programs and prints the verdict.
pub(super) fn conclude(
    run: &Run,
    summary: &Summary,
    file: Option<SummaryFile>,
    status: Status,
) -> anyhow::Result<Status> {
    if let Some(file) = file {
        file.write(run, summary)?;
    }
    say(format_args!("\n{}", verdict::sentence(summary)))?;
    Ok(status)
}

fn say_unexpected(unexpected: &UnexpectedResponses) -> anyhow::Result<()> {
    for (what, response) in unexpected {
        say(format_args!(
            "unexpected: {} x {what}: {}",
            response.count, response.example
        ))?;
    }
    Ok(())
}

/// An objective for errors decides alone how many may be unexpected; without one, there may be none.
pub(super) fn status(summary: &Summary, objectives: &[Objective], all_expected: bool) -> Status {
    let limits_errors = objectives
        .iter()
        .any(|objective| objective.measure() == Measure::Errors && objective.phase().is_none());
    match verdict::met(summary) {
        Some(false) => Status::Missed,
        _ if limits_errors => Status::Good,
        _ => all_expected.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(ok: &[bool]) -> Summary {
        let outcome = |ok: &bool| loadgen::results::ObjectiveOutcome {
            objective: "errors=1%".to_owned(),
            measure: "errors_share".to_owned(),
            limit: 0.01,
            measured: Some(0.0),
            ok: *ok,
            omitted_share: None,
        };
        Summary {
            objectives: ok.iter().map(outcome).collect(),
            ..Summary::default()
        }
    }

    #[test]
    fn distinguishes_a_missed_objective_from_unexpected_answers() {
        let objectives = |texts: &[&str]| -> Vec<Objective> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let errors = objectives(&["errors=1%"]);
        let latency = objectives(&["upload_p99=2s"]);
        for (ok, objectives, all_expected, expected) in [
            (&[][..], &[][..], true, Status::Good),
            (&[], &[], false, Status::Fault),
            (&[true], &latency, true, Status::Good),
            (&[true], &latency, false, Status::Fault),
            (&[false], &latency, true, Status::Missed),
            (&[false], &latency, false, Status::Missed),
            (&[true], &errors, false, Status::Good),
        ] {
            let found = status(&summary(ok), objectives, all_expected);
            assert_eq!(found, expected, "{ok:?} {objectives:?} {all_expected}");
        }
        assert_eq!(Status::Missed.code(), 99);
    }
}
