//! Scenarios: who sends what, when. A scenario is a list of phases; a phase is a list of streams
//! that run side by side; a stream has a timetable (or keeps its connections busy) and does one
//! thing. Written in TOML; `scenarios/*.toml` come with the program and explain every member.

mod model;
mod read;
mod scenario;
#[cfg(test)]
mod tests;

pub use self::model::{Arrivals, Burst, Deed, Phase, Rate, Stream};
pub use self::scenario::{Scenario, ScenarioError};
