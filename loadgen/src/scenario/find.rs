//! Finds and reads a scenario.

use std::path::{Path, PathBuf};

use super::model::{Operation, Phase, Stream};
use super::read::{RawScenario, read_phase};
use crate::profiles::Distribution;

/// The built-in scenarios, by name.
pub(super) const SHIPPED: [(&str, &str); 11] = [
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

/// Largest number of participants of a scenario.
const PARTICIPANTS_MAX: usize = 600;

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is malformed.
    #[error("scenario {name}")]
    Syntax {
        /// Its name.
        name: String,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// There is neither a scenario of that name nor such a file.
    #[error("no scenario is called {name}, nor is there such a file; there are {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The known names.
        known: String,
    },
    /// A phase or a stream is invalid.
    #[error("scenario {name}, {location}: {reason}")]
    Invalid {
        /// Its name.
        name: String,
        /// The phase, or phase and stream.
        location: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Which participants send what, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its name: a built-in name, or the file's name without its extension.
    pub name: String,
    /// Its text.
    pub text: String,
    /// At most so many participants take part, the most populous first.
    pub participants: usize,
    /// How uploads spread over them.
    pub distribution: Distribution,
    /// The phases, in order.
    pub phases: Vec<Phase>,
}

impl Scenario {
    /// The names and descriptions of the built-in scenarios.
    pub fn shipped() -> impl Iterator<Item = (&'static str, String)> {
        let description = |text| toml::from_str::<RawScenario>(text).map(|raw| raw.description);
        SHIPPED
            .into_iter()
            .map(move |(name, text)| (name, description(text).unwrap_or_default()))
    }

    /// The scenario of that name, or in that file.
    ///
    /// # Errors
    /// When there is neither, or the scenario is invalid.
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
    /// When it is malformed, has an unknown member, or is invalid.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let raw: RawScenario = toml::from_str(text).map_err(|source| ScenarioError::Syntax {
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        let invalid = |(location, reason)| ScenarioError::Invalid {
            name: name.to_owned(),
            location,
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
            let repeats = |stream: &Stream| matches!(stream.does, Operation::Upload { duplicates, .. } if duplicates > 0.0);
            if !uploaded && phase.streams.iter().any(repeats) {
                let reason = "duplicates repeat keys of an earlier phase, and there is none";
                return Err((phase.name.clone(), reason));
            }
            uploaded |= phase
                .streams
                .iter()
                .any(|stream| matches!(stream.does, Operation::Upload { .. }));
        }
        Ok(())
    }
}
