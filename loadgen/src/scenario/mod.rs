//! Scenarios: who sends what, when. A scenario is a list of phases; a phase is a list of streams
//! that run side by side; a stream has a timetable (or keeps its connections busy) and does one
//! thing. Written in TOML; `scenarios/*.toml` come with the program and explain every member.

mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use self::read::{RawScenario, read_phase};
use crate::hostile::Kind;
use crate::profiles::Distribution;

/// The scenarios that come with the program, by name.
const SHIPPED: [(&str, &str); 11] = [
    (
        "duplicates",
        include_str!("../../scenarios/duplicates.toml"),
    ),
    ("flood", include_str!("../../scenarios/flood.toml")),
    ("growth", include_str!("../../scenarios/growth.toml")),
    (
        "hostile-mix",
        include_str!("../../scenarios/hostile-mix.toml"),
    ),
    (
        "hourly-burst",
        include_str!("../../scenarios/hourly-burst.toml"),
    ),
    (
        "many-participants",
        include_str!("../../scenarios/many-participants.toml"),
    ),
    ("mixed", include_str!("../../scenarios/mixed.toml")),
    (
        "slow-clients",
        include_str!("../../scenarios/slow-clients.toml"),
    ),
    ("soak", include_str!("../../scenarios/soak.toml")),
    ("steady", include_str!("../../scenarios/steady.toml")),
    ("worst-day", include_str!("../../scenarios/worst-day.toml")),
];

/// Most participants that a scenario may name.
const PARTICIPANTS_MAX: usize = 600;

/// Why there is no such scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not written as scenarios are.
    #[error("scenario {name}: {source}")]
    Syntax {
        /// Its name.
        name: String,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// There is no scenario of that name, and no such file.
    #[error("no scenario is called {name}, nor is there such a file; there are {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A phase or a stream makes no sense.
    #[error("scenario {name}, {place}: {reason}")]
    Invalid {
        /// Its name.
        name: String,
        /// The phase, or phase and stream.
        place: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Who sends what, when.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its name: what was asked for, or the file's name without its ending.
    pub name: String,
    /// As it was written.
    pub text: String,
    /// At most so many participants take part, the most populous first.
    pub participants: usize,
    /// How uploads spread over them.
    pub distribution: Distribution,
    /// One after the other.
    pub phases: Vec<Phase>,
}

/// A part of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long requests become due; without it, a phase ends with its keys.
    pub seconds: Option<f64>,
    /// Whether everything is made and signed before the clock starts.
    pub ahead: bool,
    /// Whether the gateway is started again at the end, and how long that takes is measured. Only
    /// with a private gateway.
    pub restart: bool,
    /// Side by side.
    pub streams: Vec<Stream>,
}

/// One kind of load.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Its name, unique in its phase.
    pub name: String,
    /// What it does.
    pub does: Deed,
    /// When.
    pub arrivals: Arrivals,
    /// So many of the scenario's participants, after `skip`.
    pub participants: Option<usize>,
    /// The most populous participants that do not take part in this stream.
    pub skip: usize,
    /// Connections of each participant, each with one request in flight.
    pub connections: usize,
    /// Bytes a second of a connection that trickles; 0 for one that does not.
    pub bytes_per_second: u32,
    /// How long a request is tried again after "not now" and broken connections, in seconds.
    pub retry_seconds: f64,
    /// Statuses that are as welcome as success.
    pub expect: BTreeSet<u16>,
    /// Whether no answer at all is as welcome, too: a gateway may close on who is too slow.
    pub expect_broken: bool,
}

/// What a stream does.
#[derive(Debug, Clone, PartialEq)]
pub enum Deed {
    /// Uploads fresh keys.
    Upload {
        /// Keys in an upload.
        upload_keys: u32,
        /// Keys of the whole stream, when it is not bounded by time.
        keys: Option<u64>,
        /// Share of the uploads that repeat keys of earlier phases: 207 is expected.
        duplicates: f64,
    },
    /// Asks for one batch after the other, from the first again after the last.
    Download,
    /// Asks for what is new until there is nothing more, as national backends do.
    Follow,
    /// Sends what no participant should, and expects the refusal.
    Hostile(Vec<Kind>),
}

/// When requests become due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// At random, independently of each other: exponential gaps.
    Poisson(Rate),
    /// At equal distances.
    Fixed(Rate),
    /// Whenever a connection is free. There is no timetable, so that a slow answer delays the next
    /// request: for top rates, not for latencies.
    Closed,
}

/// How many requests become due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Requests a second of all participants together, on average.
    pub per_second: f64,
    /// How they bunch.
    pub burst: Option<Burst>,
}

/// Arrivals that bunch: `share` of each period's fall into its first `lasts_seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// Length of a period.
    pub every_seconds: f64,
    /// Length of the burst at its beginning.
    pub lasts_seconds: f64,
    /// Share of the period's arrivals that fall into the burst, 0 to 1.
    pub share: f64,
}

impl Scenario {
    /// The names and descriptions of the scenarios that come with the program.
    pub fn shipped() -> impl Iterator<Item = (&'static str, String)> {
        let description = |text| toml::from_str::<RawScenario>(text).map(|raw| raw.description);
        SHIPPED
            .into_iter()
            .map(move |(name, text)| (name, description(text).unwrap_or_default()))
    }

    /// The scenario of that name, or in that file.
    ///
    /// # Errors
    /// When there is neither, or it makes no sense.
    pub fn find(name: &str) -> Result<Self, ScenarioError> {
        if let Some((name, text)) = SHIPPED.into_iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text);
        }
        let path = Path::new(name);
        if !path.is_file() {
            return Err(ScenarioError::Unknown {
                name: name.to_owned(),
                known: SHIPPED.map(|(name, _)| name).join(", "),
            });
        }
        let text = std::fs::read_to_string(path).map_err(|source| ScenarioError::Read {
            path: path.to_owned(),
            source,
        })?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&name, &text)
    }

    /// Reads a scenario.
    ///
    /// # Errors
    /// When it is malformed, has an unknown member, or makes no sense.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let raw: RawScenario = toml::from_str(text).map_err(|source| ScenarioError::Syntax {
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        let invalid = |(place, reason)| ScenarioError::Invalid {
            name: name.to_owned(),
            place,
            reason,
        };
        if !(1..=PARTICIPANTS_MAX).contains(&raw.participants) || raw.phases.is_empty() {
            let reason = "needs phases, and from 1 to 600 participants";
            return Err(invalid(("as a whole".to_owned(), reason)));
        }
        let mut phases = Vec::new();
        for phase in &raw.phases {
            let read = read_phase(phase, raw.participants).map_err(invalid)?;
            let copies = (1..=phase.repeat).map(|number| Phase {
                name: match phase.repeat {
                    1 => phase.name.clone(),
                    _ => format!("{}-{number}", phase.name),
                },
                ..read.clone()
            });
            phases.extend(copies);
        }
        let scenario = Self {
            name: name.to_owned(),
            text: text.to_owned(),
            participants: raw.participants,
            distribution: raw.distribution,
            phases,
        };
        scenario.check_duplicates().map_err(invalid)?;
        Ok(scenario)
    }

    fn check_duplicates(&self) -> Result<(), (String, &'static str)> {
        let mut uploaded = false;
        for phase in &self.phases {
            let repeats = |stream: &Stream| matches!(stream.does, Deed::Upload { duplicates, .. } if duplicates > 0.0);
            if !uploaded && phase.streams.iter().any(repeats) {
                let reason = "duplicates repeat keys of an earlier phase, and there is none";
                return Err((phase.name.clone(), reason));
            }
            uploaded |= phase
                .streams
                .iter()
                .any(|stream| matches!(stream.does, Deed::Upload { .. }));
        }
        Ok(())
    }
}
