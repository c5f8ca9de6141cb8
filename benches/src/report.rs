//! A run, and the dated folder that it leaves: what was measured on what, raw and to look at.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::baseline::{self, Row};
use crate::counts::Counts;
use crate::machine::{self, Machine};
use crate::plot::{Bar, bars, short};
use crate::ratios::{Figure, Ratio, kind, spread};
use crate::table;

/// Everything that a run measured.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) begun_day: String,
    begun_minute: String,
    commit: String,
    command: String,
    machine: Machine,
    /// The load average when the run began, and after each part.
    loads: Vec<String>,
    pub(crate) counts: Option<Counts>,
    pub(crate) ratios: Vec<Ratio>,
    pub(crate) figures: Vec<Figure>,
}

impl Run {
    pub(crate) fn new() -> Self {
        let now = OffsetDateTime::from(std::time::UNIX_EPOCH)
            + time::Duration::milliseconds(i64::try_from(now_millis()).unwrap_or(0));
        let day = now.format(format_description!("[year]-[month]-[day]"));
        let minute = now.format(format_description!("[hour][minute]"));
        let command: Vec<_> = std::env::args().skip(1).collect();
        Self {
            begun_day: day.expect("the format needs a date only"),
            begun_minute: minute.expect("the format needs a time only"),
            commit: machine::commit(),
            command: format!("perf {}", command.join(" ")),
            machine: Machine::here(),
            loads: vec![format!("begin: {}", machine::load())],
            counts: None,
            ratios: Vec::new(),
            figures: Vec::new(),
        }
    }

    /// Notes how busy the machine is.
    pub(crate) fn note_load(&mut self, after: &str) {
        self.loads
            .push(format!("after {after}: {}", machine::load()));
    }
}

fn now_millis() -> u64 {
    use engine::Clock as _;
    engine::SystemClock.now().0
}

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
            "## Figures\n\nMedians over the rounds of this run; what they were between is beside \
             them.\n\n| figure | median | least | most | unit | must | goal |\n\
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
        (short(target.must), short(target.goal))
    });
    format!(
        "| {} | {} | {} | {} | {} | {must} | {goal} |\n",
        figure.name,
        short(figure.median()),
        short(least),
        short(most),
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

/// File names and drawings.
fn plots(run: &Run) -> Vec<(&'static str, String)> {
    let mut plots = Vec::new();
    if !run.figures.is_empty() {
        plots.push(("figures.svg", figures_plot(&run.figures)));
    }
    if !run.ratios.is_empty() {
        let bar = |ratio: &Ratio| Bar {
            label: ratio.name.to_owned(),
            value: ratio.median(),
            mark: None,
        };
        let shown: Vec<_> = run
            .ratios
            .iter()
            .map(bar)
            .filter(|bar| bar.value < 20.0)
            .collect();
        plots.push(("ratios.svg", bars("Ratios of one run", "-", &shown)));
    }
    if let Some(counts) = &run.counts {
        let full = counts.iter().filter(|(name, _)| name.ends_with("/5000"));
        #[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
        let bar = |(name, count): (&String, &u64)| Bar {
            label: name.clone(),
            value: *count as f64 / 5000.0,
            mark: None,
        };
        let shown: Vec<_> = full.map(bar).collect();
        let title = "Uploads of 5000 keys";
        plots.push((
            "instructions.svg",
            bars(title, "instructions a key", &shown),
        ));
    }
    plots
}

/// One drawing for each unit, one below the other, is one too many: shares of what must be reached.
fn figures_plot(figures: &[Figure]) -> String {
    let bar = |figure: &Figure| {
        let target = figure.target?;
        Some(Bar {
            label: format!("{}, {}", figure.name, figure.unit),
            value: figure.median() / target.must,
            mark: Some(target.goal / target.must),
        })
    };
    let shown: Vec<_> = figures.iter().filter_map(bar).collect();
    bars(
        "Targets: 1 is what must be reached, the tick is the goal",
        "share",
        &shown,
    )
}

/// A short text of a figure, for the terminal.
pub(crate) fn line(figure: &Figure) -> String {
    let mut out = String::new();
    let (least, most) = spread(&figure.rounds);
    let written = write!(
        out,
        "  {:44} {:>10} {} ({} to {})",
        figure.name,
        short(figure.median()),
        figure.unit,
        short(least),
        short(most)
    );
    written.expect("a string takes whatever is written to it");
    if let Some(target) = figure.target {
        let written = write!(
            out,
            ", must {}, goal {}",
            short(target.must),
            short(target.goal)
        );
        written.expect("a string takes whatever is written to it");
    }
    out
}
