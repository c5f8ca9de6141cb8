//! How long the stages take, for the operator: `efgs_stage_seconds`, by stage; one sample an upload,
//! of persist one a group of them.

use std::time::{Duration, Instant};

/// Does a stage and counts its time.
pub(crate) fn timed<T>(stage: &'static str, work: impl FnOnce() -> T) -> T {
    StageTime::of(stage).add(work)
}

/// Counts the time of a stage.
pub(crate) fn took(stage: &'static str, time: Duration) {
    metrics::histogram!("efgs_stage_seconds", "stage" => stage).record(time);
}

/// The time of a stage that is done in several parts: one sample, counted when this is dropped.
#[derive(Debug)]
pub(crate) struct StageTime {
    stage: &'static str,
    time: Duration,
}

impl StageTime {
    pub(crate) const fn of(stage: &'static str) -> Self {
        Self {
            stage,
            time: Duration::ZERO,
        }
    }

    /// Does a part of the stage.
    pub(crate) fn add<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        self.time += begun.elapsed();
        done
    }
}

impl Drop for StageTime {
    fn drop(&mut self) {
        took(self.stage, self.time);
    }
}
