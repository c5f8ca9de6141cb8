//! The dated folder of a run: a report with charts, and the raw values.

use std::path::{Path, PathBuf};

use loadgen::quantity::scaled;
use loadgen::report::axis::Axis;
use loadgen::report::chart::{Bar, bars};

use crate::baseline::{self, Row};
use crate::counts::Counts;
use crate::machine::Machine;
use crate::ratios::{Figure, Ratio, kind, spread};
use crate::run::Run;
use crate::table;

/// Writes `YYYY-MM-DD-HHMM-suite/` below a folder.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(run: &Run, reports: &Path) -> anyhow::Result<PathBuf> {
    let folder = reports.join(format!("{}-{}-suite", run.begun_day, run.begun_minute));
    std::fs::create_dir_all(&folder)?;
    let rows = baseline::compare(run)?;
    std::fs::write(folder.join("raw.json"), serde_json::to_string_pretty(run)?)?;
    for (file, svg) in plots(run) {
        std::fs::write(folder.join(file), svg)?;
    }
    std::fs::write(folder.join("README.md"), text(run, &rows))?;
    Ok(folder)
}

fn text(run: &Run, rows: &[Row]) -> String {
    let Machine {
        processor,
        cores,
        memory_mib,
        kernel,
        rustc,
        valgrind,
    } = &run.machine;
    let mut out = format!(
        "# Regression suite, {}\n\n\
         Machine: {cores} cores of {processor}, {memory_mib} MiB, Linux {kernel}; database, gateway \
         and the suite's client on the same cores. {rustc}, {valgrind}. Commit: `{}`.\n\n\
         Command: `{}`.\n\n\
         Load averages: {}.\n\n",
        run.begun_day,
        run.commit,
        run.command,
        run.loads.join("; ")
    );
    if !run.figures.is_empty() {
        out.push_str(
            "## Figures\n\nMedians over the rounds of this run, with their extremes.\n\n| figure | median | least | most | unit | must | goal |\n\
             | --- | ---: | ---: | ---: | --- | ---: | ---: |\n",
        );
        out.extend(run.figures.iter().map(figure_row));
        out.push_str("\n![figures](figures.svg)\n\n");
    }
    if !run.ratios.is_empty() {
        out.push_str(
            "## Ratios\n\n| ratio | protects | median | least | most |\n\
             | --- | --- | ---: | ---: | ---: |\n",
        );
        out.extend(run.ratios.iter().map(ratio_row));
        out.push_str("\n![ratios](ratios.svg)\n\n");
    }
    if run.counts.is_some() {
        out.push_str("![instructions](instructions.svg)\n\n");
    }
    out.push_str("## Beside the baseline\n\n```\n");
    let mut printed = Vec::new();
    table::print(rows, &mut printed).expect("a vector takes whatever is written to it");
    out.push_str(&String::from_utf8_lossy(&printed));
    out.push_str("```\n");
    out
}

fn figure_row(figure: &Figure) -> String {
    let (least, most) = spread(&figure.rounds);
    let target = figure.target;
    let (must, goal) = target.map_or((String::new(), String::new()), |target| {
        (scaled(target.must), scaled(target.goal))
    });
    format!(
        "| {} | {} | {} | {} | {} | {must} | {goal} |\n",
        figure.name,
        scaled(figure.median()),
        scaled(least),
        scaled(most),
        figure.unit
    )
}

fn ratio_row(ratio: &Ratio) -> String {
    let (least, most) = spread(&ratio.rounds);
    format!(
        "| {} | {} | {:.3} | {least:.3} | {most:.3} |\n",
        ratio.name,
        kind(ratio.name).map_or("", |kind| kind.protects),
        ratio.median()
    )
}

/// File names and charts.
fn plots(run: &Run) -> Vec<(&'static str, String)> {
    let instructions = run.counts.iter().flat_map(instruction_bars).collect();
    let ratios = run.ratios.iter().map(|ratio| (ratio.name, ratio.median()));
    // One long bar would hide all others.
    let ratios = ratios.filter(|(_, value)| *value < 20.0);
    let charts = [
        (
            "figures.svg",
            Axis::linear("share of the required value; the line is at 1"),
            run.figures.iter().filter_map(target_bar).collect(),
            Some(1.0),
        ),
        (
            "ratios.svg",
            Axis::linear("ratio"),
            ratios.map(|(name, value)| bar(name, value, "")).collect(),
            None,
        ),
        (
            "instructions.svg",
            Axis::linear("instructions per key, uploads of 5000 keys"),
            instructions,
            None,
        ),
    ];
    let drawn = charts.into_iter().filter_map(|(file, axis, values, mark)| {
        let values: Vec<Bar> = values;
        Some((file, bars(&axis, &values, mark)?))
    });
    drawn.collect()
}

fn bar(name: impl Into<String>, value: f64, note: &str) -> Bar {
    Bar {
        name: name.into(),
        parts: vec![value],
        value: format!("{}{note}", scaled(value)),
    }
}

/// A figure as a share of its required value: figures have different units.
fn target_bar(figure: &Figure) -> Option<Bar> {
    let target = figure.target?;
    let goal = format!(" (goal {})", scaled(target.goal / target.must));
    Some(bar(&*figure.name, figure.median() / target.must, &goal))
}

fn instruction_bars(counts: &Counts) -> impl Iterator<Item = Bar> {
    let full = counts.iter().filter(|(name, _)| name.ends_with("/5000"));
    #[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
    let each = full.map(|(name, count)| bar(name, *count as f64 / 5000.0, ""));
    each
}
