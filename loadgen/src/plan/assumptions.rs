//! The assumptions of one plan: each number with its unit, its source and its meaning.

use std::ops::Deref;

use serde::{Serialize, Serializer};

use super::costs::UnitCosts;
use super::definitions::{AssumptionError, DEFINITIONS, Numbers, Origin, find};
use crate::profiles::Profile;

const GIVEN: &str = "given with --set";

/// One assumption of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assumption<'a> {
    /// Its name, as `--set` spells it.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// Its source.
    pub source: &'a str,
    /// Its meaning.
    pub meaning: &'static str,
}

/// All assumptions of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Assumptions {
    numbers: Numbers,
    /// The sources, in the order of the definitions.
    sources: Vec<String>,
}

impl Deref for Assumptions {
    type Target = Numbers;

    fn deref(&self) -> &Numbers {
        &self.numbers
    }
}

impl Assumptions {
    /// The profile's volumes, the unit costs, and the defaults for everything else.
    pub fn new(profile: &Profile, costs: &UnitCosts) -> Self {
        let mut numbers = Numbers::default();
        let mut sources = Vec::with_capacity(DEFINITIONS.len());
        for known in DEFINITIONS {
            let (value, source) = match known.origin {
                Origin::Profile(value) => (value(profile), format!("profile {}", profile.name)),
                Origin::FanOut => (0.0, "the protocol: participants − 1".to_owned()),
                Origin::Fixed(value, source) => (value, source.to_owned()),
                Origin::Cost(of) => costs.value(of),
            };
            (known.set)(&mut numbers, value);
            sources.push(source);
        }
        let mut assumptions = Self { numbers, sources };
        assumptions.follow_participants();
        assumptions
    }

    /// Changes one: `name=value`.
    ///
    /// # Errors
    /// When there is no such assumption, or the number is out of range.
    pub fn set(&mut self, text: &str) -> Result<(), AssumptionError> {
        let syntax = || AssumptionError::Syntax(text.to_owned());
        let (name, value) = text.split_once('=').ok_or_else(syntax)?;
        let plain: String = value.trim().chars().filter(|c| *c != '_').collect();
        let value: f64 = plain.parse().map_err(|_| syntax())?;
        let known = find(name.trim())?;
        known.check(value)?;
        (known.set)(&mut self.numbers, value);
        for (source, of) in self.sources.iter_mut().zip(DEFINITIONS) {
            if of.name == known.name {
                GIVEN.clone_into(source);
            }
        }
        self.follow_participants();
        Ok(())
    }

    /// The fan-out follows the number of participants unless it is set itself.
    fn follow_participants(&mut self) {
        let given = self
            .iter()
            .any(|one| one.name == "fan_out" && one.source == GIVEN);
        if !given {
            self.numbers.fan_out = self.numbers.participants - 1.0;
        }
    }

    /// All of them, in the order of the definitions.
    pub fn iter(&self) -> impl Iterator<Item = Assumption<'_>> {
        DEFINITIONS
            .iter()
            .zip(&self.sources)
            .map(|(known, source)| Assumption {
                name: known.name,
                value: (known.of)(&self.numbers),
                unit: known.unit,
                source,
                meaning: known.meaning,
            })
    }
}

/// As a list of all of them.
impl Serialize for Assumptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}
