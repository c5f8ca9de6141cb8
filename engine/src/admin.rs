//! What the admin command line does to the database, without a running engine (stub, being built).

use crate::domain::{CertificateKind, Country, Thumbprint};
use crate::error::StartError;
use crate::settings::DatabaseUrl;
use crate::trust::{CertificateRow, ListedCertificate};

/// An open database for administration.
#[derive(Debug)]
pub struct Admin(());

/// What became of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// Schema version found.
    pub from: u32,
    /// Schema version now.
    pub to: u32,
}

/// Which schema a database has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    /// Version found; 0 for an empty database.
    pub found: u32,
    /// Newest version that this program knows.
    pub known: u32,
}

/// Why a certificate was not added or revoked.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file is no PEM of exactly one X.509 certificate.
    #[error("the file is not the PEM of one X.509 certificate")]
    NotACertificate,
    /// The operator's signature does not hold over these exact bytes.
    #[error("the trust anchor's signature does not hold over this PEM file: sign its exact bytes")]
    OperatorSignature,
    /// The certificate's subject names another country, or none.
    #[error("the certificate's subject does not name the country {0}")]
    Country(Country),
    /// A row with this thumbprint and kind exists.
    #[error("the certificate is listed already")]
    Listed,
    /// No row has this thumbprint.
    #[error("no certificate with thumbprint {0} is listed")]
    Unknown(Thumbprint),
    /// The database failed.
    #[error("{0}")]
    Database(#[from] crate::error::DatabaseError),
}

impl Admin {
    /// Opens the database without changing its schema.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn open(_database: &DatabaseUrl) -> Result<Self, StartError> {
        Ok(Self(()))
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn migrate(_database: &DatabaseUrl) -> Result<Migrated, StartError> {
        Ok(Migrated { from: 0, to: 0 })
    }

    /// Says which schema the database has, without changing it.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn schema(_database: &DatabaseUrl) -> Result<Schema, StartError> {
        Ok(Schema { found: 0, known: 0 })
    }

    /// Lists a certificate, after checking the trust anchor's signature over its PEM.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn add_certificate(
        &mut self,
        _trust_anchor_pem: &str,
        _country: Country,
        _kind: CertificateKind,
        _pem: &str,
        _operator_signature: &str,
    ) -> Result<Thumbprint, CertificateError> {
        Err(CertificateError::NotACertificate)
    }

    /// Revokes every row with this thumbprint; revoking twice is no error.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn revoke_certificate(&mut self, _thumbprint: &Thumbprint) -> Result<(), CertificateError> {
        Ok(())
    }

    /// All rows, ordered by country and kind.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn certificates(&mut self) -> Result<Vec<CertificateRow>, CertificateError> {
        Ok(Vec::new())
    }

    /// All rows, ordered by country and kind, each checked against the trust anchor.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn listed_certificates(
        &mut self,
        _trust_anchor_pem: &str,
    ) -> Result<Vec<ListedCertificate>, CertificateError> {
        Ok(Vec::new())
    }
}

/// Signs a PEM with the trust anchor's private key (PKCS#8 PEM), as `efgs cert add
/// --trust-anchor-key` and `efgs init` do. Gives base64.
///
/// # Errors
/// When the key is no RSA or P-256 private key.
pub fn sign_with_trust_anchor(_key_pem: &str, _pem: &str) -> Result<String, StartError> {
    Ok(String::new())
}
