//! Instants.

use super::day::Day;

/// Milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnixMillis(pub u64);

impl Day {
    /// Midnight UTC at which the day begins; the epoch for days before 1970.
    pub fn start(self) -> UnixMillis {
        UnixMillis(self.start_unix_seconds() * 1000)
    }
}

impl UnixMillis {
    /// Whole seconds since the Unix epoch.
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The UTC day that this instant lies in.
    pub fn day(self) -> Day {
        Day::from_unix_seconds(self.seconds())
    }

    /// This instant plus `millis`, saturating.
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}
