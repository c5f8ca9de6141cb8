//! Statistics: what gateways add to them, and how they are read.

use std::collections::BTreeMap;

use super::columns::{Rows, batch_tag, country, day as day_of};
use super::session::Store;
use crate::database::{Param, SqlError};
use crate::domain::{BatchTag, Country, Day, UnixMillis};
use crate::limits;

/// What was counted in a range of days.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// By day and country, ascending; only where there is something.
    pub days: Vec<CountryDay>,
    /// By day, ascending.
    pub cleanups: Vec<Cleanup>,
}

/// What a country did on a day, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountryDay {
    /// The day.
    pub day: Day,
    /// The participant.
    pub country: Country,
    /// Uploads that were stored.
    pub uploads: u64,
    /// Keys in them.
    pub uploaded_keys: u64,
    /// Different download batches that were answered.
    pub batches: u64,
    /// Downloads that were answered, repeats included.
    pub downloads: u64,
    /// Keys in them.
    pub downloaded_keys: u64,
}

impl CountryDay {
    const fn new(day: Day, country: Country) -> Self {
        Self {
            day,
            country,
            uploads: 0,
            uploaded_keys: 0,
            batches: 0,
            downloads: 0,
            downloaded_keys: 0,
        }
    }
}

/// A day's retention: how many keys were stored in download batches before and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleanup {
    /// The day, in UTC.
    pub day: Day,
    /// When something was last deleted; when it was looked for, if nothing was.
    pub cleaned_at: UnixMillis,
    /// Keys before.
    pub keys_before: u64,
    /// Keys whose data was deleted.
    pub keys_deleted: u64,
    /// Keys after.
    pub keys_after: u64,
}

/// What downloads are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DownloadPlace {
    pub(crate) country: Country,
    pub(crate) day: Day,
    pub(crate) batch: BatchTag,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DownloadCount {
    pub(crate) downloads: u64,
    pub(crate) keys: u64,
}

impl Store {
    /// Adds counted downloads, all or none: one statement per country, more if there are very many.
    pub(crate) fn add_downloads(
        &mut self,
        counts: &BTreeMap<DownloadPlace, DownloadCount>,
    ) -> Result<(), SqlError> {
        let add = self.0.dialect().add_downloads;
        let counts: Vec<_> = counts.iter().collect();
        self.0.transaction(|c| {
            let countries = counts.chunk_by(|a, b| a.0.country == b.0.country);
            for rows in countries.flat_map(|country| country.chunks(limits::DOWNLOAD_COUNT_ROWS)) {
                let places = vec!["(?, ?, ?, ?, ?, ?)"; rows.len()].join(", ");
                let sql = format!(
                    "INSERT INTO download_statistics (day, country, batch_day, batch_number, \
                     download_count, key_count) VALUES {places} {add}"
                );
                let params: Vec<_> = rows.iter().flat_map(download_params).collect();
                c.execute(&sql, &params)?;
            }
            Ok(())
        })
    }

    /// The newest download batch of each day of batches that each participant has downloaded from
    /// `from` on.
    pub(crate) fn newest_downloads(
        &mut self,
        from: Day,
    ) -> Result<Vec<(Country, BatchTag)>, SqlError> {
        let sql = "SELECT country, batch_day, MAX(batch_number) FROM download_statistics \
             WHERE day >= ? GROUP BY country, batch_day";
        let from = u64::from(from.compact_number()).into();
        self.0.rows(sql, &[from], |row| {
            NEWEST.read(row, |row| Ok((country(row, 0)?, batch_tag(row, 1)?)))
        })
    }

    /// Everything that was counted on days from `from` to `to`.
    pub(crate) fn statistics(&mut self, from: Day, to: Day) -> Result<Statistics, SqlError> {
        let mut days = BTreeMap::new();
        self.add_uploads_of(from, to, &mut days)?;
        self.add_downloads_of(from, to, &mut days)?;
        Ok(Statistics {
            days: days.into_values().collect(),
            cleanups: self.cleanups(from, to)?,
        })
    }

    /// Uploads that are in the log, and those that were. One statement, so that a row on its way
    /// from one to the other is seen once.
    fn add_uploads_of(
        &mut self,
        from: Day,
        to: Day,
        days: &mut CountryDays,
    ) -> Result<(), SqlError> {
        let millis = Day::MILLIS;
        let sql = format!(
            "SELECT 0, created_at_ms - created_at_ms % {millis}, country, COUNT(*), \
             CAST(SUM(key_count) AS UNSIGNED) FROM upload_log \
             WHERE created_at_ms >= ? AND created_at_ms < ? \
             GROUP BY created_at_ms - created_at_ms % {millis}, country \
             UNION ALL SELECT 1, day, country, upload_count, CAST(key_count AS UNSIGNED) \
             FROM upload_statistics WHERE day BETWEEN ? AND ?"
        );
        let [first, last] = compact(from, to);
        let params = [
            from.start().0.into(),
            to.next().start().0.into(),
            first,
            last,
        ];
        self.0.query(&sql, &params, &mut |row| {
            UPLOADS.read(row, |row| {
                let day = match row.number(0)? {
                    0 => UnixMillis(row.number(1)?).day(),
                    _ => day_of(row, 1)?,
                };
                let place = of(days, day, country(row, 2)?);
                place.uploads = place.uploads.saturating_add(row.number(3)?);
                place.uploaded_keys = place.uploaded_keys.saturating_add(row.number(4)?);
                Ok(())
            })
        })
    }

    pub(super) fn add_downloads_of(
        &mut self,
        from: Day,
        to: Day,
        days: &mut CountryDays,
    ) -> Result<(), SqlError> {
        let sql = "SELECT day, country, COUNT(*), CAST(SUM(download_count) AS UNSIGNED), \
             CAST(SUM(key_count) AS UNSIGNED) FROM download_statistics \
             WHERE day BETWEEN ? AND ? GROUP BY day, country";
        self.0.query(sql, &compact(from, to), &mut |row| {
            DOWNLOADS.read(row, |row| {
                let place = of(days, day_of(row, 0)?, country(row, 1)?);
                place.batches = row.number(2)?;
                place.downloads = row.number(3)?;
                place.downloaded_keys = row.number(4)?;
                Ok(())
            })
        })
    }

    /// The country, batch signature and number of keys of each upload of these days that the log
    /// still has.
    pub(crate) fn read_signatures(
        &mut self,
        from: Day,
        to: Day,
        on_upload: &mut dyn FnMut(Country, &str, u64),
    ) -> Result<(), SqlError> {
        let sql = "SELECT seq, country, batch_signature, key_count FROM upload_log \
             WHERE created_at_ms >= ? AND created_at_ms < ? AND key_count > 0";
        let params = [from, to.next()].map(|day| day.start().0.into());
        self.0.query(sql, &params, &mut |row| {
            SIGNATURES.read(row, |row| {
                on_upload(country(row, 1)?, row.text(2)?, row.number(3)?);
                Ok(())
            })
        })
    }

    fn cleanups(&mut self, from: Day, to: Day) -> Result<Vec<Cleanup>, SqlError> {
        let sql = "SELECT day, cleaned_at_ms, keys_before, keys_deleted, keys_after \
             FROM cleanup_statistics WHERE day BETWEEN ? AND ? ORDER BY day";
        self.0.rows(sql, &compact(from, to), |row| {
            CLEANUPS.read(row, |row| {
                Ok(Cleanup {
                    day: day_of(row, 0)?,
                    cleaned_at: UnixMillis(row.number(1)?),
                    keys_before: row.number(2)?,
                    keys_deleted: row.number(3)?,
                    keys_after: row.number(4)?,
                })
            })
        })
    }
}

pub(super) type CountryDays = BTreeMap<(Day, Country), CountryDay>;

fn of(days: &mut CountryDays, day: Day, country: Country) -> &mut CountryDay {
    days.entry((day, country))
        .or_insert_with(|| CountryDay::new(day, country))
}

fn download_params<'a>(&(place, count): &(&'a DownloadPlace, &'a DownloadCount)) -> [Param<'a>; 6] {
    [
        u64::from(place.day.compact_number()).into(),
        place.country.as_str().into(),
        u64::from(place.batch.day.compact_number()).into(),
        u64::from(place.batch.number).into(),
        count.downloads.into(),
        count.keys.into(),
    ]
}

fn compact<'a>(from: Day, to: Day) -> [Param<'a>; 2] {
    [from, to].map(|day| u64::from(day.compact_number()).into())
}

const UPLOADS: Rows = Rows {
    table: "upload_log or upload_statistics",
    columns: &["source", "day", "country", "upload_count", "key_count"],
    key: &[1, 2],
};

const SIGNATURES: Rows = Rows {
    table: "upload_log",
    columns: &["seq", "country", "batch_signature", "key_count"],
    key: &[0],
};

const DOWNLOADS: Rows = Rows {
    table: "download_statistics",
    columns: &["day", "country", "batches", "download_count", "key_count"],
    key: &[0, 1],
};

const NEWEST: Rows = Rows {
    table: "download_statistics",
    columns: &["country", "batch_day", "batch_number"],
    key: &[0, 1],
};

const CLEANUPS: Rows = Rows {
    table: "cleanup_statistics",
    columns: &[
        "day",
        "cleaned_at_ms",
        "keys_before",
        "keys_deleted",
        "keys_after",
    ],
    key: &[0],
};

/// Counts uploads and their keys by day and country.
pub(super) fn add_uploads(
    uploads: impl Iterator<Item = (Day, Country, u64)>,
) -> BTreeMap<(Day, Country), (u64, u64)> {
    let mut counts = BTreeMap::new();
    for (day, country, keys) in uploads {
        let count: &mut (u64, u64) = counts.entry((day, country)).or_default();
        count.0 += 1;
        count.1 = count.1.saturating_add(keys);
    }
    counts
}
