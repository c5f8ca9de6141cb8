//! The page: its plots, in order.

use super::axis::Axis;
use super::chart::{Bar, Line, Mark, Marks, bars, lines, marked_lines};
use super::named::{Named, PROCESSES};
use super::page::Page;
use super::{curves, tables};

use crate::objective::{Measure, Objective, Quantile};
use crate::results::{Limit, Results, Summary};
use crate::verdict;

/// The report.
pub fn page(runs: &[Named]) -> String {
    let labels: Vec<_> = runs.iter().map(|run| run.label.clone()).collect();
    let mut page = Page::new(&format!("Load report: {}", labels.join(", ")));
    verdicts(&mut page, runs);
    limits(&mut page, runs);
    tables::totals(&mut page, runs);
    Plots {
        page: &mut page,
        phases: common_phases(runs),
        runs,
    }
    .draw();
    tables::phases(&mut page, runs);
    tables::origins(&mut page, runs);
    page.finish()
}

/// The verdict on each run, in a sentence.
fn verdicts(page: &mut Page, runs: &[Named]) {
    let line = |run: &Named| {
        let sentence = match &run.results.summary {
            Some(summary) => verdict::sentence(summary),
            None => "Not decided: the run was cut off before its end.".to_owned(),
        };
        match runs.len() {
            1 => sentence,
            _ => format!("{}: {sentence}", run.label),
        }
    };
    let met = |run: &Named| run.results.summary.as_ref().and_then(verdict::met);
    let lines: Vec<_> = runs.iter().map(|run| (met(run), line(run))).collect();
    page.verdicts(&lines);
}

/// Share of the longest run by which the phases of runs may differ and still be marked alike.
const PHASES_DIFFER_MAX: f64 = 0.05;

/// The phases of one run, or those that all runs have at about the same times.
fn common_phases(runs: &[Named]) -> Vec<Mark> {
    let mut all = runs.iter().map(|run| curves::phases(&run.results));
    let first = all.next().unwrap_or_default();
    let ends = runs.iter().filter_map(|run| run.results.seconds.last());
    let differ_max = ends.map(|second| second.at).fold(0.0, f64::max) * PHASES_DIFFER_MAX;
    let alike = |(one, other): (&Mark, &Mark)| {
        one.name == other.name && (one.at - other.at).abs() <= differ_max
    };
    let same = |marks: Vec<Mark>| marks.len() == first.len() && marks.iter().zip(&first).all(alike);
    match all.all(same) {
        true => first,
        false => Vec::new(),
    }
}

/// How latency grows with the rate, for each search for a limit.
fn limits(page: &mut Page, runs: &[Named]) {
    let found = runs.iter().filter_map(|run| {
        let summary = run.results.summary.as_ref()?;
        Some((run, summary, summary.limit.as_ref()?))
    });
    for (number, (run, summary, limit)) in found.enumerate() {
        if number == 0 {
            page.section("Latency by rate");
        }
        latency_by_rate(page, &run.label, summary, limit);
    }
}

fn latency_by_rate(page: &mut Page, label: &str, summary: &Summary, limit: &Limit) {
    let objective = limit.objective.parse::<Objective>().ok();
    let mut quantiles = vec![Quantile::P50, Quantile::P99];
    if let Some(Measure::Upload(quantile)) = objective.as_ref().map(Objective::measure)
        && !quantiles.contains(&quantile)
    {
        quantiles.push(quantile);
    }
    let drawn = curves::latency_by_rate(summary, &quantiles);
    let mark = |at: f64, name: &str| Mark {
        at,
        name: name.to_owned(),
    };
    let held = Some(limit.uploads_per_second).filter(|rate| *rate > 0.0);
    let held = held.map(|rate| mark(rate, "held"));
    let broke = limit.broke_at_uploads_per_second;
    let broke = broke.map(|rate| mark(rate, "failed"));
    let level = objective.map(|objective| mark(objective.limit() * 1000.0, &limit.objective));
    let marks = Marks {
        upright: held.into_iter().chain(broke).collect(),
        level: level.into_iter().collect(),
        dots: true,
        ..Marks::default()
    };
    let (x, y) = (Axis::linear("offered, uploads/s"), Axis::log("latency, ms"));
    if let Some(svg) = marked_lines(&x, &y, &drawn, &marks) {
        let names: Vec<_> = drawn.iter().map(|line| line.name.clone()).collect();
        let caption = format!(
            "{label}: latency of uploads at each rate that was tried, against the objective. A rate \
             may also fail because uploads were not stored or not sent in time."
        );
        page.figure(&caption, &names, &svg);
    }
}

struct Plots<'a> {
    page: &'a mut Page,
    /// Marked in everything that is drawn over time.
    phases: Vec<Mark>,
    runs: &'a [Named],
}

impl Plots<'_> {
    fn draw(&mut self) {
        self.throughput();
        self.latency();
        self.processes();
        self.stages();
        self.storage();
    }

    /// One line per run.
    fn compare(&mut self, y: &Axis, caption: &str, of: impl Fn(&Results) -> curves::Points) {
        let drawn: Vec<_> = self
            .runs
            .iter()
            .map(|run| Line {
                name: run.label.clone(),
                points: of(&run.results),
            })
            .collect();
        self.over_time(y, caption, &drawn);
    }

    fn over_time(&mut self, y: &Axis, caption: &str, drawn: &[Line]) {
        let ends = self
            .runs
            .iter()
            .filter_map(|run| run.results.seconds.last());
        let marks = Marks {
            upright: self.phases.clone(),
            until: ends.map(|second| second.at).fold(0.0, f64::max),
            ..Marks::default()
        };
        let x = Axis::linear("time since the start, s");
        if let Some(svg) = marked_lines(&x, y, drawn, &marks) {
            let names: Vec<_> = drawn.iter().map(|line| line.name.clone()).collect();
            self.page.figure(caption, &names, &svg);
        }
    }

    fn throughput(&mut self) {
        self.page.section("Throughput");
        if !self.phases.is_empty() {
            self.page.text(
                "Upright lines mark the beginning of each phase, with its name where there is room.",
            );
        }
        let keys = Axis::linear("keys/s");
        self.compare(
            &keys,
            "Keys stored (uploads answered with 201), second by second.",
            |run| curves::rate(run, |counts| counts.upload_keys),
        );
        self.compare(
            &keys,
            "Keys delivered (downloads answered with 200).",
            |run| curves::rate(run, |counts| counts.download_keys),
        );
        self.compare(
            &Axis::linear("requests"),
            "Requests that were due and not yet sent: where this grows, more was offered than taken.",
            curves::behind,
        );
    }

    fn latency(&mut self) {
        self.page.section("Latency");
        self.page.text(
            "From the intended arrival to the answer, so that a slow answer counts for everybody \
             who waited behind it (corrected for coordinated omission).",
        );
        let axis = Axis::log("latency, ms");
        for (what, kind) in [
            ("Uploads", curves::Kind::Upload),
            ("Downloads", curves::Kind::Download),
        ] {
            self.latency_over_time(&axis, what, kind);
            self.percentiles(what, kind);
        }
    }

    /// One run: both percentiles in one drawing. Several: one drawing per percentile.
    fn latency_over_time(&mut self, axis: &Axis, what: &str, kind: curves::Kind) {
        let quantiles = [("p50", 0.5), ("p99", 0.99)];
        if let [run] = self.runs {
            let drawn = quantiles.map(|(name, quantile)| Line {
                name: name.to_owned(),
                points: curves::latency(&run.results, kind, quantile),
            });
            self.over_time(axis, &format!("{what}, second by second."), &drawn);
            return;
        }
        for (name, quantile) in quantiles {
            let caption = format!("{what}, {name} of each second.");
            self.compare(axis, &caption, |run| curves::latency(run, kind, quantile));
        }
    }

    /// Latency by percentile, on a scale where each nine has the same width.
    fn percentiles(&mut self, what: &str, kind: curves::Kind) {
        let drawn: Vec<_> = self
            .runs
            .iter()
            .map(|run| Line {
                name: run.label.clone(),
                points: curves::percentiles(&run.results, kind),
            })
            .collect();
        let x = curves::percentile_axis(&drawn);
        if let Some(svg) = lines(&x, &Axis::log("latency, ms"), &drawn) {
            let names: Vec<_> = drawn.iter().map(|line| line.name.clone()).collect();
            let caption = format!("{what}, the whole run by percentile.");
            self.page.figure(&caption, &names, &svg);
        }
    }

    fn processes(&mut self) {
        let any = self.runs.iter().flat_map(|run| &run.results.seconds);
        if any.clone().all(|second| second.processes.is_empty()) {
            return;
        }
        self.page.section("Processor time and memory");
        let cores = Axis::linear("cores busy");
        self.by_process(&cores, "Processors in use", curves::cores);
        self.by_process(
            &Axis::linear("resident set, MB"),
            "Resident set",
            curves::resident,
        );
    }

    /// One run: one line per process. Several: one drawing per process, one line per run.
    fn by_process(&mut self, y: &Axis, what: &str, of: fn(&Results, &str) -> curves::Points) {
        if let [run] = self.runs {
            let drawn = PROCESSES.map(|process| Line {
                name: process.to_owned(),
                points: of(&run.results, process),
            });
            let drawn: Vec<_> = drawn
                .into_iter()
                .filter(|line| !line.points.is_empty())
                .collect();
            self.over_time(y, &format!("{what}, by process."), &drawn);
            return;
        }
        for process in PROCESSES {
            self.compare(y, &format!("{what}: {process}."), |run| of(run, process));
        }
    }

    fn stages(&mut self) {
        let budgets: Vec<_> = self
            .runs
            .iter()
            .map(|run| curves::stages(&run.results))
            .collect();
        let mut names: Vec<String> = Vec::new();
        for (name, _) in budgets.iter().flatten() {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        if names.is_empty() {
            return;
        }
        let bar = |(run, budget): (&Named, &Vec<(String, f64)>)| {
            let part = |name: &String| {
                let found = budget.iter().find(|(stage, _)| stage == name);
                found.map_or(0.0, |(_, nanos)| *nanos)
            };
            let parts: Vec<_> = names.iter().map(part).collect();
            let all: f64 = parts.iter().sum();
            Bar {
                name: run.label.clone(),
                parts,
                value: format!("{} ns", crate::quantity::digits(all)),
            }
        };
        let drawn: Vec<_> = self.runs.iter().zip(&budgets).map(bar).collect();
        self.page.section("Stage budget");
        if let Some(svg) = bars(
            &Axis::linear("time in the stage, ns per stored key"),
            &drawn,
            None,
        ) {
            let caption = "Time that the gateway spent in each stage, by its own metrics. Stages run beside one another, and waiting counts.";
            self.page.figure(caption, &names, &svg);
        }
        tables::stages(self.page, self.runs, &names, &drawn);
    }

    fn storage(&mut self) {
        let any = self.runs.iter().flat_map(|run| &run.results.seconds);
        if any.clone().all(|second| second.disk_bytes.is_none()) {
            return;
        }
        self.page.section("Storage");
        self.compare(
            &Axis::linear("database files, MB"),
            "Files of the database.",
            curves::disk,
        );
        self.compare(
            &Axis::linear("keys"),
            "Keys that the run has stored.",
            curves::stored,
        );
    }
}
