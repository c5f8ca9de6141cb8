//! The certificate list as an immutable snapshot, vouched for by the trust anchor (stub, being built).

mod list;

use std::sync::Arc;

pub(crate) use list::TrustList;

use crate::domain::{CertificateKind, Country, Thumbprint, UnixMillis};

/// A row of the certificate table, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRow {
    /// The thumbprint column: what the row claims.
    pub thumbprint: Thumbprint,
    /// The participant.
    pub country: Country,
    /// What the certificate is for.
    pub kind: CertificateKind,
    /// PEM exactly as the operator signed it.
    pub pem: Arc<str>,
    /// Base64 of the trust anchor's signature over the PEM.
    pub operator_signature: Arc<str>,
    /// When it was revoked, if so.
    pub revoked_at: Option<UnixMillis>,
}

/// A row with what was learnt when it was loaded.
#[derive(Debug, Clone)]
pub struct ListedCertificate {
    /// The row.
    pub row: CertificateRow,
    /// The certificate is valid after this instant.
    pub not_before: UnixMillis,
    /// The certificate is valid before this instant.
    pub not_after: UnixMillis,
    /// Whether the row is whole: the PEM is a certificate, the thumbprint is its, and the trust
    /// anchor's signature over the PEM holds (wire behaviour §4.3). Nothing else is ever trusted.
    pub intact: bool,
}

/// The certificate list at one moment.
#[derive(Debug, Default)]
pub struct Trust {}

impl Trust {
    /// Finds a row by thumbprint and kind, intact or not, revoked or not.
    pub fn find(
        &self,
        _thumbprint: &Thumbprint,
        _kind: CertificateKind,
    ) -> Option<&Arc<ListedCertificate>> {
        None
    }

    /// All rows, in no particular order.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<ListedCertificate>> {
        std::iter::empty()
    }
}

/// stub
#[derive(Debug)]
pub struct TrustAnchor {}

impl TrustAnchor {
    /// stub
    pub fn verify(&self, _: &[u8], _: &str) -> bool {
        true
    }
    /// stub
    pub fn from_pem(_pem: &str) -> Result<Self, crate::StartError> {
        Ok(Self {})
    }
}

impl Trust {
    /// stub
    pub fn load(
        _rows: Vec<CertificateRow>,
        _anchor: &TrustAnchor,
        _previous: Option<&Self>,
    ) -> Self {
        Self::default()
    }
}
