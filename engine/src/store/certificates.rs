//! The certificate list, and the number that changes with it.

use super::columns::{Rows, country};
use super::session::{Store, write_value};
use crate::database::{Connection, Param, Row, SqlError, Value};
use crate::domain::{CertificateKind, CertificateRow, Thumbprint, UnixMillis};
use crate::seal::MacKey;
use crate::trust::{CertificateList, ListDigest, ListFault, next_counter, row_digest};

const CERTIFICATE_REVISION: &str = "certificate_revision";
/// The row of `installation` with the digest over the list.
const CERTIFICATE_LIST: &str = "certificate_list";

/// Why the certificate list was not changed as asked.
#[derive(Debug)]
pub(crate) enum ListError {
    /// The list is not believed.
    Fault(ListFault),
    /// The list does not have what was written to it.
    NotKept,
    /// The database failed.
    Sql(SqlError),
}

impl From<SqlError> for ListError {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

/// What a change makes of the list: gives the rows that it has written.
type Change<'a> = &'a dyn Fn(
    &mut dyn Connection,
    &mut Vec<CertificateRow>,
) -> Result<Vec<CertificateRow>, SqlError>;

/// The digest that is stored for a row.
#[derive(Debug)]
pub(crate) struct StoredRowDigest {
    pub(crate) thumbprint: Vec<u8>,
    pub(crate) kind: String,
    pub(crate) digest: Vec<u8>,
}

impl Store {
    /// A number that changes with the certificate list; 0 if it cannot be read: the list is read from
    /// time to time all the same.
    pub(crate) fn certificate_revision(&mut self) -> Result<u64, SqlError> {
        let sql = "SELECT value FROM installation WHERE name = ?";
        let row = self.0.first(sql, &[CERTIFICATE_REVISION.into()])?;
        let value = row.and_then(|mut row| row.take_bytes(0).ok());
        let text = value.and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    /// The certificate list as of one moment.
    pub(crate) fn certificate_list(&mut self) -> Result<CertificateList, SqlError> {
        read_list(&mut *self.0)
    }

    /// All rows of the certificate list. One that cannot be read is logged and left out: the others'
    /// participants need not suffer for it.
    pub(crate) fn certificates(&mut self) -> Result<Vec<CertificateRow>, SqlError> {
        let list = self.certificate_list()?;
        for error in list.unreadable {
            tracing::warn!(error, "a certificate is left out");
        }
        Ok(list.rows)
    }

    /// The digests that are stored for single rows.
    pub(crate) fn certificate_row_digests(&mut self) -> Result<Vec<StoredRowDigest>, SqlError> {
        let sql =
            "SELECT thumbprint, kind, digest FROM certificate_digest ORDER BY kind, thumbprint";
        self.0.rows(sql, &[], |mut row| {
            Ok(StoredRowDigest {
                kind: String::from_utf8_lossy(row.bytes(1)?).into_owned(),
                digest: row.take_bytes(2)?,
                thumbprint: row.take_bytes(0)?,
            })
        })
    }

    /// Lists a certificate; false if its thumbprint is listed for that kind already. A revoked row is
    /// listed again; with `replace`, any row takes the new signature.
    pub(crate) fn insert_certificate(
        &mut self,
        key: &MacKey,
        row: &CertificateRow,
        now: UnixMillis,
        replace: bool,
    ) -> Result<bool, ListError> {
        let written = self.change_certificates(key, now, &|c, rows| {
            let mut known = rows.iter_mut();
            let same = |known: &&mut CertificateRow| {
                known.thumbprint == row.thumbprint && known.kind == row.kind
            };
            match known.find(same) {
                None => {
                    insert_certificate(c, row, now)?;
                    rows.push(row.clone());
                }
                Some(known) if replace || known.revoked_at.is_some() => {
                    list_again(c, row)?;
                    *known = row.clone();
                }
                Some(_) => return Ok(Vec::new()),
            }
            Ok(vec![row.clone()])
        });
        match written {
            Ok(written) => Ok(written > 0),
            // Of a row that cannot be read.
            Err(ListError::Sql(SqlError::Duplicate(_))) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts another signature of a trust anchor in place of a row's; false if there is no such row. A
    /// revoked row stays revoked.
    pub(crate) fn replace_signature(
        &mut self,
        key: &MacKey,
        (thumbprint, kind): (&Thumbprint, CertificateKind),
        operator_signature: &str,
        now: UnixMillis,
    ) -> Result<bool, ListError> {
        let written = self.change_certificates(key, now, &|c, rows| {
            let mut rows = rows.iter_mut();
            let Some(row) = rows.find(|row| row.thumbprint == *thumbprint && row.kind == kind)
            else {
                return Ok(Vec::new());
            };
            let sql = "UPDATE certificate SET operator_signature = ? \
                 WHERE thumbprint = ? AND kind = ?";
            let params = [
                operator_signature.as_bytes().into(),
                thumbprint.0.as_slice().into(),
                kind.name().into(),
            ];
            c.execute(sql, &params)?;
            row.operator_signature = operator_signature.into();
            Ok(vec![row.clone()])
        })?;
        Ok(written > 0)
    }

    /// Revokes the rows with a thumbprint; returns how many there are, revoked before or now.
    pub(crate) fn revoke_certificate(
        &mut self,
        key: &MacKey,
        thumbprint: &Thumbprint,
        now: UnixMillis,
    ) -> Result<usize, ListError> {
        self.change_certificates(key, now, &|c, rows| {
            let sql = "UPDATE certificate SET revoked_at_ms = ? \
                 WHERE thumbprint = ? AND revoked_at_ms IS NULL";
            c.execute(sql, &[now.0.into(), thumbprint.0.as_slice().into()])?;
            let revoked = rows.iter_mut().filter(|row| row.thumbprint == *thumbprint);
            let revoked = revoked.map(|row| {
                row.revoked_at.get_or_insert(now);
                row.clone()
            });
            Ok(revoked.collect())
        })
    }

    /// Takes the list as it is; false if it is not the one that was shown.
    pub(crate) fn accept_certificates(
        &mut self,
        key: &MacKey,
        shown: &[CertificateRow],
        now: UnixMillis,
    ) -> Result<bool, ListError> {
        let counter = self.0.transaction(|c| {
            bump_certificate_revision(c)?;
            let list = read_list(c)?;
            if list.rows != shown {
                return Ok(None);
            }
            relist(c, key, &list.rows, now).map(Some)
        })?;
        let Some(counter) = counter else {
            return Ok(false);
        };
        self.check_kept(key, counter).map(|()| true)
    }

    /// Changes the list and its digests together; returns how many rows were written. Changes of
    /// several processes wait for each other.
    ///
    /// What is written is read back: triggers of the database may have changed it.
    fn change_certificates(
        &mut self,
        key: &MacKey,
        now: UnixMillis,
        change: Change<'_>,
    ) -> Result<usize, ListError> {
        let changed = self.0.transaction(|c| {
            // First: it locks the row.
            bump_certificate_revision(c)?;
            let list = read_list(c)?;
            let counter = match list.check(key, 0) {
                Ok(counter) => next_counter(counter, now),
                Err(fault) => return Ok(Err(fault)),
            };
            let mut rows = list.rows;
            let written = change(c, &mut rows)?;
            write_digests(c, key, counter, &rows, &written)?;
            Ok(Ok((written.len(), counter)))
        })?;
        let (written, counter) = changed.map_err(ListError::Fault)?;
        self.check_kept(key, counter).map(|()| written)
    }

    fn check_kept(&mut self, key: &MacKey, counter: u64) -> Result<(), ListError> {
        let found = self.certificate_list()?.check(key, counter);
        found.map(|_| ()).map_err(|_| ListError::NotKept)
    }
}

/// Writes all of a row that is there but its thumbprint and kind.
fn list_again(c: &mut dyn Connection, row: &CertificateRow) -> Result<(), SqlError> {
    let sql = "UPDATE certificate SET country = ?, pem = ?, operator_signature = ?, \
         revoked_at_ms = NULL WHERE thumbprint = ? AND kind = ?";
    let params = [
        row.country.as_str().into(),
        row.pem.as_bytes().into(),
        row.operator_signature.as_bytes().into(),
        row.thumbprint.0.as_slice().into(),
        row.kind.name().into(),
    ];
    c.execute(sql, &params).map(|_| ())
}

/// One statement, so that rows and digest are of one moment. Without rows it gives the digest alone.
fn read_list(c: &mut dyn Connection) -> Result<CertificateList, SqlError> {
    let sql = "SELECT c.thumbprint, c.country, c.kind, c.pem, c.operator_signature, \
             c.revoked_at_ms, i.value \
         FROM (SELECT 1 AS one) AS single \
         LEFT JOIN installation AS i ON i.name = ? \
         LEFT JOIN certificate AS c ON 1 = 1 \
         ORDER BY c.country, c.kind, c.created_at_ms";
    let mut list = CertificateList::default();
    c.each(sql, &[CERTIFICATE_LIST.into()], &mut |mut row| {
        if list.digest.is_none() {
            list.digest = row.take_bytes(DIGEST_COLUMN).ok();
        }
        if row.0.first() == Some(&Value::Null) {
            return Ok(());
        }
        match certificate(row) {
            Ok(certificate) => list.rows.push(certificate),
            Err(error) => list.unreadable.push(error.to_string()),
        }
        Ok(())
    })?;
    Ok(list)
}

/// Behind those of [`CERTIFICATES`].
const DIGEST_COLUMN: usize = CERTIFICATES.columns.len();

const CERTIFICATES: Rows = Rows {
    table: "certificate",
    columns: &[
        "thumbprint",
        "country",
        "kind",
        "pem",
        "operator_signature",
        "revoked_at_ms",
    ],
    key: &[0, 2],
};

fn certificate(row: Row) -> Result<CertificateRow, SqlError> {
    let kind = |name: &str| CertificateKind::from_name(name).ok_or(());
    CERTIFICATES.read(row, |row| {
        Ok(CertificateRow {
            thumbprint: Thumbprint(row.array(0)?),
            country: country(row, 1)?,
            kind: row.parse(2, kind, "is no kind of certificate")?,
            pem: row.text(3)?.into(),
            operator_signature: row.text(4)?.into(),
            revoked_at: row.optional_number(5)?.map(UnixMillis),
        })
    })
}

/// Writes the digests anew over a list that is there, whatever is there of them; returns its counter.
pub(super) fn relist(
    c: &mut dyn Connection,
    key: &MacKey,
    list: &[CertificateRow],
    now: UnixMillis,
) -> Result<u64, SqlError> {
    let counter = next_counter(read_list(c)?.claimed_counter(), now);
    c.execute("DELETE FROM certificate_digest", &[])?;
    write_digests(c, key, counter, list, list)?;
    Ok(counter)
}

/// Writes the digest over the list, and those of the rows that were written.
fn write_digests(
    c: &mut dyn Connection,
    key: &MacKey,
    counter: u64,
    list: &[CertificateRow],
    written: &[CertificateRow],
) -> Result<(), SqlError> {
    for row in written {
        let (thumbprint, kind) = (row.thumbprint.0.as_slice(), row.kind.name());
        let sql = "DELETE FROM certificate_digest WHERE thumbprint = ? AND kind = ?";
        c.execute(sql, &[thumbprint.into(), kind.into()])?;
        let sql = "INSERT INTO certificate_digest (thumbprint, kind, digest) VALUES (?, ?, ?)";
        let digest = row_digest(key, row);
        c.execute(
            sql,
            &[thumbprint.into(), kind.into(), digest.as_slice().into()],
        )?;
    }
    let digest = ListDigest::new(key, counter, list).stored();
    write_value(c, CERTIFICATE_LIST, &digest)
}

pub(super) fn insert_certificate(
    c: &mut dyn Connection,
    row: &CertificateRow,
    now: UnixMillis,
) -> Result<(), SqlError> {
    let sql = "INSERT INTO certificate (thumbprint, kind, country, pem, operator_signature, \
         created_at_ms, revoked_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)";
    let params = [
        row.thumbprint.0.as_slice().into(),
        row.kind.name().into(),
        row.country.as_str().into(),
        (&*row.pem).into(),
        (&*row.operator_signature).into(),
        now.0.into(),
        row.revoked_at.map_or(Param::Null, |at| at.0.into()),
    ];
    c.execute(sql, &params).map(|_| ())
}

/// Random, and written without reading: two changes at once never leave the revision as it was.
pub(super) fn bump_certificate_revision(c: &mut dyn Connection) -> Result<(), SqlError> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).expect("the system has randomness");
    let revision = u64::from_be_bytes(random).to_string();
    write_value(c, CERTIFICATE_REVISION, revision.as_bytes())
}
