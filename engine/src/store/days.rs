//! The day that all gateways act on, and days in tables that lie behind it.

use super::columns::{Rows, day as day_of};
use super::session::Store;
use crate::database::{Connection, Row, SqlError, Value};
use crate::domain::{Day, UnixMillis};

/// The days that an installation has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownDays {
    /// The day that gateways act on.
    pub(crate) current: Day,
    /// The latest that they have ever acted on: no download batch is named after a later one.
    pub(crate) latest: Day,
}

impl KnownDays {
    /// An installation's first day.
    pub(crate) const fn first(day: Day) -> Self {
        Self {
            current: day,
            latest: day,
        }
    }

    /// The days when `day` has come.
    pub(crate) fn moved_to(self, day: Day) -> Self {
        Self {
            current: day,
            latest: self.latest.max(day),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (current, latest) = text.split_once(' ')?;
        Some(Self {
            current: Day::parse_compact(current).ok()?,
            latest: Day::parse_compact(latest).ok()?,
        })
    }

    fn text(self) -> String {
        let (current, latest) = (self.current, self.latest);
        format!(
            "{:08} {:08}",
            current.compact_number(),
            latest.compact_number()
        )
    }
}

/// The newest days that rows of the installation speak of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NewestDays {
    /// Whether there are any rows.
    pub(crate) any: bool,
    /// The newest day that is not after the one asked for.
    pub(crate) newest: Option<Day>,
}

/// The row of `installation` with the days.
const KNOWN_DAYS: &str = "day";

const INSTALLATION: Rows = Rows {
    table: "installation",
    columns: &["value", "name"],
    key: &[1],
};

const BATCHES: Rows = Rows {
    table: "download_batch",
    columns: &["ordinal", "day", "number", "created_at_ms"],
    key: &[0],
};

const DAYS: Rows = Rows {
    table: "download_batch or cleanup_statistics",
    columns: &["day"],
    key: &[0],
};

impl Store {
    /// The days that the gateways have agreed on; nothing before the first of them has started.
    pub(crate) fn known_days(&mut self) -> Result<Option<KnownDays>, SqlError> {
        let sql = "SELECT value, name FROM installation WHERE name = ?";
        let row = self.0.first(sql, &[KNOWN_DAYS.into()])?;
        let read = |row: &mut Row| {
            row.parse(
                0,
                |text| KnownDays::parse(text).ok_or(()),
                "is no pair of days",
            )
        };
        row.map(|row| INSTALLATION.read(row, read)).transpose()
    }

    /// Replaces the known days, unless another gateway has been faster; returns whether that is done.
    pub(crate) fn move_days(
        &mut self,
        before: Option<KnownDays>,
        new: KnownDays,
    ) -> Result<bool, SqlError> {
        let text = new.text();
        let Some(before) = before else {
            let insert = "INSERT INTO installation (name, value) VALUES (?, ?)";
            return match self
                .0
                .execute(insert, &[KNOWN_DAYS.into(), text.as_str().into()])
            {
                Ok(_) => Ok(true),
                Err(SqlError::Duplicate(_)) => Ok(false),
                Err(error) => Err(error),
            };
        };
        let sql = "UPDATE installation SET value = ? WHERE name = ? AND value = ?";
        let before = before.text();
        let params = [
            text.as_str().into(),
            KNOWN_DAYS.into(),
            before.as_str().into(),
        ];
        Ok(self.0.execute(sql, &params)? == 1)
    }

    /// Sets the day whatever it was before, as an operator does; returns the one before. With
    /// `accept_batches`, download batches may be of any day that one of them has.
    pub(crate) fn confirm_day(
        &mut self,
        day: Day,
        accept_batches: bool,
    ) -> Result<Option<Day>, SqlError> {
        loop {
            let before = self.known_days()?;
            let mut new = before.map_or_else(|| KnownDays::first(day), |days| days.moved_to(day));
            if accept_batches && let Some(newest) = self.newest_batch_day()? {
                new.latest = new.latest.max(newest);
            }
            // Otherwise a gateway has moved it meanwhile.
            if before == Some(new) || self.move_days(before, new)? {
                return Ok(before.map(|days| days.current));
            }
        }
    }

    /// What download batches, clean-ups and uploads say about the day, up to `limit`.
    pub(crate) fn newest_days(&mut self, limit: Day) -> Result<NewestDays, SqlError> {
        let mut found = NewestDays::default();
        for table in ["download_batch", "cleanup_statistics"] {
            let sql = format!("SELECT MAX(day) FROM {table}");
            found.any |= max_day(&mut *self.0, &sql, &[])?.is_some();
            let number = u64::from(limit.compact_number());
            let sql = format!("{sql} WHERE day <= ?");
            let newest = max_day(&mut *self.0, &sql, &[number])?;
            found.newest = found.newest.max(newest);
        }
        // The last uploads tell as much as all, and are found without reading the log.
        let sql = "SELECT created_at_ms FROM upload_log ORDER BY seq DESC LIMIT 16";
        let instants = self
            .0
            .rows(sql, &[], |row| Ok(UnixMillis(row.number(0)?)))?;
        found.any |= !instants.is_empty();
        let days = instants.into_iter().map(UnixMillis::day);
        found.newest = found.newest.max(days.filter(|day| *day <= limit).max());
        Ok(found)
    }

    /// A download batch of a day after `limit`, if there is one: what is wrong with its row, for an
    /// operator.
    pub(crate) fn batch_after(&mut self, limit: Day) -> Result<Option<String>, SqlError> {
        let sql = "SELECT ordinal, day, number, created_at_ms FROM download_batch WHERE day > ? \
             ORDER BY day, number LIMIT 1";
        let limit_number = u64::from(limit.compact_number());
        let Some(row) = self.0.first(sql, &[limit_number.into()])? else {
            return Ok(None);
        };
        BATCHES.read(row, |row| {
            let (day, number) = (day_of(row, 1)?, row.number(2)?);
            Ok(Some(format!(
                "table download_batch, ordinal {}: day {} (number {number}) is after {limit}, the \
                 newest day that there can be. If the row was changed, set its day back: it was \
                 created on {}. If a wrong clock has named it, run efgs db confirm-day \
                 --accept-batches",
                row.number(0)?,
                day.compact_number(),
                UnixMillis(row.number(3)?).day()
            )))
        })
    }

    /// The newest day that a download batch is named after.
    pub(crate) fn newest_batch_day(&mut self) -> Result<Option<Day>, SqlError> {
        max_day(&mut *self.0, "SELECT MAX(day) FROM download_batch", &[])
    }
}

fn max_day(c: &mut dyn Connection, sql: &str, params: &[u64]) -> Result<Option<Day>, SqlError> {
    let params: Vec<_> = params.iter().map(|&number| number.into()).collect();
    let Some(row) = c.first(sql, &params)? else {
        return Ok(None);
    };
    if row.0[0] == Value::Null {
        return Ok(None);
    }
    DAYS.read(row, |row| day_of(row, 0)).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Database;
    use crate::settings::DatabaseUrl;
    use crate::store::migrate;

    fn day(text: &str) -> Day {
        Day::parse_iso(text).unwrap()
    }

    fn store() -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::new(DatabaseUrl::Sqlite(folder.path().join("db")));
        migrate(&database).unwrap();
        (Store::open(&database).unwrap(), folder)
    }

    #[test]
    fn moves_the_days_only_from_what_they_are() {
        let (mut store, _folder) = store();
        assert_eq!(store.known_days().unwrap(), None);
        let first = KnownDays::first(day("2020-10-06"));
        assert!(store.move_days(None, first).unwrap());
        assert!(!store.move_days(None, first).unwrap());
        let later = first.moved_to(day("2020-12-31"));
        assert!(store.move_days(Some(first), later).unwrap());
        assert!(!store.move_days(Some(first), later).unwrap());
        let back = later.moved_to(day("2020-10-07"));
        assert!(store.move_days(Some(later), back).unwrap());
        let found = store.known_days().unwrap().unwrap();
        assert_eq!(found.current, day("2020-10-07"));
        assert_eq!(found.latest, day("2020-12-31"));
    }

    #[test]
    fn an_unreadable_day_is_an_error_that_names_the_row() {
        let (mut store, _folder) = store();
        let insert = "INSERT INTO installation VALUES (CAST('day' AS BLOB), CAST('x' AS BLOB))";
        store.0.script(insert).unwrap();
        let error = store.known_days().unwrap_err().to_string();
        assert!(
            error.contains("installation") && error.contains("day"),
            "{error}"
        );
    }

    #[test]
    fn tells_what_the_rows_say_about_the_day() {
        let (mut store, _folder) = store();
        let limit = day("2020-10-07");
        assert_eq!(store.newest_days(limit).unwrap(), NewestDays::default());
        let batch = |ordinal: u64, day: u64| {
            format!(
                "INSERT INTO download_batch (ordinal, day, number, first_seq, last_seq, \
                 key_count, created_at_ms, digest) VALUES ({ordinal}, {day}, 1, {ordinal}, {ordinal}, 1, 0, '');"
            )
        };
        store.0.script(&batch(1, 20_201_005)).unwrap();
        assert_eq!(store.batch_after(limit).unwrap(), None);
        store.0.script(&batch(2, 20_991_231)).unwrap();
        let found = store.newest_days(limit).unwrap();
        assert_eq!((found.any, found.newest), (true, Some(day("2020-10-05"))));
        let wrong = store.batch_after(limit).unwrap().unwrap();
        assert!(
            wrong.contains("table download_batch, ordinal 2: day 20991231"),
            "{wrong}"
        );
        assert_eq!(store.newest_batch_day().unwrap(), Some(day("2099-12-31")));
        // An operator says that a wrong clock has named it.
        store.confirm_day(limit, false).unwrap();
        assert_eq!(store.known_days().unwrap(), Some(KnownDays::first(limit)));
        assert_eq!(store.confirm_day(limit, true).unwrap(), Some(limit));
        let known = store.known_days().unwrap().unwrap();
        assert_eq!((known.current, known.latest), (limit, day("2099-12-31")));
        assert_eq!(store.batch_after(known.latest).unwrap(), None);
    }
}
