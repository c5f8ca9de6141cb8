//! Uploads by hour and country, counted as the log grows.

use super::columns::{Rows, country};
use super::session::Store;
use crate::database::SqlError;
use crate::domain::{Country, Day, Seq, UnixMillis};
use crate::store::CountryDay;

/// What a country uploaded in an hour, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountryHour {
    /// When the hour begins.
    pub hour: UnixMillis,
    /// The participant.
    pub country: Country,
    /// Uploads that were stored.
    pub uploads: u64,
    /// Keys in them.
    pub keys: u64,
    /// The last of these uploads.
    pub last_upload: UnixMillis,
}

/// Milliseconds of an hour.
pub(crate) const HOUR_MS: u64 = 3_600_000;

impl Store {
    /// Uploads of the positions behind `after` up to `to`, by hour and country.
    pub(crate) fn uploads_by_hour(
        &mut self,
        after: Seq,
        to: Seq,
    ) -> Result<Vec<CountryHour>, SqlError> {
        let sql = format!(
            "SELECT created_at_ms - created_at_ms % {HOUR_MS}, country, COUNT(*), \
             CAST(SUM(key_count) AS UNSIGNED), MAX(created_at_ms) FROM upload_log \
             WHERE seq > ? AND seq <= ? \
             GROUP BY created_at_ms - created_at_ms % {HOUR_MS}, country"
        );
        self.0.rows(&sql, &[after.0.into(), to.0.into()], |row| {
            HOURS.read(row, |row| {
                Ok(CountryHour {
                    hour: UnixMillis(row.number(0)?),
                    country: country(row, 1)?,
                    uploads: row.number(2)?,
                    keys: row.number(3)?,
                    last_upload: UnixMillis(row.number(4)?),
                })
            })
        })
    }

    /// What each country downloaded on a day.
    pub(crate) fn downloads_on(&mut self, day: Day) -> Result<Vec<CountryDay>, SqlError> {
        let mut days = Default::default();
        self.add_downloads_of(day, day, &mut days)?;
        Ok(days.into_values().collect())
    }
}

const HOURS: Rows = Rows {
    table: "upload_log",
    columns: &["hour", "country", "uploads", "key_count", "created_at_ms"],
    key: &[0, 1],
};
