//! Scenarios: which participants send what, and when. A scenario is a list of phases; a phase is a
//! list of concurrent streams; a stream has a timetable (or keeps its connections busy) and one
//! operation. Written in TOML; the built-in `scenarios/*.toml` explain every member.

mod constant_rate;
mod find;
mod model;
mod read;
#[cfg(test)]
mod tests;

pub use self::constant_rate::ConstantRate;
pub use self::find::{Scenario, ScenarioError};
pub use self::model::{Arrivals, Burst, Operation, Phase, Rate, Stream};
