//! Whether the clock's day is plausible: nothing irreversible follows the word of one clock that
//! has just jumped.
//!
//! A day is plausible if it is the day after the known one, or if the clock has not jumped for an
//! hour of the monotonic clock. A clock that is behind must have been behind for that hour as well:
//! gateways whose clocks differ by seconds pass midnight one after the other.

use std::cmp::Ordering;
use std::time::Duration;

use crate::clock::ClockReading;
use crate::domain::Day;
use crate::limits;

/// What is known of the clock besides what it shows.
#[derive(Debug)]
pub(super) struct Plausibility {
    /// Wall clock minus monotonic clock, and since when that is so.
    offset_ms: i128,
    steady_since: Duration,
    /// On which side of the known day the clock is, and since when.
    side: Ordering,
    side_since: Duration,
    /// Whether the clock has jumped since the known day last moved, and when the day last moved by
    /// one because of that.
    has_jumped: bool,
    stepped_at: Option<Duration>,
    /// Whether the clock has been seen on the known day: then that is the day, and a clock that shows
    /// another has jumped. Otherwise it is unknown how long ago the known day was.
    is_current: bool,
}

impl Plausibility {
    pub(super) fn new(reading: ClockReading, known: Day) -> Self {
        let side = reading.wall.day().cmp(&known);
        Self {
            offset_ms: offset_ms(reading),
            steady_since: reading.monotonic,
            side,
            side_since: reading.monotonic,
            has_jumped: false,
            stepped_at: None,
            is_current: side == Ordering::Equal,
        }
    }

    /// Looks at the clock; often, so that it sees when it jumps.
    pub(super) fn observe(&mut self, reading: ClockReading, known: Day) {
        let offset_ms = offset_ms(reading);
        let jumped_ms = offset_ms.abs_diff(self.offset_ms);
        if jumped_ms > limits::CLOCK_SKEW_MAX.as_millis() {
            self.offset_ms = offset_ms;
            self.steady_since = reading.monotonic;
            self.has_jumped = true;
        }
        let side = reading.wall.day().cmp(&known);
        if side != self.side {
            self.side = side;
            self.side_since = reading.monotonic;
        }
        self.is_current |= side == Ordering::Equal;
    }

    /// The day to move to, if the clock shows another than the known one and is plausible.
    pub(super) fn next_day(&self, reading: ClockReading, known: Day) -> Option<Day> {
        let day = reading.wall.day();
        let plausible = match day.cmp(&known) {
            Ordering::Equal => false,
            Ordering::Greater => self.is_next(reading, known) || self.wait(reading).is_zero(),
            Ordering::Less => self.wait(reading).is_zero(),
        };
        plausible.then_some(day)
    }

    /// A day may come early once, by a clock that jumps; not one after the other.
    fn is_next(&self, reading: ClockReading, known: Day) -> bool {
        let stepped_before = self
            .stepped_at
            .is_some_and(|at| reading.monotonic < at + limits::DAY_STEP_INTERVAL);
        reading.wall.day() == known.next() && (!self.has_jumped || !stepped_before)
    }

    /// How much longer the clock has to hold.
    pub(super) fn wait(&self, reading: ClockReading) -> Duration {
        let since = match self.side {
            Ordering::Less => self.steady_since.max(self.side_since),
            Ordering::Equal | Ordering::Greater => self.steady_since,
        };
        (since + limits::DAY_HOLD).saturating_sub(reading.monotonic)
    }

    /// Whether the clock shows another day than the known one, and not only around midnight.
    pub(super) fn is_implausible(&self, reading: ClockReading, known: Day) -> bool {
        match self.side {
            Ordering::Equal => false,
            Ordering::Greater => true,
            Ordering::Less => {
                let for_long = self.side_since + limits::CLOCK_SKEW_MAX <= reading.monotonic;
                for_long || reading.wall.day().next() != known
            }
        }
    }

    /// Whether the known day is the day, as far as this gateway can tell.
    pub(super) fn is_current(&self, reading: ClockReading, known: Day) -> bool {
        self.is_current || reading.wall.day().next() == known
    }

    /// The known day is another one now.
    pub(super) fn moved(&mut self, reading: ClockReading, known: Day, before: Day) {
        if known == before.next() && self.has_jumped {
            self.stepped_at = Some(reading.monotonic);
        }
        self.has_jumped = false;
        self.is_current = false;
        self.observe(reading, known);
    }
}

fn offset_ms(reading: ClockReading) -> i128 {
    let wall = i128::from(reading.wall.0);
    wall - i128::try_from(reading.monotonic.as_millis()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::domain::UnixMillis;

    const MINUTE_MS: u64 = 60_000;
    const HOUR_MS: u64 = 60 * MINUTE_MS;

    /// A gateway that looks at its clock, and moves its day as soon as that is plausible.
    struct Gateway {
        reading: ClockReading,
        known: Day,
        plausibility: Plausibility,
    }

    impl Gateway {
        fn start(wall: UnixMillis, known: Day) -> Self {
            let monotonic = Duration::from_secs(17);
            let reading = ClockReading { wall, monotonic };
            let mut gateway = Self {
                reading,
                known,
                plausibility: Plausibility::new(reading, known),
            };
            gateway.look();
            gateway
        }

        fn look(&mut self) {
            self.plausibility.observe(self.reading, self.known);
            if let Some(day) = self.plausibility.next_day(self.reading, self.known) {
                let before = std::mem::replace(&mut self.known, day);
                self.plausibility.moved(self.reading, day, before);
            }
        }

        /// Lets time pass, looking at the clock every minute.
        fn pass(&mut self, millis: u64) {
            let mut left = millis;
            while left > 0 {
                let step = left.min(MINUTE_MS);
                left -= step;
                self.reading.wall = self.reading.wall.plus_millis(step);
                self.reading.monotonic += Duration::from_millis(step);
                self.look();
            }
        }

        fn jump(&mut self, days: i64) {
            let millis = days.unsigned_abs() * Day::MILLIS;
            self.reading.wall = UnixMillis(if days < 0 {
                self.reading.wall.0 - millis
            } else {
                self.reading.wall.0 + millis
            });
            self.look();
        }

        fn is_current(&self) -> bool {
            self.plausibility.is_current(self.reading, self.known)
        }

        fn is_implausible(&self) -> bool {
            self.plausibility.is_implausible(self.reading, self.known)
        }
    }

    fn day(text: &str) -> Day {
        Day::parse_iso(text).unwrap()
    }

    fn noon(text: &str) -> UnixMillis {
        day(text).start().plus_millis(12 * HOUR_MS)
    }

    fn running(text: &str) -> Gateway {
        Gateway::start(noon(text), day(text))
    }

    #[test]
    fn a_day_follows_the_other_at_midnight_in_utc_whatever_the_calendar_does() {
        // The ends of daylight saving time and of its counterpart, of a year, of February.
        for (before, after) in [
            ("2026-03-28", "2026-03-29"),
            ("2026-03-29", "2026-03-30"),
            ("2026-10-24", "2026-10-25"),
            ("2026-10-25", "2026-10-26"),
            ("2026-12-31", "2027-01-01"),
            ("2028-02-28", "2028-02-29"),
            ("2028-02-29", "2028-03-01"),
            ("2100-02-28", "2100-03-01"),
        ] {
            let mut gateway = running(before);
            gateway.pass(12 * HOUR_MS - 1);
            assert_eq!(gateway.known, day(before));
            gateway.pass(1);
            assert_eq!(gateway.known, day(after));
            assert!(!gateway.is_implausible() && gateway.is_current());
        }
    }

    #[test]
    fn a_jump_ahead_holds_for_an_hour_first() {
        let mut gateway = running("2026-11-28");
        gateway.jump(40);
        assert_eq!(gateway.known, day("2026-11-28"));
        assert!(
            gateway.is_implausible() && gateway.is_current(),
            "it goes on with the day it knows"
        );
        gateway.pass(HOUR_MS - 1);
        assert_eq!(gateway.known, day("2026-11-28"));
        gateway.pass(1);
        assert_eq!(gateway.known, day("2027-01-07"));
        assert!(!gateway.is_implausible());
    }

    #[test]
    fn a_clock_that_jumps_again_begins_again() {
        let mut gateway = running("2026-11-28");
        for _ in 0..20 {
            gateway.jump(40);
            gateway.pass(50 * MINUTE_MS);
            gateway.jump(-40);
            gateway.pass(50 * MINUTE_MS);
        }
        // Time has passed beside the jumps.
        let passed_ms = 20 * 100 * MINUTE_MS + 12 * HOUR_MS;
        let days = u32::try_from(passed_ms / Day::MILLIS).unwrap();
        let today = (0..days).fold(day("2026-11-28"), |day, _| day.next());
        assert_eq!(gateway.known, today);
    }

    #[test]
    fn the_next_day_may_come_early_but_not_one_after_the_other() {
        let mut gateway = running("2026-11-28");
        gateway.jump(1);
        assert_eq!(gateway.known, day("2026-11-29"));
        for _ in 0..20 {
            gateway.jump(1);
            gateway.pass(MINUTE_MS);
        }
        assert_eq!(gateway.known, day("2026-11-29"));
    }

    #[test]
    fn a_gateway_that_was_off_cannot_tell_for_an_hour() {
        let mut gateway = Gateway::start(noon("2026-11-28"), day("2026-11-07"));
        assert!(gateway.is_implausible() && !gateway.is_current());
        gateway.pass(HOUR_MS - 1);
        assert_eq!(gateway.known, day("2026-11-07"));
        gateway.pass(1);
        assert_eq!(gateway.known, day("2026-11-28"));
        assert!(gateway.is_current());
        // Off for a day, it continues at once.
        let gateway = Gateway::start(noon("2026-11-28"), day("2026-11-27"));
        assert_eq!(gateway.known, day("2026-11-28"));
    }

    #[test]
    fn a_day_that_lay_in_the_future_goes_back_after_an_hour() {
        let mut gateway = running("2026-11-28");
        gateway.jump(40);
        gateway.pass(2 * HOUR_MS);
        assert_eq!(gateway.known, day("2027-01-07"));
        gateway.jump(-40);
        gateway.pass(HOUR_MS - 1);
        assert_eq!(gateway.known, day("2027-01-07"));
        gateway.pass(1);
        assert_eq!(gateway.known, day("2026-11-28"));
    }

    #[test]
    fn a_gateway_that_passes_midnight_later_does_not_turn_the_day_back() {
        let mut gateway = running("2026-11-28");
        gateway.pass(12 * HOUR_MS - 3 * MINUTE_MS);
        // Another gateway moves it.
        let before = std::mem::replace(&mut gateway.known, day("2026-11-29"));
        gateway
            .plausibility
            .moved(gateway.reading, gateway.known, before);
        gateway.pass(MINUTE_MS);
        assert_eq!(gateway.known, day("2026-11-29"));
        assert!(!gateway.is_implausible() && gateway.is_current());
    }

    /// Whatever the clock does, no day comes that it has not shown for an hour, but for the one after
    /// the known day, and that not twice in twelve hours.
    #[test]
    fn no_jump_of_the_clock_is_followed_at_once() {
        let seed = rand::rng().random();
        eprintln!("seed {seed}");
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..50 {
            let mut gateway = running("2026-12-20");
            let mut last_step = None;
            for _ in 0..20 {
                gateway.pass(random.random_range(0..3 * HOUR_MS));
                let (known, days) = (gateway.known, random.random_range(-20..=20));
                gateway.jump(days);
                if gateway.known == known {
                    continue;
                }
                assert_eq!(gateway.known, known.next(), "a jump by {days} days");
                let since = last_step.replace(gateway.reading.monotonic);
                let apart = since.map(|since| gateway.reading.monotonic - since);
                assert!(
                    apart.is_none_or(|apart| apart >= limits::DAY_STEP_INTERVAL),
                    "{apart:?}"
                );
            }
        }
    }
}
