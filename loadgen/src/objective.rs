//! Objectives: what a run must reach, as people write it, and whether it did.
//!
//! `[PHASE/]NAME=LIMIT`, which no shell needs quoted: a latency, a delay and the share of errors are at
//! most the limit, a rate is at least the limit. With quotes, `<`, `<=`, `>` and `>=` may be written.

use std::fmt;
use std::str::FromStr;

use crate::quantity::{digits, read_scaled, read_seconds, read_share, scaled, seconds};
use crate::results::{Figures, ObjectiveOutcome, Percentiles, Summary};
use crate::scenario::{Operation, Phase};

/// Why a text is no objective, or none for this run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectiveError {
    /// Not NAME=LIMIT.
    #[error("an objective is NAME=LIMIT, as upload_p99=2s, errors=0.1% or rate=50")]
    Shape,
    /// An unknown name.
    #[error(
        "no objective is called {0}; there are upload_p99, download_p99 and delay_p99 (or p50, p90, \
         p99.9, max), errors, rate (uploads stored per second), key_rate (keys stored per second) and delivery_rate \
         (keys delivered per second)"
    )]
    Name(String),
    /// The limit cannot be read.
    #[error("{name} needs {needs}")]
    Limit {
        /// Name of the objective.
        name: String,
        /// What its limit looks like.
        needs: &'static str,
    },
    /// The comparison is the wrong way round.
    #[error("{name} has {has}: write {name}={limit}")]
    Direction {
        /// Name of the objective.
        name: String,
        /// Which kind of limit it has.
        has: &'static str,
        /// The limit, as given.
        limit: String,
    },
    /// The run has no such phase.
    #[error("{objective}: there is no phase {phase}; there are {known}")]
    Phase {
        /// The objective.
        objective: String,
        /// The phase that it names.
        phase: String,
        /// The phases of the run.
        known: String,
    },
    /// Delays are measured for a whole run.
    #[error("{0}: a delay is measured for the whole run: leave out the phase")]
    DelayOfPhase(String),
    /// The run cannot measure it.
    #[error("{objective} cannot be measured: nothing {does} in {location}")]
    NotMeasured {
        /// The objective.
        objective: String,
        /// What would have to happen.
        does: &'static str,
        /// Where.
        location: String,
    },
}

/// A percentile of a latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantile {
    /// The median.
    P50,
    /// 90th percentile.
    P90,
    /// 99th percentile.
    P99,
    /// 99.9th percentile.
    P999,
    /// The slowest.
    Max,
}

/// Percentiles, as objectives name them.
const QUANTILES: [(&str, Quantile); 5] = [
    ("p50", Quantile::P50),
    ("p90", Quantile::P90),
    ("p99", Quantile::P99),
    ("p99.9", Quantile::P999),
    ("max", Quantile::Max),
];

impl Quantile {
    fn parse(text: &str) -> Option<Self> {
        let found = QUANTILES.iter().find(|(name, _)| *name == text);
        found.map(|(_, quantile)| *quantile)
    }

    /// As objectives name it.
    pub fn name(self) -> &'static str {
        let found = QUANTILES.iter().find(|(_, quantile)| *quantile == self);
        found.map_or("", |(name, _)| name)
    }

    /// The latency at this percentile, in microseconds.
    pub const fn of(self, percentiles: &Percentiles) -> u64 {
        match self {
            Self::P50 => percentiles.p50,
            Self::P90 => percentiles.p90,
            Self::P99 => percentiles.p99,
            Self::P999 => percentiles.p999,
            Self::Max => percentiles.max,
        }
    }

    /// Share of the requests that may be slower.
    const fn beyond(self) -> f64 {
        match self {
            Self::P50 => 0.5,
            Self::P90 => 0.1,
            Self::P99 => 0.01,
            Self::P999 => 0.001,
            Self::Max => 0.0,
        }
    }
}

/// What is compared with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Latency of uploads, from the scheduled arrival to 201.
    Upload(Quantile),
    /// Latency of downloads, from the scheduled arrival to the last byte of 200.
    Download(Quantile),
    /// Time from accepting an upload until it can be downloaded, as the gateway counts it.
    Delay(Quantile),
    /// Share of the requests that were not answered as expected, or never sent.
    Errors,
    /// Uploads stored per second.
    Rate,
    /// Keys stored per second.
    KeyRate,
    /// Keys delivered per second.
    DeliveryRate,
}

impl Measure {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "errors" => Self::Errors,
            "rate" => Self::Rate,
            "key_rate" => Self::KeyRate,
            "delivery_rate" => Self::DeliveryRate,
            _ => {
                let (of, quantile) = text.split_once('_').unwrap_or(("upload", text));
                let quantile = Quantile::parse(quantile)?;
                match of {
                    "upload" => Self::Upload(quantile),
                    "download" => Self::Download(quantile),
                    "delay" => Self::Delay(quantile),
                    _ => return None,
                }
            }
        })
    }

    /// With its unit, as summaries have it: `upload_p99_seconds`, `errors_share`.
    pub fn name(self) -> String {
        match self {
            Self::Upload(quantile) => format!("upload_{}_seconds", quantile.name()),
            Self::Download(quantile) => format!("download_{}_seconds", quantile.name()),
            Self::Delay(quantile) => format!("delay_{}_seconds", quantile.name()),
            Self::Errors => "errors_share".to_owned(),
            Self::Rate => "uploads_stored_per_second".to_owned(),
            Self::KeyRate => "keys_stored_per_second".to_owned(),
            Self::DeliveryRate => "keys_delivered_per_second".to_owned(),
        }
    }

    /// In a sentence.
    pub fn words(self) -> String {
        match self {
            Self::Upload(quantile) => format!("upload {}", quantile.name()),
            Self::Download(quantile) => format!("download {}", quantile.name()),
            Self::Delay(quantile) => format!("delay {}", quantile.name()),
            Self::Errors => "errors".to_owned(),
            Self::Rate => "uploads stored".to_owned(),
            Self::KeyRate => "keys stored".to_owned(),
            Self::DeliveryRate => "keys delivered".to_owned(),
        }
    }

    /// A value with its unit, for people.
    pub fn shown(self, value: f64) -> String {
        match self {
            Self::Upload(_) | Self::Download(_) | Self::Delay(_) => seconds(value),
            Self::Errors => format!("{} %", digits(value * 100.0)),
            Self::Rate | Self::KeyRate | Self::DeliveryRate => format!("{}/s", scaled(value)),
        }
    }

    const fn has_floor(self) -> bool {
        matches!(self, Self::Rate | Self::KeyRate | Self::DeliveryRate)
    }

    fn read_limit(self, text: &str) -> Result<f64, &'static str> {
        match self {
            Self::Upload(_) | Self::Download(_) | Self::Delay(_) => read_seconds(text)
                .filter(|limit| *limit > 0.0)
                .ok_or("a time of more than 0, as 250ms, 2s or 1min"),
            Self::Errors => read_share(text).ok_or("a share of 0 to 1, as 0.1% or 0.001"),
            Self::Rate | Self::KeyRate | Self::DeliveryRate => read_scaled(text)
                .filter(|limit| *limit > 0.0)
                .ok_or("a number per second of more than 0, as 50 or 250k"),
        }
    }

    /// In the unit of [`Measure::name`]; `None` when there was nothing to measure, and for a delay, which
    /// only a whole run has.
    #[allow(clippy::cast_precision_loss, reason = "a figure for people to read")]
    pub fn of(self, figures: &Figures) -> Option<f64> {
        let seconds = |micros: u64| micros as f64 / 1e6;
        match self {
            Self::Upload(quantile) => figures
                .upload
                .map(|upload| seconds(quantile.of(&upload.corrected))),
            Self::Download(quantile) => figures
                .download
                .map(|download| seconds(quantile.of(&download.corrected))),
            Self::Delay(_) => None,
            Self::Errors => figures.errors_share(),
            Self::Rate => Some(figures.uploads_per_second()),
            Self::KeyRate => Some(figures.upload_keys_per_second),
            Self::DeliveryRate => Some(figures.download_keys_per_second),
        }
    }

    /// Whether something in these phases can be measured; otherwise what is lacking.
    fn lacks(self, phases: &[&Phase]) -> Option<&'static str> {
        let has = |wanted: fn(&Operation) -> bool| {
            let mut streams = phases.iter().flat_map(|phase| &phase.streams);
            streams.any(|stream| wanted(&stream.does))
        };
        let uploads = |does: &Operation| matches!(does, Operation::Upload { .. });
        let downloads = |does: &Operation| matches!(does, Operation::Download | Operation::Follow);
        match self {
            Self::Upload(_) | Self::Delay(_) | Self::Rate | Self::KeyRate => {
                (!has(uploads)).then_some("uploads")
            }
            Self::Download(_) | Self::DeliveryRate => (!has(downloads)).then_some("downloads"),
            Self::Errors => None,
        }
    }
}

/// How a value compares with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    AtMost,
    Below,
    AtLeast,
    Above,
}

/// What a run must reach.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    text: String,
    /// Only this phase; otherwise the whole run.
    phase: Option<String>,
    measure: Measure,
    bound: Bound,
    limit: f64,
}

impl FromStr for Objective {
    type Err = ObjectiveError;

    fn from_str(text: &str) -> Result<Self, ObjectiveError> {
        let at = text.find(['=', '<', '>']).ok_or(ObjectiveError::Shape)?;
        let (subject, rest) = text.split_at(at);
        let operators = ["<=", ">=", "<", ">", "="];
        let found = operators
            .into_iter()
            .find_map(|operator| Some((operator, rest.strip_prefix(operator)?)));
        let (operator, limit) = found.ok_or(ObjectiveError::Shape)?;
        let (subject, limit) = (subject.trim(), limit.trim());
        if subject.is_empty() || limit.is_empty() {
            return Err(ObjectiveError::Shape);
        }
        let (phase, name) = match subject.rsplit_once('/') {
            Some((phase, name)) => (Some(phase.to_owned()), name),
            None => (None, subject),
        };
        let measure = Measure::parse(name).ok_or_else(|| ObjectiveError::Name(name.to_owned()))?;
        let bound = match (operator, measure.has_floor()) {
            ("=" | "<=", false) => Bound::AtMost,
            ("<", false) => Bound::Below,
            ("=" | ">=", true) => Bound::AtLeast,
            (">", true) => Bound::Above,
            (_, has_floor) => {
                return Err(ObjectiveError::Direction {
                    name: name.to_owned(),
                    has: match has_floor {
                        true => "a lowest value",
                        false => "a highest value",
                    },
                    limit: limit.to_owned(),
                });
            }
        };
        let limit = measure.read_limit(limit);
        let limit = limit.map_err(|needs| ObjectiveError::Limit {
            name: name.to_owned(),
            needs,
        })?;
        Ok(Self {
            text: text.to_owned(),
            phase,
            measure,
            bound,
            limit,
        })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Objective {
    /// What is compared.
    pub const fn measure(&self) -> Measure {
        self.measure
    }

    /// With what it is compared, in the unit of the measure.
    pub const fn limit(&self) -> f64 {
        self.limit
    }

    /// The phase that it is for; `None` when it is for the whole run.
    pub fn phase(&self) -> Option<&str> {
        self.phase.as_deref()
    }

    /// Whether a value is within the limit.
    pub fn holds(&self, value: f64) -> bool {
        match self.bound {
            Bound::AtMost => value <= self.limit,
            Bound::Below => value < self.limit,
            Bound::AtLeast => value >= self.limit,
            Bound::Above => value > self.limit,
        }
    }

    /// Says before a run whether it can be measured at all.
    ///
    /// # Errors
    /// When the run has no such phase, or nothing in it that could be measured.
    pub fn check(&self, phases: &[Phase]) -> Result<(), ObjectiveError> {
        let meant: Vec<_> = phases
            .iter()
            .filter(|phase| self.phase().is_none_or(|name| name == phase.name))
            .collect();
        if let (true, Some(phase)) = (meant.is_empty(), self.phase()) {
            let known: Vec<_> = phases.iter().map(|phase| phase.name.as_str()).collect();
            return Err(ObjectiveError::Phase {
                objective: self.text.clone(),
                phase: phase.to_owned(),
                known: known.join(", "),
            });
        }
        if let (Measure::Delay(_), Some(_)) = (self.measure, self.phase()) {
            return Err(ObjectiveError::DelayOfPhase(self.text.clone()));
        }
        match self.measure.lacks(&meant) {
            None => Ok(()),
            Some(does) => Err(ObjectiveError::NotMeasured {
                objective: self.text.clone(),
                does,
                location: match self.phase() {
                    Some(phase) => format!("phase {phase}"),
                    None => "this run".to_owned(),
                },
            }),
        }
    }

    /// Whether a run has reached it. What was not measured was not reached.
    pub fn outcome(&self, summary: &Summary) -> ObjectiveOutcome {
        let figures = match self.phase() {
            None => Some(&summary.total),
            Some(name) => summary
                .phases
                .iter()
                .find(|phase| phase.name == name)
                .map(|phase| &phase.all),
        };
        let measured = match self.measure {
            Measure::Delay(quantile) => {
                let delay = summary.delay.as_ref();
                delay.and_then(|delay| delay.seconds_at(1.0 - quantile.beyond()))
            }
            measure => figures.and_then(|figures| measure.of(figures)),
        };
        let omitted = figures.and_then(|figures| self.omitted(figures));
        ObjectiveOutcome {
            objective: self.text.clone(),
            measure: self.measure.name(),
            limit: self.limit,
            measured,
            ok: omitted.is_none() && measured.is_some_and(|value| self.holds(value)),
            omitted_share: omitted,
        }
    }

    /// Share of the requests that were due and never sent, if there are more of them than may be
    /// slower than the percentile: they would have been slower than all that were answered, and are
    /// in no latency.
    #[allow(clippy::cast_precision_loss, reason = "a share for people to read")]
    fn omitted(&self, figures: &Figures) -> Option<f64> {
        let (Measure::Upload(quantile) | Measure::Download(quantile)) = self.measure else {
            return None;
        };
        let share = figures.dropped as f64 / figures.due.max(1) as f64;
        (share > quantile.beyond()).then_some(share)
    }
}

#[cfg(test)]
mod tests;
