//! Scenarios: who sends what, when. A scenario is a list of phases; a phase is a list of streams
//! that run side by side; a stream has a timetable (or keeps its connections busy) and does one
//! thing. Written in TOML; `scenarios/*.toml` come with the program and explain every member.

mod find;
mod model;
mod read;
#[cfg(test)]
mod tests;

pub use self::find::{Scenario, ScenarioError};
pub use self::model::{Arrivals, Burst, Operation, Phase, Rate, Stream};
