//! One run of the suite: what it measured, on which machine and commit.

use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::counts::Counts;
use crate::machine::{self, Machine};
use crate::ratios::{Figure, Ratio};

/// Everything that a run measured.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) begun_day: String,
    pub(crate) begun_minute: String,
    pub(crate) commit: String,
    pub(crate) command: String,
    pub(crate) machine: Machine,
    /// The load average when the run began, and after each part.
    pub(crate) loads: Vec<String>,
    pub(crate) counts: Option<Counts>,
    pub(crate) ratios: Vec<Ratio>,
    pub(crate) figures: Vec<Figure>,
}

impl Run {
    pub(crate) fn new() -> Self {
        let now = OffsetDateTime::from(std::time::UNIX_EPOCH)
            + time::Duration::milliseconds(i64::try_from(now_millis()).unwrap_or(0));
        let day = now.format(format_description!("[year]-[month]-[day]"));
        let minute = now.format(format_description!("[hour][minute]"));
        let command: Vec<_> = std::env::args().skip(1).collect();
        Self {
            begun_day: day.expect("the format needs a date only"),
            begun_minute: minute.expect("the format needs a time only"),
            commit: machine::commit(),
            command: format!("perf {}", command.join(" ")),
            machine: Machine::here(),
            loads: vec![format!("begin: {}", machine::load())],
            counts: None,
            ratios: Vec::new(),
            figures: Vec::new(),
        }
    }

    /// Records how busy the machine is.
    pub(crate) fn note_load(&mut self, after: &str) {
        self.loads
            .push(format!("after {after}: {}", machine::load()));
    }
}

fn now_millis() -> u64 {
    use engine::Clock as _;
    engine::SystemClock.now().0
}
