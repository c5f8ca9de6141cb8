//! The certificate list, and the number that changes with it.

use super::columns::{Rows, country, number_or_0};
use super::session::Store;
use crate::database::{Connection, Param, Row, SqlError};
use crate::domain::{CertificateKind, CertificateRow, Thumbprint, UnixMillis};

const CERTIFICATE_REVISION: &str = "certificate_revision";

impl Store {
    /// A number that changes with the certificate list.
    pub(crate) fn certificate_revision(&mut self) -> Result<u64, SqlError> {
        let value = self.installation_value(CERTIFICATE_REVISION)?;
        let text = value.and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    /// All rows of the certificate list. One that cannot be read is logged and left out: the others'
    /// participants need not suffer for it.
    pub(crate) fn certificates(&mut self) -> Result<Vec<CertificateRow>, SqlError> {
        let sql = "SELECT thumbprint, country, kind, pem, operator_signature, revoked_at_ms \
             FROM certificate ORDER BY country, kind, created_at_ms";
        let mut readable = Vec::new();
        self.0.query(sql, &[], &mut |row| {
            match certificate(row) {
                Ok(certificate) => readable.push(certificate),
                Err(error) => tracing::warn!(%error, "a certificate is left out"),
            }
            Ok(())
        })?;
        Ok(readable)
    }

    /// Lists a certificate; false if its thumbprint is listed for that kind already.
    pub(crate) fn insert_certificate(
        &mut self,
        row: &CertificateRow,
        now: UnixMillis,
    ) -> Result<bool, SqlError> {
        let inserted = self.0.transaction(|c| {
            insert_certificate(c, row, now)?;
            bump_certificate_revision(c)
        });
        match inserted {
            Ok(()) => Ok(true),
            Err(SqlError::Duplicate(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Revokes the rows with a thumbprint; gives how many there are, revoked before or now.
    pub(crate) fn revoke_certificate(
        &mut self,
        thumbprint: &Thumbprint,
        now: UnixMillis,
    ) -> Result<u64, SqlError> {
        self.0.transaction(|c| {
            let count = "SELECT COUNT(*) FROM certificate WHERE thumbprint = ?";
            let found = c.first(count, &[thumbprint.0.as_slice().into()])?;
            let sql = "UPDATE certificate SET revoked_at_ms = ? \
                 WHERE thumbprint = ? AND revoked_at_ms IS NULL";
            c.execute(sql, &[now.0.into(), thumbprint.0.as_slice().into()])?;
            bump_certificate_revision(c)?;
            number_or_0(found.as_ref(), 0)
        })
    }
}

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
    let set = "UPDATE installation SET value = ? WHERE name = ?";
    let params = [revision.as_str().into(), CERTIFICATE_REVISION.into()];
    if c.execute(set, &params)? == 1 {
        return Ok(());
    }
    let create = "INSERT INTO installation (value, name) VALUES (?, ?)";
    match c.execute(create, &params) {
        Err(SqlError::Duplicate(_)) => c.execute(set, &params).map(|_| ()),
        created => created.map(|_| ()),
    }
}
