//! What retention asks of the database: small transactions, each guarded by its lease.
//!
//! A transaction moves a mark (`emptied_to`, `forgotten_to`) together with what it deletes, so a
//! crash between two of them leaves nothing half done, and the next gateway continues at the mark.

use super::chain::{Forgotten, move_mark};
use super::columns::{Rows, country, day as day_of, link, number_or_0};
use super::leases::{Lease, LeaseToken, fence};
use super::session::Store;
use super::statistics::add_uploads;
use crate::database::{Connection, Row, SqlError};
use crate::domain::{Country, Day, Seq, UnixMillis};
use crate::limits;
use crate::log_chain::{ChainKey, LinkDigest};

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

/// Which download batches lose their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// Those that were cut on an earlier day.
    pub(crate) oldest_day: Day,
    /// Those that were cut before this instant, too, whatever their day.
    pub(crate) cut_before: Option<UnixMillis>,
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
        number_or_0(row.as_ref(), 0).map(UnixMillis)
    }

    /// The newest day of retention up to `today`. A clock that was wrong may have left later ones.
    pub(crate) fn newest_cleanup_day(&mut self, today: Day) -> Result<Option<Day>, SqlError> {
        let sql = "SELECT day FROM cleanup_statistics WHERE day <= ? ORDER BY day DESC LIMIT 1";
        let row = self
            .0
            .first(sql, &[u64::from(today.compact_number()).into()])?;
        let day = row.map(|row| CLEANUPS.read(row, |row| day_of(row, 0)));
        day.transpose()
    }

    /// Writes the row of a day, unless it is there.
    pub(crate) fn begin_cleanup(
        &mut self,
        token: &LeaseToken,
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

    /// Deletes the key data of the next uploads whose download batch has expired. Identities and tags
    /// stay.
    pub(crate) fn empty_sealed(
        &mut self,
        token: &LeaseToken,
        day: Day,
        expiry: Expiry,
        now: UnixMillis,
    ) -> Result<Step, SqlError> {
        self.guarded(token, |c| {
            let emptied_to = marks(c)?.emptied_to;
            let end = end_of_expired(c, expiry)?;
            if emptied_to >= end {
                return Ok(Step::Done);
            }
            let to = end.min(emptied_to + limits::RETENTION_ROWS);
            let keys = sum_keys(c, emptied_to + 1, to)?;
            let empty = "UPDATE upload_log SET sealed = '' WHERE seq BETWEEN ? AND ?";
            c.execute(empty, &[(emptied_to + 1).into(), to.into()])?;
            count_emptied(c, day, keys, to, now)?;
            Ok(Step::More)
        })
    }

    /// Deletes the next uploads that were stored before `oldest`, and cut as well. The last row of
    /// the log stays, and so does everything that is not cut or not emptied. A row from the future,
    /// by a clock that was wrong, stays until its day has come and gone, because its keys may come
    /// again; it holds no other up. What is deleted is counted in the same transaction.
    pub(crate) fn forget_uploads(
        &mut self,
        token: &LeaseToken,
        day: Day,
        oldest: Day,
        chain: &ChainKey,
    ) -> Result<Step, SqlError> {
        self.guarded(token, |c| {
            let marks = marks(c)?;
            let last = c.first("SELECT COALESCE(MAX(seq), 0) FROM upload_log", &[])?;
            let last = number_or_0(last.as_ref(), 0)?;
            // Download batches of what a pass before has left may be deleted.
            let end = end_of_batches_before(c, oldest)?
                .max(marks.forgotten_to)
                .min(marks.emptied_to)
                .min(last.saturating_sub(1));
            let before = oldest.start().0;
            // From the beginning of the log: what a pass before has left is found again.
            let sql = "SELECT seq, country, key_count, created_at_ms, chain FROM upload_log \
                 WHERE seq <= ? AND created_at_ms < ? ORDER BY seq LIMIT ?";
            let params = [end, before, limits::RETENTION_ROWS].map(Into::into);
            let rows = c.rows(sql, &params, old_upload)?;
            let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
                return Ok(Step::Done);
            };
            let delete = "DELETE FROM upload_log WHERE seq BETWEEN ? AND ? AND created_at_ms < ?";
            c.execute(delete, &[first.seq, last.seq, before].map(Into::into))?;
            let deleted = rows.iter();
            add_uploads(deleted.map(|row| (row.created_at.day(), row.country, row.key_count)))
                .into_iter()
                .try_for_each(|((day, country), count)| count_uploads(c, day, country, count))?;
            let sql = "UPDATE cleanup_statistics SET forgotten_to = ? WHERE day = ?";
            let day = u64::from(day.compact_number());
            // What a pass before has left does not move the mark.
            if last.seq > marks.forgotten_to {
                c.execute(sql, &[last.seq, day].map(Into::into))?;
                let (to, last) = (Seq(last.seq), last.link);
                move_mark(c, chain, Forgotten { to, last })?;
            }
            Ok(Step::More)
        })
    }

    /// Deletes the next download batches that were cut before `oldest` and all whose uploads are
    /// deleted, but never the newest: the chain continues from it.
    pub(crate) fn forget_download_batches(
        &mut self,
        token: &LeaseToken,
        oldest: Day,
    ) -> Result<Step, SqlError> {
        self.guarded(token, |c| {
            let ends = "SELECT COALESCE(MIN(ordinal), 0), COALESCE(MAX(ordinal), 0) \
                 FROM download_batch";
            let ends = c.first(ends, &[])?;
            let (first, newest) = (
                number_or_0(ends.as_ref(), 0)?,
                number_or_0(ends.as_ref(), 1)?,
            );
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
        token: &LeaseToken,
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

/// Moves keys of a day's row from `after` to `deleted`. If a clock was set back on that day, there
/// may be more of them than there were before.
fn count_emptied(
    c: &mut dyn Connection,
    day: Day,
    keys: u64,
    emptied_to: u64,
    now: UnixMillis,
) -> Result<(), SqlError> {
    let day = u64::from(day.compact_number());
    let sql = "SELECT keys_before, keys_deleted, keys_after FROM cleanup_statistics WHERE day = ?";
    let row = c.first(sql, &[day.into()])?;
    let number = |column| number_or_0(row.as_ref(), column);
    let (before, deleted, after) = (number(0)?, number(1)?, number(2)?);
    let (deleted, after) = (deleted.saturating_add(keys), after.saturating_sub(keys));
    let before = before.max(deleted.saturating_add(after));
    let [before, deleted, after] =
        [before, deleted, after].map(|keys| keys.min(i64::MAX.unsigned_abs()));
    let sql = "UPDATE cleanup_statistics SET cleaned_at_ms = ?, keys_before = ?, \
         keys_deleted = ?, keys_after = ?, emptied_to = ? WHERE day = ?";
    let params = [now.0, before, deleted, after, emptied_to, day].map(Into::into);
    c.execute(sql, &params).map(|_| ())
}

/// A row that may be deleted.
struct OldUpload {
    seq: u64,
    country: Country,
    key_count: u64,
    created_at: UnixMillis,
    link: Option<LinkDigest>,
}

const OLD_UPLOADS: Rows = Rows {
    table: "upload_log",
    columns: &["seq", "country", "key_count", "created_at_ms", "chain"],
    key: &[0],
};

const CLEANUPS: Rows = Rows {
    table: "cleanup_statistics",
    columns: &["day"],
    key: &[0],
};

fn old_upload(row: Row) -> Result<OldUpload, SqlError> {
    OLD_UPLOADS.read(row, |row| {
        Ok(OldUpload {
            seq: row.number(0)?,
            country: country(row, 1)?,
            key_count: u64::from(row.number_32(2)?),
            created_at: UnixMillis(row.number(3)?),
            link: link(row, 4)?.map(|link| link.digest),
        })
    })
}

fn marks(c: &mut dyn Connection) -> Result<Marks, SqlError> {
    let sql = "SELECT COALESCE(MAX(emptied_to), 0), COALESCE(MAX(forgotten_to), 0) \
         FROM cleanup_statistics";
    let row = c.first(sql, &[])?;
    Ok(Marks {
        emptied_to: number_or_0(row.as_ref(), 0)?,
        forgotten_to: number_or_0(row.as_ref(), 1)?,
    })
}

/// The last position of the log in download batches that have expired.
fn end_of_expired(c: &mut dyn Connection, expiry: Expiry) -> Result<u64, SqlError> {
    let by_day = end_of_batches_before(c, expiry.oldest_day)?;
    let Some(instant) = expiry.cut_before else {
        return Ok(by_day);
    };
    let sql = "SELECT last_seq FROM download_batch WHERE created_at_ms < ? \
         ORDER BY ordinal DESC LIMIT 1";
    let row = c.first(sql, &[instant.0.into()])?;
    Ok(by_day.max(number_or_0(row.as_ref(), 0)?))
}

/// The last position of the log in download batches that were cut before a day.
fn end_of_batches_before(c: &mut dyn Connection, day: Day) -> Result<u64, SqlError> {
    let sql = "SELECT last_seq FROM download_batch WHERE day < ? \
         ORDER BY day DESC, number DESC LIMIT 1";
    let row = c.first(sql, &[u64::from(day.compact_number()).into()])?;
    number_or_0(row.as_ref(), 0)
}

/// Keys of cut download batches whose key data is stored. The batch in which the mark stands
/// counts with what is behind the mark.
fn keys_held(c: &mut dyn Connection, emptied_to: u64) -> Result<u64, SqlError> {
    let sql = "SELECT CAST(COALESCE(SUM(key_count), 0) AS UNSIGNED) FROM download_batch \
         WHERE last_seq > ?";
    let row = c.first(sql, &[emptied_to.into()])?;
    let keys = number_or_0(row.as_ref(), 0)?;
    let sql = "SELECT first_seq FROM download_batch WHERE first_seq <= ? AND last_seq > ?";
    let begun = c.first(sql, &[emptied_to.into(), emptied_to.into()])?;
    let gone = match begun {
        Some(row) => sum_keys(c, row.counted(0)?, emptied_to)?,
        None => 0,
    };
    // A count that nobody has written does not stop retention.
    Ok(keys.saturating_sub(gone).min(i64::MAX.unsigned_abs()))
}

fn sum_keys(c: &mut dyn Connection, first: u64, last: u64) -> Result<u64, SqlError> {
    let sql = "SELECT CAST(COALESCE(SUM(key_count), 0) AS UNSIGNED) FROM upload_log \
         WHERE seq BETWEEN ? AND ?";
    let row = c.first(sql, &[first.into(), last.into()])?;
    number_or_0(row.as_ref(), 0)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Database;
    use crate::settings::DatabaseUrl;
    use crate::store::migrate;

    const NOW: UnixMillis = UnixMillis(1_602_028_800_000);

    fn day(text: &str) -> Day {
        Day::parse_iso(text).unwrap()
    }

    /// A log of rows of one key each, in download batches of the days given, three rows each.
    fn store(folder: &std::path::Path) -> Store {
        let database = Database::new(DatabaseUrl::Sqlite(folder.join("db")));
        migrate(&database).unwrap();
        Store::open(&database).unwrap()
    }

    fn add_batch(store: &mut Store, ordinal: u64, day: &str) {
        let first = ordinal * 3 - 2;
        for seq in first..first + 3 {
            let sql = "INSERT INTO upload_log VALUES (?, 0, 'DE', ?, 1, 256, '', '', '', '', '', '', 'x')";
            let tag = seq.to_string();
            store
                .0
                .execute(sql, &[seq.into(), tag.as_str().into()])
                .unwrap();
        }
        let sql = "INSERT INTO download_batch VALUES (?, ?, ?, ?, ?, 3, 0, '')";
        let day = u64::from(Day::parse_iso(day).unwrap().compact_number());
        let params = [ordinal, day, ordinal, first, first + 2].map(Into::into);
        store.0.execute(sql, &params).unwrap();
    }

    fn before(oldest_day: Day) -> Expiry {
        Expiry {
            oldest_day,
            cut_before: None,
        }
    }

    fn counted(store: &mut Store, day: Day) -> (u64, u64, u64) {
        let found = store.statistics(day, day).unwrap().cleanups[0];
        (found.keys_before, found.keys_deleted, found.keys_after)
    }

    #[test]
    fn does_nothing_without_the_lease() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path());
        add_batch(&mut store, 1, "2020-10-01");
        let token = store
            .hold_lease(Lease::Retention, "a", 60_000)
            .unwrap()
            .unwrap();
        let today = day("2020-10-07");
        assert_eq!(
            store.hold_lease(Lease::Retention, "b", 60_000).unwrap(),
            None
        );
        assert!(
            store
                .hold_lease(Lease::Bundle, "b", 60_000)
                .unwrap()
                .is_some()
        );
        let later = LeaseToken {
            number: token.number + 1,
            ..token.clone()
        };
        // A database that went back has given the number again, to somebody else.
        let of_another = LeaseToken {
            holder: "b".into(),
            ..token
        };
        for other in [later, of_another] {
            let lost = store.begin_cleanup(&other, today, NOW).unwrap();
            assert_eq!(lost, Step::LeaseLost);
            assert_eq!(store.newest_cleanup_day(today).unwrap(), None);
            let lost = store
                .empty_sealed(&other, today, before(today), NOW)
                .unwrap();
            assert_eq!(lost, Step::LeaseLost);
        }
    }

    #[test]
    fn counts_sums_even_if_there_is_more_to_delete_than_there_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path());
        let token = store
            .hold_lease(Lease::Retention, "a", 60_000)
            .unwrap()
            .unwrap();
        let today = day("2020-10-07");
        add_batch(&mut store, 1, "2020-10-01");
        assert_eq!(store.begin_cleanup(&token, today, NOW).unwrap(), Step::More);
        assert_eq!(store.begin_cleanup(&token, today, NOW).unwrap(), Step::Done);
        assert_eq!(counted(&mut store, today), (3, 0, 3));
        // The clock was set back, and a batch cut.
        add_batch(&mut store, 2, "2020-10-02");
        add_batch(&mut store, 3, "2020-10-06");
        let oldest = before(day("2020-10-05"));
        let mut step = || store.empty_sealed(&token, today, oldest, NOW).unwrap();
        assert_eq!((step(), step()), (Step::More, Step::Done));
        assert_eq!(counted(&mut store, today), (6, 6, 0));
        // The next day begins with what is there.
        let tomorrow = today.next();
        store.begin_cleanup(&token, tomorrow, NOW).unwrap();
        assert_eq!(counted(&mut store, tomorrow), (3, 0, 3));
    }

    #[test]
    fn empties_batches_by_the_time_of_their_cut_only_where_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path());
        let token = store
            .hold_lease(Lease::Retention, "a", 60_000)
            .unwrap()
            .unwrap();
        let today = day("2020-10-07");
        for ordinal in 1..=3 {
            add_batch(&mut store, ordinal, "2020-10-07");
            let sql = "UPDATE download_batch SET created_at_ms = ? WHERE ordinal = ?";
            let params = [ordinal * 1000, ordinal].map(Into::into);
            store.0.execute(sql, &params).unwrap();
        }
        store.begin_cleanup(&token, today, NOW).unwrap();
        let mut emptied = |cut_before| {
            let expiry = Expiry {
                oldest_day: today,
                cut_before,
            };
            store.empty_sealed(&token, today, expiry, NOW).unwrap();
            store.emptied_to().unwrap().0
        };
        assert_eq!(emptied(None), 0);
        assert_eq!(emptied(Some(UnixMillis(1000))), 0);
        assert_eq!(emptied(Some(UnixMillis(2001))), 6);
        assert_eq!(emptied(Some(UnixMillis(1001))), 6, "never back");
    }

    #[test]
    fn keeps_what_is_not_cut_not_emptied_or_last() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path());
        let token = store
            .hold_lease(Lease::Retention, "a", 60_000)
            .unwrap()
            .unwrap();
        let today = day("2020-10-07");
        add_batch(&mut store, 1, "2020-09-01");
        add_batch(&mut store, 2, "2020-09-02");
        store.begin_cleanup(&token, today, NOW).unwrap();
        let count = |store: &mut Store, table: &str| {
            let row = store.0.first(&format!("SELECT COUNT(*) FROM {table}"), &[]);
            row.unwrap().unwrap().number(0).unwrap()
        };
        // Nothing is emptied yet.
        let key = ChainKey::new(&[1; 32], &[2; 32]);
        let step = store.forget_uploads(&token, today, today, &key).unwrap();
        assert_eq!((step, count(&mut store, "upload_log")), (Step::Done, 6));
        store
            .empty_sealed(&token, today, before(today), NOW)
            .unwrap();
        store.forget_uploads(&token, today, today, &key).unwrap();
        store.forget_uploads(&token, today, today, &key).unwrap();
        assert_eq!(count(&mut store, "upload_log"), 1);
        store.forget_download_batches(&token, today).unwrap();
        assert_eq!(count(&mut store, "download_batch"), 1);
        assert_eq!(store.log_end().unwrap().0, 6);
        let newest = store.newest_download_batch().unwrap().unwrap();
        let columns = newest.columns;
        assert_eq!((columns.ordinal, columns.tag.number), (2, 2));
    }
}
