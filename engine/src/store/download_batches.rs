//! Download batches: ranges of the log, numbered without gaps.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

use super::columns::{Rows, batch_digest, batch_tag, number_or_0};
use super::epoch::{EPOCH, Epoch, epoch_or_first, read_epoch};
use super::leases::{Lease, LeaseToken, fence};
use super::log::{UploadMeta, read_upload};
use super::log_mark::read_log_mark;
use super::session::Store;
use crate::database::{BadColumn, Connection, Row, SqlError};
use crate::domain::{Day, RowDigest, Seq, UnixMillis};
use crate::log_chain::{BatchColumns, BatchDigest};

/// A download batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DownloadBatchRow {
    pub(crate) columns: BatchColumns,
    /// None in one from before the chain.
    pub(crate) digest: Option<BatchDigest>,
}

impl DownloadBatchRow {
    /// SHA-256 over what identifies it.
    pub(crate) fn identity(&self) -> RowDigest {
        let mut sha256 = Context::new(&SHA256);
        for number in [
            self.columns.ordinal,
            u64::from(self.columns.tag.day.compact_number()),
            u64::from(self.columns.tag.number),
            *self.columns.seqs.start(),
            *self.columns.seqs.end(),
        ] {
            sha256.update(&number.to_be_bytes());
        }
        RowDigest::of(sha256.finish().as_ref())
    }
}

/// For an operator who looks for the row.
impl fmt::Display for DownloadBatchRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "download batch {} of positions {} to {}",
            self.columns.tag,
            self.columns.seqs.start(),
            self.columns.seqs.end()
        )
    }
}

/// What a gateway compares with its memory: the epoch, and the download batch with an ordinal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recalled {
    pub(crate) epoch: Epoch,
    pub(crate) batch: Option<DownloadBatchRow>,
}

/// Download batches that are to be cut, and what they are cut from.
#[derive(Debug)]
pub(crate) struct Cut<'a> {
    pub(crate) token: &'a LeaseToken,
    pub(crate) epoch: u64,
    /// The newest download batch before them.
    pub(crate) newest: Option<&'a DownloadBatchRow>,
    /// The last upload in them.
    pub(crate) last_upload: &'a UploadMeta,
    /// The row at the gateway's position of the log.
    pub(crate) newest_row: Option<(Seq, RowDigest)>,
    pub(crate) batches: &'a [DownloadBatchRow],
    pub(crate) budget: u64,
    pub(crate) now: UnixMillis,
}

/// What became of a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CutOutcome {
    Done,
    /// Another gateway holds the lease, or was faster.
    LeaseLost,
    /// The database has another epoch, newest download batch or last upload than the cutter knows.
    NotAsKnown,
}

impl Store {
    /// The newest download batch.
    pub(crate) fn newest_download_batch(&mut self) -> Result<Option<DownloadBatchRow>, SqlError> {
        newest(&mut *self.0)
    }

    /// When the newest download batch was cut, by the clock of the gateway that did.
    pub(crate) fn newest_cut_at(&mut self) -> Result<Option<UnixMillis>, SqlError> {
        let sql = "SELECT ordinal, created_at_ms FROM download_batch ORDER BY ordinal DESC LIMIT 1";
        let row = self.0.first(sql, &[])?;
        let number = |row: &mut Row| Ok(UnixMillis(row.number(1)?));
        row.map(|row| CUT_AT.read(row, number)).transpose()
    }

    /// Download batches behind an ordinal, cut on a day or later, in order. Without those whose key
    /// data was deleted, if only in part: they begin up to where retention has come.
    pub(crate) fn read_download_batches(
        &mut self,
        after_ordinal: u64,
        from: Day,
    ) -> Result<Vec<DownloadBatchRow>, SqlError> {
        let sql = "SELECT ordinal, day, number, first_seq, last_seq, key_count, digest \
             FROM download_batch WHERE ordinal > ? AND day >= ? AND first_seq > \
             (SELECT COALESCE(MAX(emptied_to), 0) FROM cleanup_statistics) ORDER BY ordinal";
        let params = [
            after_ordinal.into(),
            u64::from(from.compact_number()).into(),
        ];
        self.0.rows(sql, &params, download_batch)
    }

    /// What [`Self::cut`] has written last of the budget of download batches.
    pub(crate) fn cut_budget(&mut self) -> Result<Option<u64>, SqlError> {
        let sql = "SELECT name, value FROM installation WHERE name = ?";
        let row = self.0.first(sql, &[CUT_BUDGET.into()])?;
        let number = |row: &mut Row| row.parse(1, str::parse, "is no number");
        row.map(|row| INSTALLATION.read(row, number)).transpose()
    }

    /// The epoch and the download batch with an ordinal, in one round trip.
    pub(crate) fn recall(&mut self, ordinal: u64) -> Result<Recalled, SqlError> {
        let sql = "SELECT (SELECT value FROM installation WHERE name = ?), \
             ordinal, day, number, first_seq, last_seq, key_count, digest \
             FROM (SELECT 1 AS one) AS always LEFT JOIN download_batch ON ordinal = ?";
        let row = self.0.first(sql, &[EPOCH.into(), ordinal.into()])?;
        let row = row.ok_or_else(|| SqlError::Lost("a query without an answer".into()))?;
        RECALLED.read(row, |row| {
            let ordinal = row.optional_number(1)?;
            Ok(Recalled {
                epoch: epoch_or_first(row, 0)?,
                batch: match ordinal {
                    None => None,
                    Some(_) => Some(batch_columns(row, 1)?),
                },
            })
        })
    }

    /// The ordinal of the first download batch that retention has left; 0 without any.
    pub(crate) fn first_ordinal(&mut self) -> Result<u64, SqlError> {
        let sql = "SELECT COALESCE(MIN(ordinal), 0) FROM download_batch";
        let row = self.0.first(sql, &[])?;
        number_or_0(row.as_ref(), 0)
    }

    /// Adds download batches, if the lease is still held and the database is what the cutter
    /// knows; otherwise nothing is done.
    pub(crate) fn cut(&mut self, cut: &Cut<'_>) -> Result<CutOutcome, SqlError> {
        let outcome = self.0.transaction(|c| {
            if !fence(c, Lease::Bundle, cut.token)? {
                return Ok(CutOutcome::LeaseLost);
            }
            if !is_as_known(c, cut)? {
                return Ok(CutOutcome::NotAsKnown);
            }
            for batch in cut.batches {
                insert_download_batch(c, batch, cut.now)?;
            }
            write_cut_budget(c, cut.budget)?;
            Ok(CutOutcome::Done)
        });
        match outcome {
            Err(SqlError::Duplicate(_)) => Ok(CutOutcome::LeaseLost),
            other => other,
        }
    }
}

/// Whether the epoch, the newest download batch, the last upload of the cut and the row at our
/// position are what the cutter knows.
fn is_as_known(c: &mut dyn Connection, cut: &Cut<'_>) -> Result<bool, SqlError> {
    Ok(read_epoch(c)?.number == cut.epoch
        && newest(c)?.as_ref() == cut.newest
        && read_upload(c, cut.last_upload.seq)?.as_ref() == Some(cut.last_upload)
        && has_row(c, cut.newest_row)?)
}

/// The uploads may have been read after the database went back, when their encoded keys in memory
/// are still those from before: the row at our position says so.
fn has_row(c: &mut dyn Connection, row: Option<(Seq, RowDigest)>) -> Result<bool, SqlError> {
    let Some((seq, digest)) = row else {
        return Ok(true);
    };
    Ok(read_log_mark(c, seq)?.is_some_and(|found| found.digest() == digest))
}

fn newest(c: &mut dyn Connection) -> Result<Option<DownloadBatchRow>, SqlError> {
    let sql = "SELECT ordinal, day, number, first_seq, last_seq, key_count, digest \
         FROM download_batch ORDER BY ordinal DESC LIMIT 1";
    c.first(sql, &[])?.map(download_batch).transpose()
}

const INSTALLATION: Rows = Rows {
    table: "installation",
    columns: &["name", "value"],
    key: &[0],
};

/// The row of `installation` with the budget of download batches.
const CUT_BUDGET: &str = "cut_budget";

/// A statement that changes nothing has met the same value, or no row.
fn write_cut_budget(c: &mut dyn Connection, budget: u64) -> Result<(), SqlError> {
    let value = budget.to_string();
    let update = "UPDATE installation SET value = ? WHERE name = ?";
    if c.execute(update, &[value.as_str().into(), CUT_BUDGET.into()])? == 1 {
        return Ok(());
    }
    let find = "SELECT name FROM installation WHERE name = ?";
    if c.first(find, &[CUT_BUDGET.into()])?.is_some() {
        return Ok(());
    }
    let insert = "INSERT INTO installation (name, value) VALUES (?, ?)";
    c.execute(insert, &[CUT_BUDGET.into(), value.as_str().into()])
        .map(|_| ())
}

pub(super) fn insert_download_batch(
    c: &mut dyn Connection,
    batch: &DownloadBatchRow,
    now: UnixMillis,
) -> Result<(), SqlError> {
    let sql = "INSERT INTO download_batch (ordinal, day, number, first_seq, last_seq, key_count, \
         created_at_ms, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    let columns = &batch.columns;
    let digest = batch.digest.as_ref();
    let params = [
        columns.ordinal.into(),
        u64::from(columns.tag.day.compact_number()).into(),
        u64::from(columns.tag.number).into(),
        (*columns.seqs.start()).into(),
        (*columns.seqs.end()).into(),
        columns.key_count.into(),
        now.0.into(),
        digest.map_or(&[][..], |digest| &digest.0).into(),
    ];
    c.execute(sql, &params).map(|_| ())
}

const CUT_AT: Rows = Rows {
    table: "download_batch",
    columns: &["ordinal", "created_at_ms"],
    key: &[0],
};

const RECALLED: Rows = Rows {
    table: "download_batch",
    columns: &[
        "epoch of the installation",
        "ordinal",
        "day",
        "number",
        "first_seq",
        "last_seq",
        "key_count",
        "digest",
    ],
    key: &[1],
};

const DOWNLOAD_BATCHES: Rows = Rows {
    table: "download_batch",
    columns: &[
        "ordinal",
        "day",
        "number",
        "first_seq",
        "last_seq",
        "key_count",
        "digest",
    ],
    key: &[0],
};

pub(super) fn download_batch(row: Row) -> Result<DownloadBatchRow, SqlError> {
    DOWNLOAD_BATCHES.read(row, |row| batch_columns(row, 0))
}

/// A download batch from a column on.
fn batch_columns(row: &Row, first: usize) -> Result<DownloadBatchRow, BadColumn> {
    Ok(DownloadBatchRow {
        columns: BatchColumns {
            ordinal: row.number(first)?,
            tag: batch_tag(row, first + 1)?,
            seqs: row.number(first + 3)?..=row.number(first + 4)?,
            key_count: row.number(first + 5)?,
        },
        digest: batch_digest(row, first + 6)?,
    })
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;
    use crate::database::Database;
    use crate::domain::{BatchTag, ContentDigest, Country};
    use crate::settings::DatabaseUrl;
    use crate::store::migrate;

    const CUTTER: &str = "us";

    fn batch(number: u32, seqs: RangeInclusive<u64>) -> DownloadBatchRow {
        DownloadBatchRow {
            columns: BatchColumns {
                ordinal: number.into(),
                tag: BatchTag {
                    day: Day::parse_iso("2020-10-07").unwrap(),
                    number,
                },
                seqs,
                key_count: 1,
            },
            digest: None,
        }
    }

    /// Three uploads and a download batch of the first; then a statement is run, and the second
    /// is cut. Returns what became of it, and how many download batches there are.
    fn cut_after(statement: &str) -> (CutOutcome, usize) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::new(DatabaseUrl::Sqlite(folder.path().join("db")));
        migrate(&database).unwrap();
        let mut store = Store::open(&database).unwrap();
        for seq in 1_u64..=3 {
            let sql = "INSERT INTO upload_log VALUES \
                 (?, 0, CAST('DE' AS BLOB), ?, 1, 256, '', '', ?, '', '', '', '')";
            let content = [1; 32];
            let tag = seq.to_string();
            let params = [seq.into(), tag.as_str().into(), content[..].into()];
            store.0.execute(sql, &params).unwrap();
        }
        insert_download_batch(&mut *store.0, &batch(1, 1..=1), UnixMillis(0)).unwrap();
        let newest = store.newest_download_batch().unwrap();
        let newest_row = store.log_mark(Seq(3)).unwrap().unwrap();
        let token = store.hold_lease(Lease::Bundle, CUTTER, 60_000).unwrap();
        store.0.script(statement).unwrap();
        let outcome = store.cut(&Cut {
            token: &token.unwrap(),
            epoch: 0,
            newest: newest.as_ref(),
            last_upload: &UploadMeta {
                seq: Seq(2),
                country: Country::parse("DE").unwrap(),
                key_count: 1,
                created_at: UnixMillis(0),
                content: ContentDigest([1; 32]),
                link: None,
            },
            newest_row: Some((newest_row.seq, newest_row.digest())),
            batches: &[batch(2, 2..=2)],
            budget: 0,
            now: UnixMillis(0),
        });
        let count = store.0.rows("SELECT 1 FROM download_batch", &[], Ok);
        (outcome.unwrap(), count.unwrap().len())
    }

    #[test]
    fn cuts_only_what_the_cutter_knows() {
        assert_eq!(cut_after(""), (CutOutcome::Done, 2));
        for (change, left) in [
            (
                "INSERT INTO installation VALUES (CAST('epoch' AS BLOB), CAST('1' AS BLOB))",
                1,
            ),
            ("UPDATE download_batch SET number = 7", 1),
            ("DELETE FROM download_batch", 0),
            ("UPDATE upload_log SET key_count = 2 WHERE seq = 2", 1),
            ("UPDATE upload_log SET created_at_ms = 7 WHERE seq = 2", 1),
            (
                "UPDATE upload_log SET content_digest = zeroblob(32) WHERE seq = 2",
                1,
            ),
            ("DELETE FROM upload_log WHERE seq = 2", 1),
            ("DELETE FROM upload_log WHERE seq = 3", 1),
            ("UPDATE upload_log SET created_at_ms = 7 WHERE seq = 3", 1),
        ] {
            assert_eq!(
                cut_after(change),
                (CutOutcome::NotAsKnown, left),
                "{change}"
            );
        }
        for change in [
            "UPDATE lease SET token = token + 1",
            "UPDATE lease SET holder = 'them'",
        ] {
            assert_eq!(cut_after(change), (CutOutcome::LeaseLost, 1), "{change}");
        }
    }
}
