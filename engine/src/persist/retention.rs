//! What retention asks of the database: small transactions, each guarded by its lease.
//!
//! A transaction moves a mark (`emptied_to`, `forgotten_to`) together with what it deletes, so a
//! crash between two of them leaves nothing half done, and the next gateway goes on at the mark.

use super::connection::{Connection, Row, SqlError};
use super::store::{Lease, Store, country, fence, number_32};
use crate::domain::{Country, Day, UnixMillis};
use crate::limits;
use crate::statistics::add_uploads;

/// What became of one small transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It did something; there may be more to do.
    More,
    /// There is nothing to do.
    Done,
    /// Another gateway has the lease: nothing was done.
    LeaseLost,
}

/// How far retention has come in the log.
#[derive(Debug, Clone, Copy)]
struct Marks {
    emptied_to: u64,
    forgotten_to: u64,
}

impl Store {
    /// The database's own time.
    pub(crate) fn now(&mut self) -> Result<UnixMillis, SqlError> {
        let sql = format!("SELECT {}", self.0.dialect().now_ms);
        let row = self.0.first(&sql, &[])?;
        Ok(UnixMillis(row.map_or(0, |row| row.number(0))))
    }

    /// The newest day of retention.
    pub(crate) fn newest_cleanup_day(&mut self) -> Result<Option<Day>, SqlError> {
        let sql = "SELECT day FROM cleanup_statistics ORDER BY day DESC LIMIT 1";
        let row = self.0.first(sql, &[])?;
        Ok(row.and_then(|row| Day::from_compact_number(number_32(row.number(0))).ok()))
    }

    /// Writes the row of a day, unless it is there.
    pub(crate) fn begin_cleanup(
        &mut self,
        token: u64,
        day: Day,
        now: UnixMillis,
    ) -> Result<Step, SqlError> {
        let number = u64::from(day.compact_number());
        self.guarded(token, |c| {
            let known = "SELECT day FROM cleanup_statistics WHERE day = ?";
            if c.first(known, &[number.into()])?.is_some() {
                return Ok(Step::Done);
            }
            let marks = marks(c)?;
            let keys = keys_held(c, marks.emptied_to)?;
            let sql = "INSERT INTO cleanup_statistics (day, cleaned_at_ms, keys_before, \
                 keys_deleted, keys_after, emptied_to, forgotten_to) VALUES (?, ?, ?, 0, ?, ?, ?)";
            let (emptied, forgotten) = (marks.emptied_to, marks.forgotten_to);
            let params = [number, now.0, keys, keys, emptied, forgotten].map(Into::into);
            c.execute(sql, &params)?;
            Ok(Step::More)
        })
    }

    /// Deletes the key data of the next uploads whose download batch was cut before `oldest`.
    /// Identities and tags stay.
    pub(crate) fn empty_sealed(
        &mut self,
        token: u64,
        day: Day,
        oldest: Day,
        now: UnixMillis,
    ) -> Result<Step, SqlError> {
        self.guarded(token, |c| {
            let emptied_to = marks(c)?.emptied_to;
            let end = end_of_batches_before(c, oldest)?;
            if emptied_to >= end {
                return Ok(Step::Done);
            }
            let to = end.min(emptied_to + limits::RETENTION_ROWS);
            let keys = sum_keys(c, emptied_to + 1, to)?;
            let empty = "UPDATE upload_log SET sealed = '' WHERE seq BETWEEN ? AND ?";
            c.execute(empty, &[(emptied_to + 1).into(), to.into()])?;
            let sql = "UPDATE cleanup_statistics SET cleaned_at_ms = ?, emptied_to = ?, \
                 keys_deleted = keys_deleted + ?, keys_after = keys_after - ? WHERE day = ?";
            let day = u64::from(day.compact_number());
            c.execute(sql, &[now.0, to, keys, keys, day].map(Into::into))?;
            Ok(Step::More)
        })
    }

    /// Deletes the next uploads that were stored before `oldest`, and cut as well. The last row of
    /// the log stays, and so does everything that is not cut or not emptied. What is deleted is
    /// counted in the same transaction.
    pub(crate) fn forget_uploads(
        &mut self,
        token: u64,
        day: Day,
        oldest: Day,
    ) -> Result<Step, SqlError> {
        self.guarded(token, |c| {
            let marks = marks(c)?;
            let last = c.first("SELECT COALESCE(MAX(seq), 0) FROM upload_log", &[])?;
            let last = last.map_or(0, |row| row.number(0));
            let end = end_of_batches_before(c, oldest)?
                .min(marks.emptied_to)
                .min(last.saturating_sub(1));
            let sql = "SELECT seq, country, key_count, created_at_ms FROM upload_log \
                 WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?";
            let params = [marks.forgotten_to, end, limits::RETENTION_ROWS].map(Into::into);
            let rows = c.rows(sql, &params, old_upload)?;
            let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
                return Ok(Step::Done);
            };
            // A row from the future, by a clock that was wrong, stays: its keys may come again.
            let before = UnixMillis(oldest.start_unix_seconds() * 1000);
            let delete = "DELETE FROM upload_log WHERE seq BETWEEN ? AND ? AND created_at_ms < ?";
            c.execute(delete, &[first.seq, last.seq, before.0].map(Into::into))?;
            let deleted = rows.iter().filter(|row| row.created_at < before);
            add_uploads(deleted.map(|row| (row.created_at.day(), row.country, row.key_count)))
                .into_iter()
                .try_for_each(|((day, country), count)| count_uploads(c, day, country, count))?;
            let sql = "UPDATE cleanup_statistics SET forgotten_to = ? WHERE day = ?";
            let day = u64::from(day.compact_number());
            c.execute(sql, &[last.seq, day].map(Into::into))?;
            Ok(Step::More)
        })
    }

    /// Deletes the next download batches that were cut before `oldest` and all whose uploads are
    /// deleted, but never the newest: the chain goes on from it.
    pub(crate) fn forget_download_batches(
        &mut self,
        token: u64,
        oldest: Day,
    ) -> Result<Step, SqlError> {
        self.guarded(token, |c| {
            let ends = "SELECT COALESCE(MIN(ordinal), 0), COALESCE(MAX(ordinal), 0) \
                 FROM download_batch";
            let ends = c.first(ends, &[])?;
            let (first, newest) = ends.map_or((0, 0), |row| (row.number(0), row.number(1)));
            let end = newest.min(first + limits::RETENTION_BATCHES);
            let sql = "DELETE FROM download_batch WHERE ordinal < ? AND day < ? AND last_seq <= ?";
            let day = u64::from(oldest.compact_number());
            let params = [end, day, marks(c)?.forgotten_to].map(Into::into);
            Ok(match c.execute(sql, &params)? {
                0 => Step::Done,
                _ => Step::More,
            })
        })
    }

    fn guarded(
        &mut self,
        token: u64,
        work: impl FnOnce(&mut dyn Connection) -> Result<Step, SqlError>,
    ) -> Result<Step, SqlError> {
        self.0.transaction(|c| {
            if fence(c, Lease::Retention, token)? {
                work(c)
            } else {
                Ok(Step::LeaseLost)
            }
        })
    }
}

/// A row that may be deleted.
struct OldUpload {
    seq: u64,
    country: Country,
    key_count: u64,
    created_at: UnixMillis,
}

fn old_upload(mut row: Row) -> OldUpload {
    OldUpload {
        seq: row.number(0),
        country: country(&mut row, 1),
        key_count: row.number(2),
        created_at: UnixMillis(row.number(3)),
    }
}

fn marks(c: &mut dyn Connection) -> Result<Marks, SqlError> {
    let sql = "SELECT COALESCE(MAX(emptied_to), 0), COALESCE(MAX(forgotten_to), 0) \
         FROM cleanup_statistics";
    let (emptied_to, forgotten_to) = c
        .first(sql, &[])?
        .map_or((0, 0), |row| (row.number(0), row.number(1)));
    Ok(Marks {
        emptied_to,
        forgotten_to,
    })
}

/// The last position of the log in download batches that were cut before a day.
fn end_of_batches_before(c: &mut dyn Connection, day: Day) -> Result<u64, SqlError> {
    let sql = "SELECT last_seq FROM download_batch WHERE day < ? \
         ORDER BY day DESC, number DESC LIMIT 1";
    let row = c.first(sql, &[u64::from(day.compact_number()).into()])?;
    Ok(row.map_or(0, |row| row.number(0)))
}

/// Keys of cut download batches whose key data is stored. The batch in which the mark stands
/// counts with what is behind the mark.
fn keys_held(c: &mut dyn Connection, emptied_to: u64) -> Result<u64, SqlError> {
    let sql = "SELECT CAST(COALESCE(SUM(key_count), 0) AS UNSIGNED) FROM download_batch \
         WHERE last_seq > ?";
    let row = c.first(sql, &[emptied_to.into()])?;
    let keys = row.map_or(0, |row| row.number(0));
    let sql = "SELECT first_seq FROM download_batch WHERE first_seq <= ? AND last_seq > ?";
    let begun = c.first(sql, &[emptied_to.into(), emptied_to.into()])?;
    let gone = match begun {
        Some(row) => sum_keys(c, row.number(0), emptied_to)?,
        None => 0,
    };
    Ok(keys.saturating_sub(gone))
}

fn sum_keys(c: &mut dyn Connection, first: u64, last: u64) -> Result<u64, SqlError> {
    let sql = "SELECT CAST(COALESCE(SUM(key_count), 0) AS UNSIGNED) FROM upload_log \
         WHERE seq BETWEEN ? AND ?";
    let row = c.first(sql, &[first.into(), last.into()])?;
    Ok(row.map_or(0, |row| row.number(0)))
}

fn count_uploads(
    c: &mut dyn Connection,
    day: Day,
    country: Country,
    (uploads, keys): (u64, u64),
) -> Result<(), SqlError> {
    let day = u64::from(day.compact_number());
    let add = "UPDATE upload_statistics SET upload_count = upload_count + ?, \
         key_count = key_count + ? WHERE day = ? AND country = ?";
    let numbers = [uploads.into(), keys.into()];
    let place = [day.into(), country.as_str().into()];
    let params = [numbers[0], numbers[1], place[0], place[1]];
    if c.execute(add, &params)? == 0 {
        let insert = "INSERT INTO upload_statistics (upload_count, key_count, day, country) \
             VALUES (?, ?, ?, ?)";
        c.execute(insert, &params)?;
    }
    Ok(())
}
