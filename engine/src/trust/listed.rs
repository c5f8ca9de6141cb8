//! Listed certificates, each with what was found out about it when it was loaded.

use std::collections::HashMap;
use std::sync::Arc;

use super::anchor::TrustAnchors;
use crate::domain::{CertificateKind, CertificateRow, Thumbprint, UnixMillis};
use crate::pki::Certificate;

/// A row with the results of its checks when it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedCertificate {
    /// The row.
    pub row: CertificateRow,
    /// First instant at which the certificate is valid (the epoch, if that is before it).
    pub not_before: UnixMillis,
    /// The certificate is valid through the second that begins at this instant.
    pub not_after: UnixMillis,
    /// What is wrong with the row (wire §4.3). Only a row without fault is ever trusted.
    pub fault: Option<RowFault>,
}

/// Why a row of the certificate table is not trusted: it is not what the operator listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    /// The PEM is not one X.509 certificate.
    #[error("not a certificate")]
    NotACertificate,
    /// The thumbprint is another certificate's.
    #[error("thumbprint of another certificate")]
    Thumbprint,
    /// The certificate's subject does not name the row's country, or names several. The trust
    /// anchor signs the certificate alone: without this check, anyone who can write the database could
    /// turn one participant into another.
    #[error("certificate of another country")]
    Country,
    /// No trust anchor's signature over the PEM holds.
    #[error("not signed by a trust anchor")]
    OperatorSignature,
}

impl RowFault {
    /// The first fault of a row, in the order of the variants.
    fn of(
        row: &CertificateRow,
        certificate: Option<&Certificate<'_>>,
        anchors: &TrustAnchors,
    ) -> Option<Self> {
        let Some(certificate) = certificate else {
            return Some(Self::NotACertificate);
        };
        if certificate.thumbprint() != row.thumbprint {
            Some(Self::Thumbprint)
        } else if certificate.country() != Ok(row.country) {
            Some(Self::Country)
        } else if !anchors.verify(row.pem.as_bytes(), &row.operator_signature) {
            Some(Self::OperatorSignature)
        } else {
            None
        }
    }
}

impl ListedCertificate {
    /// Reads and checks a row.
    fn of(row: CertificateRow, anchors: &TrustAnchors) -> Self {
        let der = Certificate::der_of_pem(&row.pem);
        let certificate = der
            .as_ref()
            .ok()
            .and_then(|der| Certificate::from_der(der).ok());
        let millis =
            |seconds: i64| UnixMillis(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000));
        let (not_before, not_after) = certificate.as_ref().map_or((0, 0), |certificate| {
            let validity = certificate.validity();
            (*validity.start(), *validity.end())
        });
        Self {
            fault: RowFault::of(&row, certificate.as_ref(), anchors),
            row,
            not_before: millis(not_before),
            not_after: millis(not_after),
        }
    }

    /// The same certificate under a row that says the same of it.
    fn with_row(&self, row: CertificateRow) -> Self {
        Self { row, ..*self }
    }

    /// Whether the checks of `row` would give what they gave for this one.
    fn covers(&self, row: &CertificateRow) -> bool {
        self.row.pem == row.pem
            && self.row.operator_signature == row.operator_signature
            && self.row.thumbprint == row.thumbprint
            && self.row.country == row.country
    }

    /// Whether the row is what the operator listed.
    #[must_use]
    pub const fn is_intact(&self) -> bool {
        self.fault.is_none()
    }

    /// Whether the certificate's validity includes `now`, both ends included (RFC 5280).
    #[must_use]
    pub const fn is_valid_at(&self, now: UnixMillis) -> bool {
        self.not_before.0 <= now.0 && now.seconds() <= self.not_after.seconds()
    }

    /// Whether its owner may use it while it is valid: it is what the operator listed, and not revoked.
    #[must_use]
    pub const fn is_in_force(&self) -> bool {
        self.is_intact() && !self.is_revoked()
    }

    /// Whether the row was revoked.
    #[must_use]
    pub const fn is_revoked(&self) -> bool {
        self.row.revoked_at.is_some()
    }
}

/// The certificate list at one moment.
#[derive(Debug, Default)]
pub struct Trust {
    certificates: HashMap<(Thumbprint, CertificateKind), Arc<ListedCertificate>>,
    /// Which anchors the rows were checked with.
    anchors: Vec<Thumbprint>,
}

impl Trust {
    /// Checks every row; takes over what `previous` found out about unchanged rows, if it was
    /// checked with the same anchors.
    ///
    /// Of rows with the same thumbprint and kind (the database allows none), the last counts.
    #[must_use]
    pub fn load(
        rows: impl IntoIterator<Item = CertificateRow>,
        anchors: &TrustAnchors,
        previous: Option<&Self>,
    ) -> Self {
        let thumbprints: Vec<_> = anchors.thumbprints().collect();
        let previous = previous.filter(|trust| trust.anchors == thumbprints);
        let load = |row: CertificateRow| {
            let known = previous.and_then(|trust| trust.find(&row.thumbprint, row.kind));
            match known.filter(|known| known.covers(&row)) {
                Some(known) if known.row == row => Arc::clone(known),
                Some(known) => Arc::new(known.with_row(row)),
                None => Arc::new(ListedCertificate::of(row, anchors)),
            }
        };
        let keyed =
            |listed: Arc<ListedCertificate>| ((listed.row.thumbprint, listed.row.kind), listed);
        Self {
            certificates: rows.into_iter().map(load).map(keyed).collect(),
            anchors: thumbprints,
        }
    }

    /// Finds a row by thumbprint and kind, intact or not, revoked or not.
    pub fn find(
        &self,
        thumbprint: &Thumbprint,
        kind: CertificateKind,
    ) -> Option<&Arc<ListedCertificate>> {
        self.certificates.get(&(*thumbprint, kind))
    }

    /// All rows, in no particular order.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<ListedCertificate>> {
        self.certificates.values()
    }
}
