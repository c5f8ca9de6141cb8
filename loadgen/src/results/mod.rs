//! The raw results of a run, as JSON lines: one `run`, one `second` per second, one `summary`.
//! Plans and reports are made from these files alone, so that a figure can be reproduced years
//! after the machine is gone.
//!
//! Rules of the format: every line has its `kind`; the first line has the version; unknown members
//! are errors, so that a misspelt one is not read as absent; what was not measured is absent. Times
//! are seconds since the start of the run, latencies microseconds.

mod counts;
mod delay;
mod export;
mod figures;
mod file;
mod latency;
mod machine;
mod run;
mod show;
mod status;
#[cfg(test)]
mod tests;

pub use self::counts::{Counts, ProcessSample, Second, StageSample};
pub use self::delay::{Delay, DelayBucket};
pub use self::export::{EXPORT_VERSION, Export};
pub use self::figures::{
    Figures, LatencySummary, Limit, ObjectiveOutcome, OwnCost, PhaseSummary, Summary,
};
pub use self::file::{Results, ResultsError, ResultsWriter};
pub use self::latency::{Latency, LatencyError, Percentiles};
pub use self::machine::Machine;
pub use self::run::{Authentication, Http, Run, Transport, VERSION};
