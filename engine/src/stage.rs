//! How long the stages take, for the operator: `efgs_stage_seconds`, by stage.

use std::time::{Duration, Instant};

/// Does a part of a stage and counts its time.
pub(crate) fn timed<T>(stage: &'static str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    took(stage, begun.elapsed());
    done
}

/// Counts the time of a part of a stage.
pub(crate) fn took(stage: &'static str, time: Duration) {
    metrics::histogram!("efgs_stage_seconds", "stage" => stage).record(time);
}
