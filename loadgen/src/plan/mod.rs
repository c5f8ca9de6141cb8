//! Capacity plans: from a day's volume and unit costs to what to buy, how long the hourly burst
//! takes, and the first bottleneck.
//!
//! The model is arithmetic that an operator can check by hand. Work is demand divided into
//! resources; a resource saturates when demand reaches capacity. Costs are linear: so much per key,
//! so much per upload, so much per byte. What that leaves out: several gateways lose some work to
//! races for the next position of the log, and other machines have other processors. `--measure` on
//! the machines to be bought, and `--check` with the results of a run on them, answer both.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`definitions`] | every number that a plan assumes: unit, meaning, default |
//! | [`assumptions`] | the numbers of one plan, and their sources |
//! | [`costs`] | unit costs: shipped, from a file, from the results of a run |
//! | [`measure`] | unit costs measured now, with a private gateway |
//! | [`fetch`] | downloads for it |
//! | [`check`] | what the unit costs predict of a run, against what it measured |
//! | [`text`], [`html`] | a plan for a terminal, and for a browser or a printer |

pub mod assumptions;
mod capacity;
pub mod check;
pub mod costs;
pub mod definitions;
pub mod fetch;
mod from_results;
pub mod html;
pub mod measure;
mod model;
#[cfg(test)]
mod tests;
pub mod text;
mod usage;

pub use capacity::{Load, Machines, Part, Plan, Resource, Setting, Stored, Times};
pub use from_results::read_costs;
