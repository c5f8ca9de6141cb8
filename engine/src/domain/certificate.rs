//! Certificates as the operator lists them.

use std::sync::Arc;

use super::country::Country;
use super::digest::Thumbprint;
use super::instant::UnixMillis;

/// What a listed certificate is for (wire §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CertificateKind {
    /// Client certificate of a participant's backend.
    Authentication,
    /// Signs upload batches.
    Signing,
    /// Identifies a participant's callback receiver.
    Callback,
}

impl CertificateKind {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::Authentication, Self::Signing, Self::Callback];

    /// The name in the database and on the command line, lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Signing => "signing",
            Self::Callback => "callback",
        }
    }

    /// Reads a kind by its name, in any letter case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

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
