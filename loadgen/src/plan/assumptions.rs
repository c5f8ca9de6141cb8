//! The assumptions of one plan: each number with its unit, its source and its meaning.

use serde::Serialize;

use super::costs::UnitCosts;
use super::definitions::{
    AssumptionError, DEFINITIONS, Definition, FAN_OUT, Name, Origin, PARTICIPANTS, check,
};
use crate::profiles::Profile;

/// One assumption of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assumption {
    /// Its name, as `--set` spells it.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// Who says so.
    pub source: String,
    /// What it is.
    pub meaning: &'static str,
}

/// All assumptions of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Assumptions(Vec<Assumption>);

impl Assumptions {
    /// The profile's volumes, the unit costs, and the defaults for everything else.
    pub fn new(profile: &Profile, costs: &UnitCosts) -> Self {
        let assume = |known: &Definition| {
            let (value, source) = match known.origin {
                Origin::Profile(value) => (value(profile), format!("profile {}", profile.name)),
                Origin::FanOut => (0.0, "the protocol: participants − 1".to_owned()),
                Origin::Fixed(value, source) => (value, source.to_owned()),
                Origin::Measured => costs.value(known.name.0),
            };
            Assumption {
                name: known.name.0,
                value,
                unit: known.unit,
                source,
                meaning: known.meaning,
            }
        };
        let mut assumptions = Self(DEFINITIONS.iter().map(assume).collect());
        assumptions.follow_participants();
        assumptions
    }

    /// Changes one: `name=value`.
    ///
    /// # Errors
    /// When there is none of that name, or the number makes no sense for it.
    pub fn set(&mut self, text: &str) -> Result<(), AssumptionError> {
        let syntax = || AssumptionError::Syntax(text.to_owned());
        let (name, value) = text.split_once('=').ok_or_else(syntax)?;
        let name = name.trim();
        let plain: String = value.trim().chars().filter(|c| *c != '_').collect();
        let value: f64 = plain.parse().map_err(|_| syntax())?;
        check(name, value)?;
        let assumption = self.0.iter_mut().find(|one| one.name == name);
        let assumption = assumption.expect("every name that passes the check is there");
        assumption.value = value;
        "given with --set".clone_into(&mut assumption.source);
        if name == PARTICIPANTS.0 {
            self.follow_participants();
        }
        Ok(())
    }

    /// The fan-out follows the participants until it is given itself.
    fn follow_participants(&mut self) {
        let copies = self.get(PARTICIPANTS) - 1.0;
        let fan_out = self.0.iter_mut().find(|one| one.name == FAN_OUT.0);
        if let Some(fan_out) = fan_out.filter(|one| one.source != "given with --set") {
            fan_out.value = copies;
        }
    }

    /// The value of an assumption.
    ///
    /// # Panics
    /// When no row of the table has the name, which a test excludes.
    pub fn get(&self, name: Name) -> f64 {
        let found = self.0.iter().find(|one| one.name == name.0);
        found.expect("the table has a row for every name").value
    }

    /// All of them, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = &Assumption> {
        self.0.iter()
    }
}
