//! Uploads that an operator has withdrawn (decision 33). Rows are only added: gateways follow them
//! by their number. Each carries a keyed digest over the one before it and its own columns, and a
//! mark says which is the last (`log_chain`).

use super::columns::{Rows, batch_tag, country, number_or_0, upload_tag};
use super::session::{Store, write_value};
use crate::database::{BadColumn, Connection, Param, Row, SqlError, Value};
use crate::domain::{BatchTag, Country, KeyIdentity, Seq, UnixMillis, UploadTag};
use crate::log_chain::{
    Accepted, Broken, ChainKey, WithdrawalColumns, WithdrawalDigest, WithdrawalMark,
    WithdrawalMismatch, WithdrawalWalk,
};

/// What an operator has done to an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawal {
    /// Its place among all withdrawals, from 1.
    pub(crate) number: u64,
    /// Position of the upload in the log.
    pub seq: Seq,
    /// Uploader.
    pub country: Country,
    /// Its tag as the log has it.
    pub tag: UploadTag,
    /// Number of keys.
    pub key_count: u32,
    /// Whether its keys and its tag can be sent again.
    pub is_freed: bool,
    /// When the operator did it.
    pub withdrawn_at: UnixMillis,
    /// Why.
    pub reason: Box<str>,
}

/// An upload that can be withdrawn, and what became of it before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Withdrawable {
    pub(crate) seq: Seq,
    pub(crate) tag: UploadTag,
    pub(crate) key_count: u32,
    pub(crate) is_withdrawn: bool,
}

/// What an operator wants to be done.
#[derive(Debug)]
pub(crate) struct WithdrawalRequest<'a> {
    pub(crate) country: Country,
    /// As sent.
    pub(crate) tag: &'a UploadTag,
    pub(crate) reason: &'a str,
    pub(crate) free: bool,
    pub(crate) now: UnixMillis,
}

/// The withdrawals as they stand in the database, no matter who wrote them.
#[derive(Debug, Default)]
pub(crate) struct WithdrawalList {
    rows: Vec<StoredWithdrawal>,
    /// The mark of the end.
    end: Option<Vec<u8>>,
}

#[derive(Debug)]
struct StoredWithdrawal {
    /// Or why it cannot be read, with its place.
    read: Result<Withdrawal, String>,
    digest: Option<WithdrawalDigest>,
}

/// Something in the withdrawals that nobody with the key has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WithdrawalFault {
    pub(crate) place: String,
    pub(crate) mismatch: WithdrawalMismatch,
    /// Stands for it, if an operator can accept it.
    pub(crate) acceptance: Option<[u8; 32]>,
}

/// Withdrawals that are as they were written, and the last of them.
pub(crate) type Newer = (Vec<Withdrawal>, WithdrawalMark);

/// The row of `installation` with the mark of the end.
const END: &str = "withdrawals end";

const COLUMNS: &str =
    "number, seq, country, upload_tag, key_count, is_freed, withdrawn_at_ms, reason, digest";

const WITHDRAWALS: Rows = Rows {
    table: "withdrawal",
    columns: &[
        "number",
        "seq",
        "country",
        "upload_tag",
        "key_count",
        "is_freed",
        "withdrawn_at_ms",
        "reason",
        "digest",
    ],
    key: &[0],
};

const DIGEST_COLUMN: usize = 8;
/// Behind those of [`WITHDRAWALS`].
const END_COLUMN: usize = WITHDRAWALS.columns.len();

impl Withdrawal {
    fn columns(&self) -> WithdrawalColumns<'_> {
        WithdrawalColumns {
            number: self.number,
            seq: self.seq,
            country: self.country,
            tag: &self.tag,
            key_count: self.key_count,
            is_freed: self.is_freed,
            withdrawn_at: self.withdrawn_at,
            reason: &self.reason,
        }
    }

    fn place(&self) -> String {
        let (number, seq, country, tag) = (self.number, self.seq.0, self.country, &self.tag);
        format!("withdrawal {number} (upload {tag} of {country} at position {seq})")
    }
}

impl WithdrawalFault {
    fn new(place: impl Into<String>, broken: Broken<WithdrawalMismatch>) -> Self {
        Self {
            place: place.into(),
            mismatch: broken.mismatch,
            acceptance: Some(broken.acceptance),
        }
    }

    fn gone(known: WithdrawalMark) -> Self {
        Self {
            place: format!("withdrawal {}", known.number),
            mismatch: WithdrawalMismatch::Gone,
            acceptance: None,
        }
    }
}

impl std::fmt::Display for WithdrawalFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.place, self.mismatch)
    }
}

/// Why withdrawals cannot be used.
#[derive(Debug)]
pub(crate) enum WithdrawalError {
    /// The database failed.
    Database(SqlError),
    /// They are not as they were written.
    Fault(WithdrawalFault),
}

impl From<SqlError> for WithdrawalError {
    fn from(error: SqlError) -> Self {
        Self::Database(error)
    }
}

impl From<WithdrawalFault> for WithdrawalError {
    fn from(fault: WithdrawalFault) -> Self {
        Self::Fault(fault)
    }
}

impl WithdrawalList {
    /// All that can be read.
    pub(crate) fn into_readable(self) -> Vec<Withdrawal> {
        let rows = self.rows.into_iter();
        rows.filter_map(|row| row.read.ok()).collect()
    }

    /// All that is not as it was written and not accepted.
    pub(crate) fn faults(&self, mut walk: WithdrawalWalk) -> Vec<WithdrawalFault> {
        let rows = self.rows.iter();
        let mut faults: Vec<_> = rows.filter_map(|row| row.step(&mut walk).err()).collect();
        faults.extend(self.check_end(&walk).err());
        faults
    }

    /// The withdrawals after one that is known, where all are as they were written. The list begins
    /// where the walk does.
    fn behind(
        self,
        mut walk: WithdrawalWalk,
        known: WithdrawalMark,
    ) -> Result<Newer, WithdrawalFault> {
        let mut newer = Vec::new();
        let mut is_known = walk.last() == known;
        for row in &self.rows {
            row.step(&mut walk)?;
            is_known |= walk.last() == known;
            if let Ok(row) = &row.read
                && row.number > known.number
            {
                newer.push(row.clone());
            }
        }
        if !is_known {
            return Err(WithdrawalFault::gone(known));
        }
        self.check_end(&walk)?;
        Ok((newer, walk.last()))
    }

    fn check_end(&self, walk: &WithdrawalWalk) -> Result<(), WithdrawalFault> {
        let end = walk.end(self.end.as_deref());
        end.map_err(|broken| WithdrawalFault::new("the withdrawals", broken))
    }
}

impl StoredWithdrawal {
    fn step(&self, walk: &mut WithdrawalWalk) -> Result<(), WithdrawalFault> {
        let (place, step) = match &self.read {
            Ok(row) => (row.place(), walk.step(&row.columns(), self.digest)),
            Err(unreadable) => (unreadable.clone(), walk.step_over(self.digest)),
        };
        step.map_err(|broken| WithdrawalFault::new(place, broken))
    }

    /// One that was accepted may have none to compare: a walk along all of them compares it.
    fn is(&self, known: WithdrawalMark) -> bool {
        let number = self.read.as_ref().map(|row| row.number);
        let is_same = |digest| Some(digest) == known.digest;
        number == Ok(known.number) && self.digest.is_none_or(is_same)
    }
}

impl Store {
    /// The withdrawals as they stand there, in order.
    pub(crate) fn withdrawal_list(&mut self) -> Result<WithdrawalList, SqlError> {
        read_list(&mut *self.0, 0)
    }

    /// The number of the newest withdrawal, 0 for none.
    pub(crate) fn newest_withdrawal(&mut self) -> Result<u64, SqlError> {
        let sql = "SELECT COALESCE(MAX(number), 0) FROM withdrawal";
        number_or_0(self.0.first(sql, &[])?.as_ref(), 0)
    }

    /// The withdrawals after one that is known, if all are as they were written.
    pub(crate) fn read_withdrawals(
        &mut self,
        key: &ChainKey,
        accepted: &Accepted,
        known: WithdrawalMark,
    ) -> Result<Newer, WithdrawalError> {
        let walk = WithdrawalWalk::after(key, accepted, WithdrawalMark::default());
        Ok(read_list(&mut *self.0, 0)?.behind(walk, known)?)
    }

    /// The same without a look at those before the one that is known.
    pub(crate) fn read_newer_withdrawals(
        &mut self,
        key: &ChainKey,
        accepted: &Accepted,
        known: WithdrawalMark,
    ) -> Result<Newer, WithdrawalError> {
        let mut list = read_list(&mut *self.0, known.number)?;
        if known.number > 0 {
            if !list.rows.first().is_some_and(|first| first.is(known)) {
                return Err(WithdrawalFault::gone(known).into());
            }
            list.rows.remove(0);
        }
        let walk = WithdrawalWalk::after(key, accepted, known);
        Ok(list.behind(walk, known)?)
    }

    /// The identities of the upload at a position; none if retention has deleted it.
    pub(crate) fn read_identities(&mut self, seq: Seq) -> Result<Vec<KeyIdentity>, SqlError> {
        let sql = "SELECT seq, identities FROM upload_log WHERE seq = ?";
        let Some(row) = self.0.first(sql, &[seq.0.into()])? else {
            return Ok(Vec::new());
        };
        IDENTITIES.read(row, |row| {
            let (identities, _) = row.bytes(1)?.as_chunks();
            Ok(identities.iter().copied().map(KeyIdentity).collect())
        })
    }

    /// Withdraws the upload that stands under a tag as sent, and frees its keys and its tag if told
    /// to. Nothing if there is no such upload; otherwise how it was found: what it was told is true
    /// afterwards. A fault if the withdrawals are not as they were written, before or afterwards.
    pub(crate) fn withdraw(
        &mut self,
        key: &ChainKey,
        accepted: &Accepted,
        request: &WithdrawalRequest<'_>,
    ) -> Result<Option<Withdrawable>, WithdrawalError> {
        let walk = WithdrawalWalk::after(key, accepted, WithdrawalMark::default());
        let done = self.0.transaction(|c| {
            let (rows, last) = match read_list(c, 0)?.behind(walk, WithdrawalMark::default()) {
                Ok(newer) => newer,
                Err(fault) => return Ok(Err(fault)),
            };
            let Some(found) = find(c, &rows, request)? else {
                return Ok(Ok((None, last)));
            };
            if !request.free && found.is_withdrawn {
                return Ok(Ok((Some(found), last)));
            }
            let row = Withdrawal {
                number: last.number.saturating_add(1),
                seq: found.seq,
                country: request.country,
                tag: found.tag.clone(),
                key_count: found.key_count,
                is_freed: request.free,
                withdrawn_at: request.now,
                reason: request.reason.into(),
            };
            let last = insert(c, key, &row, last)?;
            Ok(Ok((Some(found), last)))
        })?;
        let (found, last) = done?;
        // Triggers of the database may have changed what was written.
        self.read_withdrawals(key, accepted, last)?;
        Ok(found)
    }

    /// The download batch that a position of the log is in.
    pub(crate) fn batch_of(&mut self, seq: Seq) -> Result<Option<BatchTag>, SqlError> {
        let sql = "SELECT ordinal, day, number FROM download_batch \
             WHERE first_seq <= ? AND last_seq >= ?";
        let row = self.0.first(sql, &[seq.0.into(), seq.0.into()])?;
        row.map(|row| BATCHES.read(row, |row| batch_tag(row, 1)))
            .transpose()
    }
}

const IDENTITIES: Rows = Rows {
    table: "upload_log",
    columns: &["seq", "identities"],
    key: &[0],
};

const BATCHES: Rows = Rows {
    table: "download_batch",
    columns: &["ordinal", "day", "number"],
    key: &[0],
};

const UPLOADS: Rows = Rows {
    table: "upload_log",
    columns: &["seq", "upload_tag", "key_count"],
    key: &[0],
};

/// One statement, so that rows and mark are of one moment. Without rows it gives the mark alone.
fn read_list(c: &mut dyn Connection, from: u64) -> Result<WithdrawalList, SqlError> {
    let sql = format!(
        "SELECT {COLUMNS}, i.value FROM (SELECT 1 AS one) AS single \
         LEFT JOIN installation AS i ON i.name = ? \
         LEFT JOIN withdrawal ON withdrawal.number >= ? ORDER BY withdrawal.number"
    );
    let mut list = WithdrawalList::default();
    c.each(&sql, &[END.into(), from.into()], &mut |mut row| {
        if list.end.is_none() {
            list.end = row.take_bytes(END_COLUMN).ok();
        }
        if row.0.first() != Some(&Value::Null) {
            let digest = row.array(DIGEST_COLUMN).ok().map(WithdrawalDigest);
            let read = withdrawal(row).map_err(|error| error.to_string());
            list.rows.push(StoredWithdrawal { read, digest });
        }
        Ok(())
    })?;
    Ok(list)
}

/// Writes a withdrawal after the last one, and the mark of the end.
fn insert(
    c: &mut dyn Connection,
    key: &ChainKey,
    row: &Withdrawal,
    last: WithdrawalMark,
) -> Result<WithdrawalMark, SqlError> {
    let digest = key.withdrawal(last.digest, &row.columns());
    let sql = format!("INSERT INTO withdrawal ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
    let params: [Param<'_>; 9] = [
        row.number.into(),
        row.seq.0.into(),
        row.country.as_str().into(),
        row.tag.as_str().into(),
        u64::from(row.key_count).into(),
        u64::from(row.is_freed).into(),
        row.withdrawn_at.0.into(),
        (&*row.reason).into(),
        digest.0.as_slice().into(),
    ];
    c.execute(&sql, &params)?;
    let end = key.end_of_withdrawals(row.number, Some(digest));
    write_value(c, END, &end)?;
    Ok(WithdrawalMark {
        number: row.number,
        digest: Some(digest),
    })
}

/// The upload that stands under a tag as sent, after those whose tag was freed.
fn find(
    c: &mut dyn Connection,
    withdrawals: &[Withdrawal],
    request: &WithdrawalRequest<'_>,
) -> Result<Option<Withdrawable>, SqlError> {
    let (country, sent) = (request.country, request.tag);
    let of_tag = withdrawals
        .iter()
        .filter(|row| row.country == country && row.tag.as_sent() == *sent);
    let freed = of_tag.filter(|row| row.is_freed);
    let last_use = freed.map(|row| row.tag.use_number()).max();
    let tag = sent.in_use(last_use.map_or(1, |last| last + 1));
    let sql = "SELECT seq, upload_tag, key_count FROM upload_log \
         WHERE country = ? AND upload_tag = ?";
    let row = c.first(sql, &[country.as_str().into(), tag.as_str().into()])?;
    let found = row.map(|row| {
        UPLOADS.read(row, |row| {
            let seq = Seq(row.number(0)?);
            Ok(Withdrawable {
                seq,
                tag,
                key_count: row.number_32(2)?,
                is_withdrawn: withdrawals.iter().any(|row| row.seq == seq),
            })
        })
    });
    found.transpose()
}

fn withdrawal(row: Row) -> Result<Withdrawal, SqlError> {
    WITHDRAWALS.read(row, |row| {
        Ok(Withdrawal {
            number: row.number(0)?,
            seq: Seq(row.number(1)?),
            country: country(row, 2)?,
            tag: upload_tag(row, 3)?,
            key_count: row.number_32(4)?,
            is_freed: match row.number(5)? {
                0 => false,
                1 => true,
                _ => {
                    return Err(BadColumn {
                        column: 5,
                        problem: "is neither 0 nor 1",
                    });
                }
            },
            withdrawn_at: UnixMillis(row.number(6)?),
            reason: row.text(7)?.into(),
        })
    })
}
