//! Runs scenarios, phase by phase, and measures them second by second.
//!
//! A stream with a timetable is open-loop: requests become due by the clock, wait in their
//! participant's queue while all its connections are busy, and their latency counts from the moment
//! they were due. Uploads are made and signed ahead of time within a memory limit; between phases
//! the clock of the run stands still.

mod cursor;
mod deliver;
mod downloads;
mod error;
mod experiment;
mod hostile;
mod making;
mod options;
mod participants;
mod phase;
mod prepared;
mod queue;
mod stream;
mod tally;
mod tasks;
mod uploads;
mod volume;
mod watch;

pub use self::error::LoadError;
pub use self::experiment::Experiment;
pub use self::options::{LoadOptions, MEMORY_BYTES_MIN};
pub use self::participants::Participants;
pub use self::prepared::{RunOptions, RunReport, prepared_phase, send_prepared};
pub use self::tally::{UnexpectedResponse, UnexpectedResponses};
pub use self::watch::Watch;
