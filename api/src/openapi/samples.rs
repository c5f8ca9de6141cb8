//! What stands in examples and is another value each day.

use engine::domain::Day;

/// The uploader's country.
pub(crate) const ORIGIN: &str = "ORIGIN";
/// A day.
pub(crate) const DAY: &str = "2020-10-06";
/// Its first download batch.
pub(crate) const BATCH_TAG: &str = "20201006-1";
/// Where a key of the day before begins.
pub(crate) const ROLLING_START: u32 = 2_669_760;

/// The day before, in ten-minute intervals.
pub(crate) fn rolling_start(day: Day) -> u64 {
    day.minus_days(1).start_unix_seconds() / 600
}
