//! Time enters here and nowhere else.

use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::domain::{Day, UnixMillis};
use crate::locks::LockIgnoringPoison;

/// Wall-clock time. Durations are measured with [`Instant`], which cannot jump.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now, UTC.
    fn now(&self) -> UnixMillis;

    /// The time now by both clocks.
    fn read(&self) -> ClockReading;

    /// The day that the age of keys is counted from. By default, today.
    fn day(&self) -> Day {
        self.now().day()
    }

    /// The latest time that it may be: no key can have begun after it. By default, now.
    fn latest(&self) -> UnixMillis {
        self.now()
    }
}

/// The wall clock and the monotonic clock at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The time, UTC.
    pub wall: UnixMillis,
    /// How much time has passed since some instant, whatever happened to the wall clock.
    pub monotonic: Duration,
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the only access to the wall clock"
    )]
    fn now(&self) -> UnixMillis {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    fn read(&self) -> ClockReading {
        static BEGUN: OnceLock<Instant> = OnceLock::new();
        ClockReading {
            wall: self.now(),
            monotonic: BEGUN.get_or_init(Instant::now).elapsed(),
        }
    }
}

/// A clock that stands still until it is moved: for tests and simulations.
#[derive(Debug)]
pub struct ManualClock(Mutex<ClockReading>);

impl ManualClock {
    /// A clock that shows `now`.
    pub const fn new(now: UnixMillis) -> Self {
        Self(Mutex::new(ClockReading {
            wall: now,
            monotonic: Duration::ZERO,
        }))
    }

    /// Sets the wall clock, forwards or backwards, while no time passes: it jumps.
    pub fn set(&self, now: UnixMillis) {
        self.lock().wall = now;
    }

    /// Lets time pass.
    pub fn advance_millis(&self, millis: u64) {
        let mut reading = self.lock();
        reading.wall = reading.wall.plus_millis(millis);
        reading.monotonic += Duration::from_millis(millis);
    }

    fn lock(&self) -> MutexGuard<'_, ClockReading> {
        self.0.lock_ignoring_poison()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        self.lock().wall
    }

    fn read(&self) -> ClockReading {
        *self.lock()
    }
}
