//! What the console shows of the whole installation: its gateways, uploads by hour, downloads of the day,
//! callback subscriptions.
//!
//! - *In*: what a gateway says about itself; a look, now and then, while somebody has a console open.
//! - *Out*: [`Overview`].
//! - *Refuses*: nothing. Once the database has gone back, it neither reads nor writes.
//! - *Assumes*: rows of the log are never changed and have no gaps, so that each is counted once: a look
//!   reads the rows behind the last one, [`limits::OVERVIEW_ROWS`] per statement.
//! - *Runs on*: the caller's thread, which waits for the database; one at a time, on one connection, which
//!   nothing else uses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::continuity::Continuity;
use crate::database::{Database, SqlError};
use crate::domain::{Country, Day, Seq, UnixMillis};
use crate::failure::{DatabaseError, Failure};
use crate::limits;
use crate::locks::LockIgnoringPoison as _;
pub use crate::store::{
    AnnouncedGateway, Announcement, CountryDay, CountryHour, SubscriptionState,
};
use crate::store::{CachedStore, HOUR_MS, Store};

/// The installation, as its database knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overview {
    /// Uploads of the last [`limits::OVERVIEW_HOURS`] hours, by hour and country; only where there are any.
    pub hours: Vec<CountryHour>,
    /// The last upload of each country that the log still has.
    pub last_uploads: BTreeMap<Country, UnixMillis>,
    /// Downloads of the day, by country.
    pub downloads: Vec<CountryDay>,
    /// Callback subscriptions, in the order of country and id.
    pub subscriptions: Vec<SubscriptionState>,
}

/// Reads and writes what the console needs.
#[derive(Debug)]
pub(crate) struct OverviewReader {
    reading: Mutex<Reading>,
    continuity: Arc<Continuity>,
}

#[derive(Debug)]
struct Reading {
    store: CachedStore,
    tally: Tally,
    next_cleanup: Option<Instant>,
}

/// The uploads up to a position of the log.
#[derive(Debug, Default)]
struct Tally {
    position: Seq,
    hours: BTreeMap<(UnixMillis, Country), CountryHour>,
    last_uploads: BTreeMap<Country, UnixMillis>,
}

impl OverviewReader {
    pub(crate) fn new(database: Database, continuity: Arc<Continuity>) -> Self {
        Self {
            reading: Mutex::new(Reading {
                store: CachedStore::new(database),
                tally: Tally::default(),
                next_cleanup: None,
            }),
            continuity,
        }
    }

    /// Announces this gateway. Returns all announcements from before, including the last one under its own
    /// name.
    pub(crate) fn announce(&self, own: &Announcement) -> Result<Vec<AnnouncedGateway>, Failure> {
        let mut reading = self.reading()?;
        let announced = reading.announce(own);
        // The next is due when the server has ended an idle session, or is about to.
        reading.store.close();
        announced.map_err(|error| failure(error.doing("announcing this gateway to the others")))
    }

    /// Reads the overview of a day.
    pub(crate) fn read(
        &self,
        today: Day,
        now: UnixMillis,
        oldest: Day,
    ) -> Result<Overview, Failure> {
        let mut reading = self.reading()?;
        let read = reading.read(today, now, oldest);
        if read.is_err() {
            reading.store.close();
        }
        read.map_err(|error| failure(error.doing("reading the statistics for the console")))
    }

    fn reading(&self) -> Result<MutexGuard<'_, Reading>, Failure> {
        if self.continuity.has_gone_back() {
            return Err(Failure::DatabaseWentBack);
        }
        Ok(self.reading.lock_ignoring_poison())
    }
}

fn failure(error: DatabaseError) -> Failure {
    Failure::Database(error)
}

impl Reading {
    fn announce(&mut self, own: &Announcement) -> Result<Vec<AnnouncedGateway>, SqlError> {
        let store = self.store.store()?;
        let now = Instant::now();
        if self.next_cleanup.is_none_or(|at| at <= now) {
            store.forget_gateways()?;
            self.next_cleanup = Some(now + limits::GATEWAY_CLEANUP_INTERVAL);
        }
        let known = store.gateways()?;
        store.announce(own)?;
        Ok(known)
    }

    fn read(&mut self, today: Day, now: UnixMillis, oldest: Day) -> Result<Overview, SqlError> {
        let store = self.store.store()?;
        self.tally.follow(store)?;
        self.tally.forget_before(now);
        Ok(Overview {
            hours: self.tally.hours.values().copied().collect(),
            last_uploads: self.tally.last_uploads.clone(),
            downloads: store.downloads_on(today)?,
            subscriptions: store.subscription_states(oldest)?,
        })
    }
}

impl Tally {
    /// Counts what the log has behind the position.
    fn follow(&mut self, store: &mut Store) -> Result<(), SqlError> {
        let end = store.log_end()?;
        if end < self.position {
            // An operator has begun another epoch.
            *self = Self::default();
        }
        while self.position < end {
            let to = Seq(self.position.0.saturating_add(limits::OVERVIEW_ROWS)).min(end);
            for counted in store.uploads_by_hour(self.position, to)? {
                self.add(counted);
            }
            self.position = to;
        }
        Ok(())
    }

    fn add(&mut self, counted: CountryHour) {
        let last = self.last_uploads.entry(counted.country);
        let last = last.or_insert(counted.last_upload);
        *last = counted.last_upload.max(*last);
        let place = (counted.hour, counted.country);
        let hour = self.hours.entry(place).or_insert(CountryHour {
            uploads: 0,
            keys: 0,
            ..counted
        });
        hour.uploads = hour.uploads.saturating_add(counted.uploads);
        hour.keys = hour.keys.saturating_add(counted.keys);
        hour.last_upload = counted.last_upload.max(hour.last_upload);
    }

    fn forget_before(&mut self, now: UnixMillis) {
        let hours_ms = limits::OVERVIEW_HOURS * HOUR_MS;
        let oldest = UnixMillis((now.0 - now.0 % HOUR_MS).saturating_sub(hours_ms));
        self.hours.retain(|(hour, _), _| *hour >= oldest);
    }
}

#[cfg(test)]
mod tests {
    use testkit::local::MariaDb;

    use super::*;
    use crate::database::Timeouts;
    use crate::settings::DatabaseUrl;
    use crate::store::migrate;

    /// 2020-10-06, 02:00 UTC.
    const TWO: UnixMillis = UnixMillis(1_601_949_600_000);

    fn country(text: &str) -> Country {
        Country::parse(text).unwrap()
    }

    fn run(database: &Database, sql: &str) {
        database
            .connect(Timeouts::Short)
            .unwrap()
            .script(sql)
            .unwrap();
    }

    fn upload(database: &Database, seq: u64, country: &str, at: UnixMillis, keys: u64) {
        let sql = format!(
            "INSERT INTO upload_log (seq, created_at_ms, country, upload_tag, key_count, \
             format_version, uploader_thumbprint, signer_thumbprint, content_digest, chain, \
             batch_signature, identities, sealed) VALUES ({seq}, {}, '{country}', '{seq}', {keys}, \
             256, 'u', 's', 'c', '', 'b', 'i', 'k')",
            at.0
        );
        run(database, &sql);
    }

    fn reading(database: &Database) -> Reading {
        Reading {
            store: CachedStore::new(database.clone()),
            tally: Tally::default(),
            next_cleanup: None,
        }
    }

    /// Uploads and keys by hour (counted from two o'clock) and country.
    fn hours(reading: &mut Reading, now: UnixMillis) -> Vec<(i64, String, u64, u64)> {
        let read = reading.read(now.day(), now, now.day()).unwrap();
        let since =
            |hour: UnixMillis| i64::try_from(hour.0).unwrap() - i64::try_from(TWO.0).unwrap();
        let hours = read.hours.iter();
        hours
            .map(|hour| {
                let number = since(hour.hour) / i64::try_from(HOUR_MS).unwrap();
                (number, hour.country.to_string(), hour.uploads, hour.keys)
            })
            .collect()
    }

    fn counts_each_upload_once(database: &Database) {
        let mut reading = reading(database);
        let now = UnixMillis(TWO.0 + HOUR_MS / 2);
        assert_eq!(hours(&mut reading, now), []);
        let earlier = UnixMillis(TWO.0 - 5);
        upload(database, 1, "DE", earlier, 10);
        upload(database, 2, "DE", TWO, 20);
        upload(database, 3, "IT", TWO, 7);
        let de = |hour, uploads, keys| (hour, "DE".to_owned(), uploads, keys);
        let it = (0, "IT".to_owned(), 1, 7);
        // Five milliseconds before the hour are in the one before.
        let before = de(-1, 1, 10);
        let seen = hours(&mut reading, now);
        assert_eq!(seen, [before.clone(), de(0, 1, 20), it.clone()]);
        assert_eq!(
            hours(&mut reading, now),
            seen,
            "a look at the same log changes nothing"
        );
        upload(database, 4, "DE", UnixMillis(TWO.0 + 9), 1);
        assert_eq!(hours(&mut reading, now), [before, de(0, 2, 21), it]);
        let last = reading
            .read(now.day(), now, now.day())
            .unwrap()
            .last_uploads;
        assert_eq!(last[&country("DE")], UnixMillis(TWO.0 + 9));
        assert_eq!(last[&country("IT")], TWO);
        let next_day = UnixMillis(TWO.0 + 25 * HOUR_MS);
        assert_eq!(hours(&mut reading, next_day), []);
        // An operator has begun another epoch, after a restore.
        run(database, "DELETE FROM upload_log WHERE seq > 1");
        assert_eq!(hours(&mut reading, now), [de(-1, 1, 10)]);
    }

    fn knows_gateways_until_they_are_gone_for_long(database: &Database) {
        let mut reading = reading(database);
        let of = |name: &str, figures: &str| Announcement {
            name: name.to_owned(),
            version: "1".to_owned(),
            started_at: TWO,
            figures: figures.as_bytes().to_vec(),
        };
        assert!(reading.announce(&of("a", "{}")).unwrap().is_empty());
        reading.announce(&of("b", "{\"x\":1}")).unwrap();
        reading.announce(&of("a", "{\"x\":2}")).unwrap();
        let mut known = reading.announce(&of("a", "{}")).unwrap();
        assert_eq!(known.len(), 2);
        known.sort_by(|a, b| a.announcement.name.cmp(&b.announcement.name));
        assert_eq!(known[0].announcement, of("a", "{\"x\":2}"));
        assert_eq!(known[1].announcement, of("b", "{\"x\":1}"));
        assert!(known[1].seen_at <= known[0].seen_at && known[0].seen_at <= known[0].read_at);
        let kept_ms = limits::GATEWAY_KEPT.as_millis();
        let spoil = format!(
            "UPDATE gateway SET seen_at_ms = seen_at_ms - {kept_ms} - 1 WHERE name = x'62'"
        );
        run(database, &spoil);
        assert_eq!(
            reading.announce(&of("a", "{}")).unwrap().len(),
            2,
            "not looked for yet"
        );
        reading.next_cleanup = None;
        assert_eq!(reading.announce(&of("a", "{}")).unwrap().len(), 1);
        let huge = Announcement {
            figures: vec![b' '; limits::GATEWAY_FIGURES_BYTES_MAX + 1],
            ..of("c", "")
        };
        reading.announce(&huge).unwrap();
        let known = reading.announce(&of("a", "{}")).unwrap();
        assert_eq!(known.len(), 1, "what no gateway writes is left out");
    }

    #[test]
    fn reads_the_installation_from_either_database() {
        let folder = tempfile::tempdir().unwrap();
        let server = MariaDb::start(folder.path()).unwrap();
        server.create_database("efgs").unwrap();
        for url in [
            DatabaseUrl::Sqlite(folder.path().join("db")),
            server.url("efgs").parse().unwrap(),
        ] {
            let database = Database::new(url);
            migrate(&database).unwrap();
            counts_each_upload_once(&database);
            knows_gateways_until_they_are_gone_for_long(&database);
        }
    }
}
