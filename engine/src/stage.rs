//! Timings of the stages, as the metric `efgs_stage_seconds` by stage. One sample per upload; for
//! persist, one per group.

use std::time::{Duration, Instant};

/// Runs a stage and records its time.
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
