//! Appends uploads to the log.

use crate::database::{Connection, Param, SqlError};
use crate::domain::{
    ContentDigest, Country, FORMAT_VERSION, KeyIdentity, Seq, Thumbprint, UnixMillis, UploadTag,
};
use crate::log_chain::{ColumnsDigest, Link, LinkDigest};
use crate::store::log_mark::LogMark;
use crate::store::session::Store;

/// What became of rows that were to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    /// They are durable.
    Stored,
    /// The row that they were to follow is gone, or another one: nothing was written.
    PreviousRowChanged,
}

/// The columns of a row, in the order of `row_params`.
const COLUMNS: &str = "seq, created_at_ms, country, upload_tag, key_count, format_version, \
     uploader_thumbprint, signer_thumbprint, content_digest, chain, batch_signature, identities, sealed";

/// A row of the log, as it is written.
#[derive(Debug)]
pub(crate) struct UploadRow<'a> {
    pub(crate) seq: Seq,
    pub(crate) created_at: UnixMillis,
    pub(crate) country: Country,
    pub(crate) tag: &'a UploadTag,
    pub(crate) key_count: u32,
    pub(crate) format_version: u64,
    pub(crate) uploader: &'a Thumbprint,
    pub(crate) signer: &'a Thumbprint,
    pub(crate) content: &'a ContentDigest,
    pub(crate) link: Link,
    pub(crate) batch_signature: &'a str,
    pub(crate) identities: &'a [KeyIdentity],
    pub(crate) sealed: &'a [u8],
}

impl UploadRow<'_> {
    fn identity_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size_of_val(self.identities));
        for identity in self.identities {
            bytes.extend_from_slice(&identity.0);
        }
        bytes
    }
}

impl Store {
    /// Appends uploads after the row that `previous` identifies: all of them or none, durable when
    /// it returns. Without such a row, as in an empty log, nothing is checked.
    pub(crate) fn append(
        &mut self,
        previous: Option<&LogMark>,
        rows: &[UploadRow<'_>],
    ) -> Result<Appended, SqlError> {
        if let [row] = rows {
            // One statement is a transaction of its own: a round trip less.
            return insert_after(&mut *self.0, previous, row);
        }
        self.0.transaction(|c| insert_all(c, previous, rows))
    }

    /// Whether a row with so many bytes could be appended now: writes one where no log reaches, and
    /// takes it back. Nobody else sees it, and on a cluster no other node hears of it.
    pub(crate) fn probe_append(&mut self, bytes: usize) -> Result<(), SqlError> {
        let (tag, thumbprint) = (probe_tag(), Thumbprint([0; 32]));
        let row = UploadRow {
            seq: Seq(i64::MAX.unsigned_abs()),
            created_at: UnixMillis(0),
            country: probe_country(),
            tag: &tag,
            key_count: 0,
            format_version: FORMAT_VERSION,
            uploader: &thumbprint,
            signer: &thumbprint,
            content: &ContentDigest([0; 32]),
            link: Link {
                digest: LinkDigest([0; 32]),
                columns: ColumnsDigest([0; 32]),
            },
            batch_signature: "",
            identities: &[],
            sealed: &vec![0; bytes],
        };
        self.0.begin()?;
        let written = insert_row(&mut *self.0, &row).and_then(|()| self.0.write_out());
        let undone = self.0.rollback();
        written.and(undone)
    }

    /// Begins a transaction that locks the tail of the log: once [`Self::read_locked_log`] has come
    /// to the end, nobody else appends. [`Self::append_locked`] or [`Self::unlock_log`] ends it.
    pub(crate) fn lock_log(&mut self) -> Result<(), SqlError> {
        self.0.begin_locking()
    }

    /// [`Self::append`] at the end of the locked log.
    pub(crate) fn append_locked(
        &mut self,
        previous: Option<&LogMark>,
        rows: &[UploadRow<'_>],
    ) -> Result<Appended, SqlError> {
        self.0.complete(|c| insert_all(c, previous, rows))
    }

    /// Unlocks the log, which is as it was.
    pub(crate) fn unlock_log(&mut self) -> Result<(), SqlError> {
        self.0.script("ROLLBACK")
    }
}

fn insert_all(
    c: &mut dyn Connection,
    previous: Option<&LogMark>,
    rows: &[UploadRow<'_>],
) -> Result<Appended, SqlError> {
    let Some((first, rest)) = rows.split_first() else {
        return Ok(Appended::Stored);
    };
    let appended = insert_after(c, previous, first)?;
    if appended == Appended::Stored {
        rest.iter().try_for_each(|row| insert_row(c, row))?;
    }
    Ok(appended)
}

/// Inserts a row if the row that it follows is there: one statement, so that nothing can come
/// between, and no round trip more.
fn insert_after(
    c: &mut dyn Connection,
    previous: Option<&LogMark>,
    row: &UploadRow<'_>,
) -> Result<Appended, SqlError> {
    let Some(previous) = previous else {
        return insert_row(c, row).map(|()| Appended::Stored);
    };
    let sql = format!(
        "INSERT INTO upload_log ({COLUMNS}) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?{} \
         WHERE EXISTS (SELECT 1 FROM upload_log WHERE seq = ? AND created_at_ms = ? \
         AND country = ? AND upload_tag = ? AND key_count = ? AND content_digest = ? \
         AND chain = ?)",
        c.dialect().from_nothing
    );
    let (identities, link, before) = (
        row.identity_bytes(),
        row.link.to_bytes(),
        previous.link_bytes(),
    );
    let params = [
        &row_params(row, &link, &identities)[..],
        &previous.params(&before),
    ]
    .concat();
    match c.execute(&sql, &params)? {
        0 => Ok(Appended::PreviousRowChanged),
        1 => Ok(Appended::Stored),
        _ => Err(answer_of_another()),
    }
}

pub(in crate::store) fn insert_row(
    c: &mut dyn Connection,
    row: &UploadRow<'_>,
) -> Result<(), SqlError> {
    let sql = format!(
        "INSERT INTO upload_log ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    );
    let (identities, link) = (row.identity_bytes(), row.link.to_bytes());
    match c.execute(&sql, &row_params(row, &link, &identities))? {
        1 => Ok(()),
        _ => Err(answer_of_another()),
    }
}

/// Of no participant: a code that ISO 3166 leaves to its users.
fn probe_country() -> Country {
    Country::parse("ZZ").expect("two letters")
}

fn probe_tag() -> UploadTag {
    UploadTag::parse("probe").expect("visible characters")
}

fn answer_of_another() -> SqlError {
    SqlError::Lost("the answer to an insert was another's".into())
}

fn row_params<'a>(row: &'a UploadRow<'_>, link: &'a [u8], identities: &'a [u8]) -> [Param<'a>; 13] {
    [
        row.seq.0.into(),
        row.created_at.0.into(),
        row.country.as_str().into(),
        row.tag.as_str().into(),
        u64::from(row.key_count).into(),
        row.format_version.into(),
        row.uploader.0.as_slice().into(),
        row.signer.0.as_slice().into(),
        row.content.0.as_slice().into(),
        link.into(),
        row.batch_signature.into(),
        identities.into(),
        row.sealed.into(),
    ]
}
