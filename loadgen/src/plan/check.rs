//! Compares what the unit costs predict for a run with what the run measured.
//!
//! Taken from the results: what was asked of the gateway (keys, uploads, bytes), the timetable, the
//! processors that everything shared, and the cost of the load generator itself. Predicted: how
//! busy gateway and database were, how long each phase took, and by how much the disk grew.

use std::fmt;

use serde::Serialize;

use super::costs::UnitCosts;
use super::definitions::CostOf;
use super::from_results::disk_growth;
use crate::quantity;
use crate::results::{Figures, PhaseSummary, Results, Run};

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    /// What it is.
    pub name: String,
    /// Of both numbers.
    pub unit: &'static str,
    /// From unit costs.
    pub predicted: f64,
    /// In the results.
    pub measured: f64,
    /// Predicted against measured; positive: predicted too much.
    pub error_percent: f64,
}

/// A run checked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// The run's name.
    pub run: String,
    /// Where the unit costs come from.
    pub costs: String,
    /// What is to be kept in mind: that the costs are another database's.
    pub notes: Vec<String>,
    /// Figure by figure.
    pub figures: Vec<Checked>,
}

impl Check {
    /// Predicts the figures of a run. Empty when the run has no summary.
    pub fn of(results: &Results, costs: &UnitCosts) -> Self {
        let predictor = Predictor { results, costs };
        Self {
            run: results.run.name.clone(),
            costs: costs.source.label.clone(),
            notes: database_note(&results.run, costs).into_iter().collect(),
            figures: predictor.figures(),
        }
    }
}

/// Says so when the costs were measured on another database than the run's, or when that is not known.
fn database_note(run: &Run, costs: &UnitCosts) -> Option<String> {
    let (of_run, of_costs) = (run.database.as_deref(), &costs.source.database);
    // A version may follow: `MariaDB 10.11.19`.
    let product = |name: &str| {
        name.split(' ')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    match of_run {
        Some(of_run) if product(of_run) == product(of_costs) => None,
        Some(of_run) => Some(format!(
            "The run was on {of_run}, and these costs were measured on {of_costs}: what the database \
             does is not comparable. Measure costs on {of_run}, or give results of such a run with \
             --costs."
        )),
        None => Some(format!(
            "The results do not name the run's database, and these costs were measured on {of_costs}: \
             give --database sqlite if the gateway has SQLite."
        )),
    }
}

struct Predictor<'a> {
    results: &'a Results,
    costs: &'a UnitCosts,
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts of a run are far below 2^53"
)]
impl Predictor<'_> {
    fn cost(&self, of: CostOf) -> f64 {
        self.costs.value(of).0
    }

    fn gateway_s(&self, figures: &Figures) -> f64 {
        figures.upload_keys as f64 * self.cost(|costs| costs.gateway_upload_ns_per_key) / 1e9
            + figures.uploads as f64 * self.cost(|costs| costs.gateway_upload_us_per_request) / 1e6
            + figures.bytes_received as f64 * self.cost(|costs| costs.gateway_download_ns_per_byte)
                / 1e9
    }

    fn database_s(&self, figures: &Figures) -> f64 {
        figures.upload_keys as f64 * self.cost(|costs| costs.database_ns_per_key) / 1e9
            + figures.uploads as f64 * self.cost(|costs| costs.database_us_per_upload) / 1e6
    }

    fn figures(&self) -> Vec<Checked> {
        let Some(summary) = &self.results.summary else {
            return Vec::new();
        };
        let total = &summary.total;
        let mut figures = Vec::new();
        let cpu = [
            ("gateway", self.gateway_s(total)),
            ("database", self.database_s(total)),
        ];
        for (process, predicted) in cpu {
            if let Some(&measured) = summary.cpu_seconds.get(process) {
                let name = format!("{process} processor time");
                figures.push(checked(name, "s", predicted, measured));
            }
        }
        let phases = summary
            .phases
            .iter()
            .filter(|phase| phase.all.seconds > 0.0);
        for phase in phases.filter(|phase| phase.cpu_seconds.contains_key("gateway")) {
            let seconds = self.phase_s(phase);
            let name = |what: &str| format!("{}: {what}", phase.name);
            figures.push(checked(name("time"), "s", seconds, phase.all.seconds));
            if phase.all.upload_keys > 0 && seconds > 0.0 {
                let rate = phase.all.upload_keys as f64 / seconds;
                let measured = phase.all.upload_keys_per_second;
                figures.push(checked(name("rate"), "keys/s", rate, measured));
            }
        }
        if let Some((grown, keys)) = disk_growth(&self.results.seconds) {
            let predicted = keys * self.cost(|costs| costs.disk_bytes_per_key);
            figures.push(checked("disk growth".to_owned(), "bytes", predicted, grown));
        }
        figures
    }

    /// A phase lasts as long as its timetable, or as whatever it keeps busy for longer.
    fn phase_s(&self, phase: &PhaseSummary) -> f64 {
        let figures = &phase.all;
        let own = phase.cpu_seconds.get("loadgen").copied().unwrap_or(0.0);
        let database = match phase.cpu_seconds.contains_key("database") {
            true => self.database_s(figures),
            false => 0.0,
        };
        let cpus = self.results.run.machine.cpus.max(1) as f64;
        let busy = (self.gateway_s(figures) + database + own) / cpus;
        let writer = figures.upload_keys as f64 * self.cost(|costs| costs.writer_ns_per_key) / 1e9;
        let offered = phase.offered_keys_per_second.filter(|rate| *rate > 0.0);
        let timetable = offered.map_or(0.0, |rate| figures.upload_keys as f64 / rate);
        busy.max(writer).max(timetable)
    }
}

fn checked(name: String, unit: &'static str, predicted: f64, measured: f64) -> Checked {
    let error_percent = match measured.abs() > f64::EPSILON {
        true => (predicted / measured - 1.0) * 100.0,
        false => 0.0,
    };
    Checked {
        name,
        unit,
        predicted,
        measured,
        error_percent,
    }
}

/// Predicted, measured, error: one line per figure.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, predicted by {}\n", self.run, self.costs)?;
        for note in &self.notes {
            writeln!(f, "  {note}\n")?;
        }
        if self.figures.is_empty() {
            return write!(
                f,
                "  nothing to check: the run has no summary with processor times"
            );
        }
        write!(
            f,
            "  {:<34} {:>12} {:>12} {:>8}",
            "", "predicted", "measured", "error"
        )?;
        for figure in &self.figures {
            let show = |value: f64| match figure.unit {
                "s" => quantity::seconds(value),
                "bytes" => quantity::bytes(value),
                _ => quantity::scaled(value),
            };
            let name = match figure.unit {
                "s" | "bytes" => figure.name.clone(),
                unit => format!("{}, {unit}", figure.name),
            };
            write!(
                f,
                "\n  {name:<34} {:>12} {:>12} {:>+7.1}%",
                show(figure.predicted),
                show(figure.measured),
                figure.error_percent
            )?;
        }
        Ok(())
    }
}
