//! The day that the installation acts on: what is deleted, forgotten and named follows it.
//!
//! - *In*: the gateway's clock, the database's, the day that the gateways have agreed on, which is in
//!   the database, and an operator who confirms one.
//! - *Out*: the clock's time, held within that day.
//! - *Refuses*: a day that is not plausible ([`plausible`]): until it is, the day stays, and a
//!   log line per minute says so.
//! - *Assumes*: [`Calendar::follow`] is called at least every second.
//! - *Runs on*: the bundler's thread (`follow`); any thread (reads).
//!
//! Uploads are taken whatever the clock says. If the known day was left behind while no gateway ran,
//! it is not known yet which of the two is right: then uploads wait to be cut, because the name of a
//! download batch decides for how long it can be requested.

mod plausible;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use self::plausible::Plausibility;
use crate::clock::{Clock, ClockReading};
use crate::database::SqlError;
use crate::domain::{Day, UnixMillis};
use crate::limits;
use crate::locks::LockIgnoringPoison;
use crate::store::{KnownDays, Store};

/// The day that the installation acts on.
#[derive(Debug)]
pub(crate) struct Calendar {
    clock: Arc<dyn Clock>,
    /// How far the clock may be from the database's; nothing for simulated time.
    skew_max: Option<Duration>,
    /// When the known day begins: read by every upload and download, without a lock.
    begins_ms: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    known: KnownDays,
    plausibility: Plausibility,
    /// The gateway's clock minus the database's, as of the last look.
    ahead_ms: i64,
    /// Why this gateway does not cut download batches.
    stop: Option<String>,
    /// When the log said so last.
    warned: Option<Duration>,
}

/// What `/ready` and `/status` say about the day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayStatus {
    /// The day that the installation acts on.
    pub day: Day,
    /// What is not plausible about the clock, if it shows another day.
    pub implausibility: Option<String>,
    /// The gateway's clock minus the database's, in milliseconds.
    pub ahead_of_database_ms: i64,
    /// Why this gateway cannot cut download batches: the clocks differ, or a row is wrong.
    pub cutting_stopped: Option<String>,
}

/// Why a gateway has no calendar to start with.
#[derive(Debug)]
pub(crate) enum CalendarError {
    /// The database failed.
    Database(SqlError),
    /// A download batch is from the future: what to do about it.
    FutureBatch(String),
}

impl From<SqlError> for CalendarError {
    fn from(error: SqlError) -> Self {
        Self::Database(error)
    }
}

impl Calendar {
    /// Reads the day that the installation acts on, and moves it if the clock's is plausible.
    pub(crate) fn start(
        clock: Arc<dyn Clock>,
        skew_max: Option<Duration>,
        store: &mut Store,
    ) -> Result<Self, CalendarError> {
        let reading = clock.read();
        let known = match store.known_days()? {
            Some(known) => known,
            None => agree_on_first(reading.wall, skew_max, store)?,
        };
        let calendar = Self {
            clock,
            skew_max,
            begins_ms: AtomicU64::new(known.current.start().0),
            state: Mutex::new(State {
                known,
                plausibility: Plausibility::new(reading, known.current),
                ahead_ms: 0,
                stop: None,
                warned: None,
            }),
        };
        calendar.follow(store)?;
        // Clocks that differ may agree later; a row does not change by itself.
        let latest = calendar.latest_day(store.now()?);
        match store.batch_after(latest)? {
            Some(wrong) => Err(CalendarError::FutureBatch(wrong)),
            None => Ok(calendar),
        }
    }

    /// Looks at the clock; returns whether another day has come by it, so that it is time to follow.
    pub(crate) fn observe(&self) -> bool {
        self.is_due(self.clock.read())
    }

    fn is_due(&self, reading: ClockReading) -> bool {
        let mut state = self.lock();
        let known = state.known.current;
        state.plausibility.observe(reading, known);
        let is_plausible = state.plausibility.next_day(reading, known).is_some();
        is_plausible && !self.differs(state.ahead_ms)
    }

    /// Compares the clocks, and takes over the day that another gateway or an operator has set; moves
    /// it if ours is plausible.
    pub(crate) fn follow(&self, store: &mut Store) -> Result<(), SqlError> {
        let theirs = store.now()?;
        // The row may have been deleted: then what we know holds.
        let stored = store.known_days()?;
        let reading = self.clock.read();
        let next_day = self.adopt(stored, reading, theirs);
        if let Some((before, new)) = next_day
            && store.move_days(before, new)?
        {
            let (day, was) = (new.current, before.map(|days| days.current));
            tracing::info!(stage = "clock", %day, ?was, "a day begins");
            self.adopt(Some(new), reading, theirs);
        }
        let wrong = store.batch_after(self.latest_day(theirs))?;
        self.report(reading, wrong);
        Ok(())
    }

    /// Adopts the days that the database has. Returns the change to write, if any: before and after.
    fn adopt(
        &self,
        stored: Option<KnownDays>,
        reading: ClockReading,
        theirs: UnixMillis,
    ) -> Option<(Option<KnownDays>, KnownDays)> {
        let mut state = self.lock();
        let before = state.known;
        let known = stored.unwrap_or(before);
        state.known = known;
        state.ahead_ms = difference_ms(reading.wall, theirs);
        if known.current == before.current {
            state.plausibility.observe(reading, known.current);
        } else {
            let (day, was) = (known.current, before.current);
            state.plausibility.moved(reading, day, was);
            self.begins_ms.store(day.start().0, Ordering::Release);
        }
        if self.differs(state.ahead_ms) {
            return None;
        }
        let next_day = state.plausibility.next_day(reading, known.current);
        match next_day {
            Some(day) => Some((stored, known.moved_to(day))),
            None if stored.is_none() => Some((None, known)),
            None => None,
        }
    }

    /// Updates the metrics; logs what is wrong at most once per minute. Returns whether it logged.
    fn report(&self, reading: ClockReading, wrong: Option<String>) -> bool {
        let mut state = self.lock();
        let ahead_ms = state.ahead_ms;
        state.stop = match wrong {
            None if self.differs(ahead_ms) => Some(difference(ahead_ms)),
            wrong => wrong,
        };
        let implausibility = state.implausibility(reading);
        metrics::gauge!("efgs_day_in_doubt").set(u32::from(implausibility.is_some()));
        metrics::gauge!("efgs_cutting_stopped").set(u32::from(state.stop.is_some()));
        #[allow(clippy::cast_precision_loss, reason = "a metric")]
        metrics::gauge!("efgs_clock_ahead_of_database_seconds").set(ahead_ms as f64 / 1000.0);
        if implausibility.is_none() && state.stop.is_none() {
            return false;
        }
        let is_new = |at: Duration| reading.monotonic >= at + limits::DAY_WARNING_INTERVAL;
        if !state.warned.is_none_or(is_new) {
            return false;
        }
        state.warned = Some(reading.monotonic);
        if let Some(reason) = &state.stop {
            tracing::error!(
                stage = "clock",
                reason,
                "this gateway cuts no download batches"
            );
        } else if let Some(reason) = &implausibility {
            tracing::warn!(stage = "clock", "{reason}");
        }
        true
    }

    /// Whether this gateway may cut download batches, as of the last look.
    pub(crate) fn may_cut(&self) -> bool {
        self.lock().stop.is_none()
    }

    /// The day to name download batches after; nothing while that is unknown.
    pub(crate) fn naming_day(&self) -> Option<Day> {
        let reading = self.clock.read();
        let state = self.lock();
        let known = state.known.current;
        let is_current = state.plausibility.is_current(reading, known);
        is_current.then_some(known)
    }

    /// The time within the day that the gateways have agreed on: for what cannot be undone.
    pub(crate) fn agreed_now(&self) -> UnixMillis {
        self.within_day(self.clock.now())
    }

    /// The clock's time if its day is plausible, though it may not be agreed on yet; nothing otherwise.
    fn plausible(&self, reading: ClockReading) -> Option<UnixMillis> {
        let begins = self.begins_ms.load(Ordering::Acquire);
        // Nearly always: without the lock.
        if (begins..begins + Day::MILLIS).contains(&reading.wall.0) {
            return Some(reading.wall);
        }
        self.is_due(reading).then_some(reading.wall)
    }

    /// The time for uploads: [`Self::now`]; while it is unknown whether the known day is over, the clock's,
    /// if it is later: then today's keys and certificates are accepted, and identities are kept longer.
    fn upload_time(&self) -> UnixMillis {
        let reading = self.clock.read();
        if let Some(now) = self.plausible(reading) {
            return now;
        }
        let within = self.within_day(reading.wall);
        let state = self.lock();
        let known = state.known.current;
        if state.plausibility.is_current(reading, known) {
            within
        } else {
            within.max(reading.wall)
        }
    }

    /// The clock that uploads go by.
    pub(crate) fn for_uploads(self: &Arc<Self>) -> UploadClock {
        UploadClock(Arc::clone(self))
    }

    /// What is shown to operators.
    pub(crate) fn status(&self) -> DayStatus {
        let reading = self.clock.read();
        let state = self.lock();
        DayStatus {
            day: state.known.current,
            implausibility: state.implausibility(reading),
            ahead_of_database_ms: state.ahead_ms,
            cutting_stopped: state.stop.clone(),
        }
    }

    /// The last day that a download batch can be of: the database's own, or the latest that gateways
    /// have acted on.
    fn latest_day(&self, theirs: UnixMillis) -> Day {
        let skew_ms = u64::try_from(limits::CLOCK_SKEW_MAX.as_millis()).expect("minutes");
        let database = theirs.plus_millis(skew_ms).day();
        self.lock().known.latest.max(database)
    }

    fn differs(&self, ahead_ms: i64) -> bool {
        let too_far = |max: Duration| u128::from(ahead_ms.unsigned_abs()) > max.as_millis();
        self.skew_max.is_some_and(too_far)
    }

    fn within_day(&self, wall: UnixMillis) -> UnixMillis {
        let begins = self.begins_ms.load(Ordering::Acquire);
        UnixMillis(wall.0.clamp(begins, begins + Day::MILLIS - 1))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock_ignoring_poison()
    }
}

/// The clock's time while its day is plausible, otherwise held within the known day.
impl Clock for Calendar {
    fn now(&self) -> UnixMillis {
        self.read().wall
    }

    fn read(&self) -> ClockReading {
        let reading = self.clock.read();
        let plausible = self.plausible(reading);
        ClockReading {
            wall: plausible.unwrap_or_else(|| self.within_day(reading.wall)),
            ..reading
        }
    }
}

/// The clock that uploads go by.
#[derive(Debug)]
pub(crate) struct UploadClock(Arc<Calendar>);

impl Clock for UploadClock {
    fn now(&self) -> UnixMillis {
        self.0.upload_time()
    }

    fn read(&self) -> ClockReading {
        ClockReading {
            wall: self.now(),
            ..self.0.clock.read()
        }
    }

    /// Identities are forgotten by the known day, so the age of keys counts from it, too.
    fn day(&self) -> Day {
        Clock::now(&*self.0).day()
    }

    /// An implausible clock may be behind, so a key may have begun at any time of the known day.
    fn latest(&self) -> UnixMillis {
        let reading = self.0.clock.read();
        match self.0.plausible(reading) {
            Some(now) => now,
            None => self.now().max(self.0.within_day(UnixMillis(u64::MAX))),
        }
    }
}

impl State {
    fn implausibility(&self, reading: ClockReading) -> Option<String> {
        let (known, plausibility) = (self.known.current, &self.plausibility);
        if !plausibility.is_implausible(reading, known) {
            return None;
        }
        let minutes = plausibility.wait(reading).as_secs().div_ceil(60);
        let meanwhile = if plausibility.is_current(reading, known) {
            "everything continues on the known day"
        } else {
            "uploads are stored, and no download batches are cut"
        };
        Some(format!(
            "the clock shows {}, but the newest day known is {known}: {meanwhile} until the clock \
             has held for {minutes} more minutes or an operator runs efgs db confirm-day",
            reading.wall.day()
        ))
    }
}

fn difference_ms(ours: UnixMillis, theirs: UnixMillis) -> i64 {
    let ms = i64::try_from(ours.0.abs_diff(theirs.0)).unwrap_or(i64::MAX);
    if ours < theirs { -ms } else { ms }
}

fn difference(ahead_ms: i64) -> String {
    let (seconds, side) = (
        ahead_ms.unsigned_abs() / 1000,
        if ahead_ms < 0 { "behind" } else { "ahead of" },
    );
    format!(
        "the clock is {seconds} seconds {side} the database's: set it right; uploads are stored, and \
         are cut by another gateway or once the clocks agree"
    )
}

/// Before the first gateway has recorded a day: what the rows say, or the clock if there are none.
fn agree_on_first(
    wall: UnixMillis,
    skew_max: Option<Duration>,
    store: &mut Store,
) -> Result<KnownDays, SqlError> {
    let theirs = store.now()?;
    // Without rows there is nothing to lose, but the first name of a download batch.
    let agree = skew_max.is_none_or(|max| u128::from(wall.0.abs_diff(theirs.0)) <= max.as_millis());
    let today = if agree { wall.day() } else { theirs.day() };
    let found = store.newest_days(today)?;
    let first = match found.newest {
        Some(newest) => newest,
        // All rows are from the future: the clock is behind.
        None if found.any => store.newest_batch_day()?.unwrap_or(today).min(theirs.day()),
        None => today,
    };
    let days = KnownDays::first(first);
    if store.move_days(None, days)? {
        return Ok(days);
    }
    Ok(store.known_days()?.unwrap_or(days))
}

#[cfg(test)]
mod tests;
