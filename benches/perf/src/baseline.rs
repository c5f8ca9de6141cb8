//! The committed baseline, and the comparison of a run with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::machine::{self, Machine};
use crate::ratios::{self, Better};
use crate::run::Run;

const FOLDER: &str = "perf-reports/baseline";
const COUNTS: &str = "counts.toml";
const RATIOS: &str = "ratios.toml";

/// Tolerance of instruction counts. The same code gives the same count to a thousandth;
/// a change of an inlining decision somewhere below gives one to two percent.
const COUNT_TOLERANCE_PERCENT: f64 = 2.0;

/// When, why and on which machine a baseline was accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Acceptance {
    day: String,
    commit: String,
    reason: String,
    machine: Machine,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct CountsFile {
    tolerance_percent: f64,
    counts: BTreeMap<String, u64>,
    /// The newest last.
    accepted: Vec<Acceptance>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct RatioRow {
    value: f64,
    tolerance_percent: f64,
    better: Better,
    protects: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct RatiosFile {
    ratios: BTreeMap<String, RatioRow>,
    /// The newest last.
    accepted: Vec<Acceptance>,
}

/// One value with its baseline.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Whether it is an instruction count; otherwise a ratio.
    pub(crate) is_count: bool,
    pub(crate) baseline: Option<f64>,
    pub(crate) now: Option<f64>,
    pub(crate) tolerance_percent: f64,
    pub(crate) verdict: Verdict,
}

/// The result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Verdict {
    Same,
    Better,
    Worse,
    New,
    Gone,
}

impl Row {
    fn new(
        name: &str,
        is_count: bool,
        [baseline, now]: [Option<f64>; 2],
        tolerance_percent: f64,
        better: Better,
    ) -> Self {
        let verdict = match (baseline, now) {
            (Some(baseline), Some(now)) => verdict(baseline, now, tolerance_percent, better),
            (None, _) => Verdict::New,
            (Some(_), None) => Verdict::Gone,
        };
        Self {
            name: name.to_owned(),
            is_count,
            baseline,
            now,
            tolerance_percent,
            verdict,
        }
    }

    /// Change against the baseline.
    pub(crate) fn change_percent(&self) -> Option<f64> {
        Some((self.now? / self.baseline? - 1.0) * 100.0)
    }
}

fn verdict(baseline: f64, now: f64, tolerance_percent: f64, better: Better) -> Verdict {
    let change = (now / baseline - 1.0) * 100.0;
    let gain = match better {
        Better::Higher => change,
        Better::Lower => -change,
    };
    match gain {
        _ if gain > tolerance_percent => Verdict::Better,
        _ if gain >= -tolerance_percent => Verdict::Same,
        _ => Verdict::Worse,
    }
}

/// Every value of a run with its baseline, and the values of the baseline that the run lacks.
///
/// # Errors
/// When a file of the baseline cannot be read.
pub(crate) fn compare(run: &Run) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    if let Some(counts) = &run.counts {
        let file: CountsFile = read(COUNTS)?;
        #[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
        let value = |counts: &BTreeMap<String, u64>, name: &String| {
            counts.get(name).map(|count| *count as f64)
        };
        let names = file.counts.keys().chain(counts.keys());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names.dedup();
        rows.extend(names.into_iter().map(|name| {
            let values = [value(&file.counts, name), value(counts, name)];
            Row::new(name, true, values, file.tolerance_percent, Better::Lower)
        }));
    }
    let file: RatiosFile = read(RATIOS)?;
    for ratio in &run.ratios {
        let kind = ratios::kind(ratio.name).context("measured ratios are listed")?;
        let row = file.ratios.get(ratio.name);
        let tolerance = row.map_or(kind.tolerance_percent, |row| row.tolerance_percent);
        let values = [row.map(|row| row.value), Some(ratio.median())];
        rows.push(Row::new(ratio.name, false, values, tolerance, kind.better));
    }
    Ok(rows)
}

/// Moves the baseline to what a run measured. What it did not measure stays.
///
/// # Errors
/// When there is no reason, or a file cannot be written.
pub(crate) fn accept(run: &Run, reason: &str) -> anyhow::Result<()> {
    if reason.trim().is_empty() {
        bail!("say why the baseline moves: make perf-accept REASON=\"…\"");
    }
    let acceptance = Acceptance {
        day: run.begun_day.clone(),
        commit: machine::commit(),
        reason: reason.trim().to_owned(),
        machine: Machine::here(),
    };
    if let Some(counts) = &run.counts {
        let mut file: CountsFile = read(COUNTS)?;
        if file.tolerance_percent == 0.0 {
            file.tolerance_percent = COUNT_TOLERANCE_PERCENT;
        }
        file.counts.clone_from(counts);
        file.accepted.push(acceptance.clone());
        let head = "# Executed instructions (callgrind) of each bench, by stage/shape/keys.\n\
                    # Moved by `make perf-accept REASON=\"…\"` only.\n\n";
        write(COUNTS, head, &file)?;
    }
    if !run.ratios.is_empty() {
        let mut file: RatiosFile = read(RATIOS)?;
        for ratio in &run.ratios {
            let kind = ratios::kind(ratio.name).context("measured ratios are listed")?;
            let row = file.ratios.entry(ratio.name.to_owned());
            let row = row.or_insert_with(|| RatioRow {
                value: 0.0,
                tolerance_percent: kind.tolerance_percent,
                better: kind.better,
                protects: kind.protects.to_owned(),
            });
            row.value = (ratio.median() * 10_000.0).round() / 10_000.0;
        }
        file.accepted.push(acceptance);
        let head = "# Ratios within one run, medians over its rounds; what they mean is in\n\
                    # perf-reports/README.md. Tolerances may be changed here; values are moved by\n\
                    # `make perf-accept REASON=\"…\"` only.\n\n";
        write(RATIOS, head, &file)?;
    }
    eprintln!(
        "perf: the baseline has moved. Commit {FOLDER} together with what moved it, and give the \
         reason in the commit:\n  git commit {FOLDER} -m \"Move the performance baseline: {}\"",
        reason.trim()
    );
    Ok(())
}

/// A warning when the baseline's counts were made with another compiler or valgrind: differences
/// may come from that.
pub(crate) fn other_machine() -> Option<String> {
    let file: CountsFile = read(COUNTS).ok()?;
    let (there, here) = (file.accepted.last()?.machine.clone(), Machine::here());
    let same = there.rustc == here.rustc && there.valgrind == here.valgrind;
    (!same).then(|| {
        format!(
            "the baseline's counts were made with {} and {}, these with {} and {}",
            there.rustc, there.valgrind, here.rustc, here.valgrind
        )
    })
}

fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Reads a file of the baseline; a missing one is empty.
fn read<T: Default + for<'de> Deserialize<'de>>(name: &str) -> anyhow::Result<T> {
    let path = path(name);
    if !path.exists() {
        return Ok(T::default());
    }
    let text = std::fs::read_to_string(&path)?;
    toml::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
}

fn write(name: &str, head: &str, file: &impl Serialize) -> anyhow::Result<()> {
    std::fs::create_dir_all(FOLDER)?;
    let text = format!("{head}{}", toml::to_string_pretty(file)?);
    Ok(std::fs::write(path(name), text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_changes_beyond_the_tolerance_in_either_direction() {
        let lower = |now| verdict(100.0, now, 2.0, Better::Lower);
        assert_eq!(lower(101.9), Verdict::Same);
        assert_eq!(lower(102.1), Verdict::Worse);
        assert_eq!(lower(97.9), Verdict::Better);
        let higher = |now| verdict(1.0, now, 25.0, Better::Higher);
        assert_eq!(higher(0.76), Verdict::Same);
        assert_eq!(higher(0.74), Verdict::Worse);
        assert_eq!(higher(1.26), Verdict::Better);
    }

    #[test]
    fn marks_values_that_are_no_longer_measured_or_are_new() {
        let row = |values| Row::new("walk/x/1", true, values, 2.0, Better::Lower).verdict;
        assert_eq!(row([Some(1.0), None]), Verdict::Gone);
        assert_eq!(row([None, Some(1.0)]), Verdict::New);
    }
}
