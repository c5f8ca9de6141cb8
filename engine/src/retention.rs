//! Retention: deletes what is too old, in small transactions that do not block uploads.
//!
//! - *In*: the day that the installation acts on ([`Calendar`]) and the database's clock: the earlier
//!   of the two counts, so that a clock that is ahead deletes nothing.
//! - *Out*: the key data of download batches that are too old to be requested is deleted; uploads,
//!   with their identities and tags, once none of their keys can be uploaded again; old download
//!   batches, but never the newest; the same from memory. One row of statistics per day.
//! - *Refuses*: to touch what has not been cut yet, and the last row of the log.
//! - *Assumes*: one gateway at a time, by a lease that guards every transaction; any gateway can continue
//!   where another one stopped.
//! - *Runs on*: its own thread with its own connection, which also writes the download statistics.
//!
//! Download batches are deleted as a whole, by the UTC day on which they were cut: a batch that can
//! be requested is always complete (the reference deletes by time of upload and serves truncated
//! batches, defect R-1). A practice gateway deletes whole batches some time after they were cut, too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use crate::bundle::Serve;
use crate::calendar::Calendar;
use crate::continuity::Continuity;
use crate::database::SqlError;
use crate::domain::{Day, UnixMillis};
use crate::limits;
use crate::persist::WriterState;
use crate::settings::DownloadSettings;
use crate::statistics::DownloadCounts;
use crate::store::{CachedStore, Expiry, Lease, LeaseToken, Step, Store};

/// The retention thread's own.
#[derive(Debug)]
pub(crate) struct Retention {
    pub(crate) connection: CachedStore,
    pub(crate) writer: Arc<WriterState>,
    pub(crate) continuity: Arc<Continuity>,
    pub(crate) downloads: Arc<DownloadCounts>,
    pub(crate) calendar: Arc<Calendar>,
    pub(crate) serve: Arc<Serve>,
    pub(crate) settings: DownloadSettings,
    /// Name of this gateway in the lease.
    pub(crate) holder: String,
    /// Disconnected when the engine stops.
    pub(crate) stop: Receiver<()>,
    pub(crate) state: RetentionState,
}

/// The thread's mutable state.
#[derive(Debug, Default)]
pub(crate) struct RetentionState {
    next_pass: Option<Instant>,
    /// The day of the last pass: midnight brings the next.
    last_day: Option<Day>,
    next_flush: Option<Instant>,
    /// When to read what participants have downloaded from other gateways.
    next_newest: Option<Instant>,
    /// Whether that was read since the start: from then on the last days are enough.
    knows_newest: bool,
}

/// The cut-off days as of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Horizon {
    today: Day,
    /// Download batches of earlier days cannot be requested.
    batches: Expiry,
    /// No key of an upload of an earlier day can be uploaded again.
    oldest_identity: Day,
}

/// The outcome of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Done,
    /// Another gateway holds the lease.
    NotOurs,
    /// The engine is stopping.
    Stopped,
}

impl Horizon {
    /// Midnight is delayed: a gateway whose clock is slightly behind may still serve yesterday's
    /// oldest day.
    fn at(now: UnixMillis, settings: &DownloadSettings) -> Self {
        let today = day_of_retention(now);
        let since = |kept: Duration| {
            let kept_ms = u64::try_from(kept.as_millis()).unwrap_or(u64::MAX);
            UnixMillis(now.0.saturating_sub(kept_ms))
        };
        Self {
            today,
            batches: Expiry {
                oldest_day: today.minus_days(settings.max_age_days),
                cut_before: settings.kept.map(since),
            },
            oldest_identity: today.minus_days(limits::IDENTITY_AGE_DAYS),
        }
    }
}

fn day_of_retention(now: UnixMillis) -> Day {
    let grace_ms = u64::try_from(limits::RETENTION_GRACE.as_millis()).expect("minutes");
    UnixMillis(now.0.saturating_sub(grace_ms)).day()
}

/// The first instant of uploads whose identities are kept: everything before it was deleted on the
/// newest day of retention up to `today`. Later ones were a clock's that was wrong.
pub(crate) fn oldest_identity(store: &mut Store, today: Day) -> Result<UnixMillis, SqlError> {
    let day = store.newest_cleanup_day(today)?;
    let oldest = day.map(|day| day.minus_days(limits::IDENTITY_AGE_DAYS));
    Ok(oldest.map_or(UnixMillis(0), Day::start))
}

impl Retention {
    /// Runs until the engine stops; the first pass is immediate.
    pub(crate) fn run(mut self) {
        loop {
            self.tick();
            if self.pause(limits::RETENTION_WAKE) {
                self.flush();
                return;
            }
        }
    }

    /// Waits; returns whether the engine is stopping.
    fn pause(&self, pause: Duration) -> bool {
        self.stop.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected)
    }

    fn tick(&mut self) {
        // Nothing is deleted from a database that is not the one that we know.
        if self.continuity.has_gone_back() {
            return;
        }
        self.flush_if_due();
        let today = day_of_retention(self.calendar.agreed_now());
        let is_new_day = self.state.last_day != Some(today);
        let is_due = self.state.next_pass.is_none_or(|at| at <= Instant::now());
        if !is_due && !is_new_day {
            return;
        }
        self.state.last_day = Some(today);
        let next = match self.pass() {
            Ok(Pass::Done | Pass::Stopped) => self
                .settings
                .kept
                .map_or(limits::RETENTION_INTERVAL, |kept| {
                    kept.min(limits::RETENTION_INTERVAL)
                }),
            Ok(Pass::NotOurs) => limits::RETENTION_RETRY,
            Err(error) => {
                tracing::error!(error = %error, "Failed to execute DB Cleanup Job");
                self.connection.close();
                limits::RETENTION_RETRY
            }
        };
        self.state.next_pass = Some(Instant::now() + next);
    }

    /// Deletes everything that is now too old.
    fn pass(&mut self) -> Result<Pass, SqlError> {
        let now = self
            .calendar
            .agreed_now()
            .min(self.connection.store()?.now()?);
        let horizon = Horizon::at(now, &self.settings);
        let pass = self.delete(&horizon, now)?;
        // Also when another gateway has deleted it.
        let store = self.connection.store()?;
        self.serve.forget_gone(store.emptied_to()?.0);
        if let Some(day) = store.newest_cleanup_day(horizon.today)? {
            let kept_since = day.minus_days(limits::IDENTITY_AGE_DAYS);
            self.writer.forget_before(kept_since);
        }
        Ok(pass)
    }

    fn delete(&mut self, horizon: &Horizon, now: UnixMillis) -> Result<Pass, SqlError> {
        let day = horizon.today;
        let Some(token) = self.hold_lease()? else {
            return Ok(Pass::NotOurs);
        };
        let begun = self.connection.store()?.begin_cleanup(&token, day, now)?;
        if begun == Step::More {
            tracing::info!(day = %day, "Starting DiagnosisKey and DiagnosisKeyBatch cleanup");
        }
        let batches = horizon.batches;
        let mut pass = self.repeat(|store| store.empty_sealed(&token, day, batches, now))?;
        let oldest = horizon.oldest_identity;
        if pass == Pass::Done {
            let known = Arc::clone(&self.continuity);
            let forget =
                |store: &mut Store| store.forget_uploads(&token, day, oldest, known.chain());
            pass = self.repeat(forget)?;
        }
        if pass == Pass::Done {
            pass = self.repeat(|store| store.forget_download_batches(&token, oldest))?;
        }
        if begun == Step::More && pass == Pass::Done {
            self.report(day)?;
        }
        let holder = self.holder.clone();
        self.connection
            .store()?
            .release_lease(Lease::Retention, &holder)?;
        Ok(pass)
    }

    /// Runs small transactions until nothing is left to do. Between two of them the database is
    /// left idle for as long as the last one took.
    fn repeat(
        &mut self,
        step: impl Fn(&mut Store) -> Result<Step, SqlError>,
    ) -> Result<Pass, SqlError> {
        let mut renewed = Instant::now();
        loop {
            let started = Instant::now();
            match step(self.connection.store()?)? {
                Step::Done => return Ok(Pass::Done),
                Step::LeaseLost => return Ok(Pass::NotOurs),
                Step::More => {}
            }
            if self.pause(started.elapsed().max(limits::RETENTION_PAUSE_MIN)) {
                return Ok(Pass::Stopped);
            }
            self.flush_if_due();
            if renewed.elapsed() >= limits::LEASE_RENEWAL {
                // If the lease is lost, the next step notices.
                self.hold_lease()?;
                renewed = Instant::now();
            }
        }
    }

    fn report(&mut self, day: Day) -> Result<(), SqlError> {
        let statistics = self.connection.store()?.statistics(day, day)?;
        for cleanup in statistics.cleanups {
            let deleted = cleanup.keys_deleted;
            tracing::info!(
                deletedDiagnosisKeys = deleted,
                "DiagnosisKey cleanup finished."
            );
        }
        Ok(())
    }

    fn hold_lease(&mut self) -> Result<Option<LeaseToken>, SqlError> {
        let ttl_ms = u64::try_from(limits::LEASE_TTL.as_millis()).expect("seconds");
        let holder = self.holder.clone();
        self.connection
            .store()?
            .hold_lease(Lease::Retention, &holder, ttl_ms)
    }

    fn flush_if_due(&mut self) {
        let now = Instant::now();
        if self.state.next_flush.is_none_or(|at| at <= now) {
            self.state.next_flush = Some(now + limits::DOWNLOAD_COUNT_INTERVAL);
            self.flush();
            self.read_newest_if_due(now);
        }
    }

    /// Reads how far participants have come with their downloads, which may be from other gateways.
    fn read_newest_if_due(&mut self, now: Instant) {
        if self.state.next_newest.is_some_and(|at| at > now) {
            return;
        }
        self.state.next_newest = Some(now + limits::NEWEST_DOWNLOADS_INTERVAL);
        let days = if self.state.knows_newest {
            1
        } else {
            self.settings.max_age_days
        };
        let from = self.calendar.agreed_now().day().minus_days(days);
        let store = self.connection.store();
        match store.and_then(|store| store.newest_downloads(from)) {
            Ok(newest) => {
                self.downloads.note_newest(newest.into_iter());
                self.state.knows_newest = true;
            }
            Err(error) => {
                tracing::warn!(error = %error, "cannot read how far participants have downloaded");
                self.connection.close();
            }
        }
    }

    /// Writes the counted downloads.
    fn flush(&mut self) {
        let counts = self.downloads.take();
        if counts.is_empty() {
            return;
        }
        let (error, may_be_written) = match self.connection.store() {
            Ok(store) => match store.add_downloads(&counts) {
                Ok(()) => return,
                Err(error @ SqlError::Lost(_)) => (error, true),
                Err(error) => (error, false),
            },
            Err(error) => (error, false),
        };
        tracing::warn!(error = %error, "cannot write download statistics");
        self.connection.close();
        // Losing a few counts is better than counting them twice.
        if !may_be_written {
            self.downloads.put_back(counts);
        }
    }
}

#[cfg(test)]
mod tests {
    use testkit::local::MariaDb;

    use super::*;
    use crate::bundle::{BundlerFeed, FreshSegments};
    use crate::clock::SystemClock;
    use crate::database::Database;
    use crate::domain::{BatchTag, Country};
    use crate::persist::{StartProgress, Writer};
    use crate::seal::Keys;
    use crate::store::{DownloadCount, DownloadPlace, migrate};

    fn retention(database: &Database) -> (Retention, crossbeam::channel::Sender<()>) {
        migrate(database).unwrap();
        let (wake, _wakes) = crossbeam::channel::bounded(1);
        let feed = Box::new(BundlerFeed::new(Arc::new(FreshSegments::new(0)), wake));
        let mut store = Store::open(database).unwrap();
        let keys = Keys::parse(&Keys::generate_text()).unwrap();
        let continuity = Continuity::start(database, None, keys.chain(), &mut store).unwrap();
        let continuity = Arc::new(continuity);
        let calendar = Calendar::start(Arc::new(SystemClock), None, &mut store).unwrap();
        let calendar = Arc::new(calendar);
        let serve = Arc::new(Serve::new(
            keys,
            Arc::<Calendar>::clone(&calendar),
            Arc::clone(&continuity),
            Arc::new(FreshSegments::new(0)),
            0,
            2,
            Arc::default(),
        ));
        let since = UnixMillis(0);
        let known = Arc::clone(&continuity);
        let (database_again, progress) = (database.clone(), StartProgress::default());
        let writer = Writer::start(database_again, &mut store, since, feed, known, &progress);
        let writer = writer.unwrap();
        let (stop_when_dropped, stop) = crossbeam::channel::bounded(0);
        let retention = Retention {
            connection: CachedStore::new(database.clone()),
            writer: Arc::clone(writer.state()),
            continuity,
            downloads: Arc::default(),
            calendar,
            serve,
            settings: DownloadSettings::default(),
            holder: "this".to_owned(),
            stop,
            state: RetentionState::default(),
        };
        (retention, stop_when_dropped)
    }

    #[test]
    fn writes_what_was_counted_whatever_became_of_the_connection() {
        let folder = tempfile::tempdir().unwrap();
        let mut server = MariaDb::start(folder.path()).unwrap();
        server.create_database("efgs").unwrap();
        let database = Database::new(server.url("efgs").parse().unwrap());
        let (mut retention, _stop) = retention(&database);
        let place = DownloadPlace {
            country: Country::parse("DE").unwrap(),
            day: Day::parse_iso("2020-10-07").unwrap(),
            batch: BatchTag::parse("20201007-1").unwrap(),
        };
        let downloads = Arc::clone(&retention.downloads);
        let count_one = || {
            let one = DownloadCount {
                downloads: 1,
                keys: 5,
            };
            downloads.put_back([(place, one)].into());
        };
        let written = || {
            let found = Store::open(&database)
                .unwrap()
                .statistics(place.day, place.day);
            found.unwrap().days.first().map_or(0, |day| day.downloads)
        };
        retention.tick();
        assert!(
            retention.state.next_pass > Some(Instant::now() + limits::RETENTION_RETRY),
            "the pass went well"
        );
        // Nothing is downloaded until the server has ended the session.
        server.run("KILL USER efgs").unwrap();
        retention.connection.idle_for(limits::SESSION_IDLE_MAX);
        count_one();
        retention.flush();
        assert_eq!(written(), 1);

        retention.state.next_pass = None;
        server.run("KILL USER efgs").unwrap();
        retention.connection.idle_for(limits::SESSION_IDLE_MAX);
        retention.tick();
        assert!(
            retention.state.next_pass > Some(Instant::now() + limits::RETENTION_RETRY),
            "the pass went well"
        );

        server.kill().unwrap();
        retention.connection.close();
        count_one();
        retention.flush();
        server.restart().unwrap();
        retention.flush();
        assert_eq!(written(), 2);
    }

    #[test]
    fn begins_a_day_some_minutes_after_midnight() {
        // 2020-10-07T00:00:00Z, as `date -u -d @1602028800` prints it.
        let midnight = UnixMillis(1_602_028_800_000);
        let day = |text| Day::parse_iso(text).unwrap();
        let settings = DownloadSettings::default();
        let at = |minutes: u64| Horizon::at(midnight.plus_millis(minutes * 60_000), &settings);
        assert_eq!(at(4).today, day("2020-10-06"));
        let expected = Horizon {
            today: day("2020-10-07"),
            batches: Expiry {
                oldest_day: day("2020-10-05"),
                cut_before: None,
            },
            oldest_identity: day("2020-09-20"),
        };
        assert_eq!(at(5), expected);
        assert_eq!(at(24 * 60 + 4), expected);
    }

    #[test]
    fn keeps_batches_of_a_practice_gateway_for_their_time_alone() {
        let settings = DownloadSettings {
            max_age_days: 2,
            kept: Some(Duration::from_secs(3600)),
        };
        let noon = UnixMillis(1_602_072_000_000);
        let batches = Horizon::at(noon, &settings).batches;
        assert_eq!(batches.cut_before, Some(UnixMillis(noon.0 - 3_600_000)));
    }
}
