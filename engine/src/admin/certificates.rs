//! The certificate list as an operator changes and checks it, under the digests of
//! [`crate::trust`].

use std::collections::HashMap;

use crate::clock::{Clock, SystemClock};
use crate::database::SqlError;
use crate::domain::{CertificateKind, Country, Thumbprint};
use crate::failure::{DatabaseError, WrongKey};
use crate::pki::Certificate;
use crate::seal::Keys;
use crate::store::{IDENTITY_KEY, ListError, Store};
use crate::trust::{
    CertificateRow, ListFault, ListedCertificate, Trust, TrustAnchorError, TrustAnchors, row_digest,
};

/// Why the certificate list was not changed or read.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file is no PEM of exactly one X.509 certificate.
    #[error("the file is not the PEM of one X.509 certificate")]
    NotACertificate,
    /// The text is not [`canonical_pem`]'s.
    #[error(
        "the PEM file is not written in 64 columns with LF and nothing around it, and IT drops the \
         keys of a country whose certificate is not"
    )]
    NotCanonical,
    /// The operator's signature does not hold over these exact bytes.
    #[error(
        "the signature over this PEM file is of none of the trust anchors that [trust_anchor] \
         certificate names: sign its exact bytes, with the key of one of them"
    )]
    OperatorSignature,
    /// The certificate's subject names another country, or none.
    #[error("the certificate's subject does not name the country {0}")]
    Country(Country),
    /// The trust anchor cannot be used.
    #[error("[trust_anchor] certificate cannot be used")]
    TrustAnchor(#[from] TrustAnchorError),
    /// The key file is another installation's.
    #[error(transparent)]
    WrongKey(#[from] WrongKey),
    /// A row with this thumbprint and kind exists.
    #[error(
        "the certificate is listed already; list it again with --replace to change its signature"
    )]
    Listed,
    /// No row has this thumbprint.
    #[error("no certificate with thumbprint {0} is listed")]
    Unknown(Thumbprint),
    /// Gateways do not believe the list, and a change would not be believed either.
    #[error(
        "the certificate list cannot be changed: {0}; look at it with efgs cert verify, then accept \
         it with efgs cert verify --accept"
    )]
    Fault(ListFault),
    /// What was read back is not what was written.
    #[error(
        "the database does not hold what was written to the certificate list: gateways keep the list \
         from before; look for triggers in the database, then run efgs cert verify"
    )]
    NotKept,
    /// The list has changed since it was shown.
    #[error("the certificate list has just been changed: look at it again with efgs cert verify")]
    ShownOther,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// A certificate to be listed.
#[derive(Debug, Clone, Copy)]
pub struct NewCertificate<'a> {
    /// The participant.
    pub country: Country,
    /// What it is for.
    pub kind: CertificateKind,
    /// The PEM text, as it was signed.
    pub pem: &'a str,
    /// Base64 of the trust anchor's signature over the PEM.
    pub operator_signature: &'a str,
}

/// A certificate that has been listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedCertificate {
    /// SHA-256 of its DER.
    pub thumbprint: Thumbprint,
    /// What else the same certificate is listed for, and not revoked.
    pub other_kinds: Vec<CertificateKind>,
}

/// The certificate list, and how it differs from what the command line has written.
#[derive(Debug)]
pub struct CheckedList {
    /// All rows that can be read, ordered by country and kind.
    pub certificates: Vec<CheckedCertificate>,
    /// What is wrong with rows that cannot be read: they are not trusted.
    pub unreadable: Vec<String>,
    /// Thumbprints and kinds of rows that have a digest and are not there.
    pub removed: Vec<(String, String)>,
    /// Why the list as a whole is not believed, if so.
    pub fault: Option<ListFault>,
}

/// A row of the list with what was found out about it.
#[derive(Debug)]
pub struct CheckedCertificate {
    /// The row, checked against the trust anchor.
    pub listed: ListedCertificate,
    /// How it differs from what the command line has written, if it does.
    pub change: Option<RowChange>,
}

/// How a row differs from what the command line has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowChange {
    /// Its digest is over something else.
    #[error("changed by something else than efgs")]
    Changed,
    /// It has no digest.
    #[error("added by something else than efgs")]
    Added,
}

impl CheckedList {
    /// The rows alone.
    fn rows(&self) -> Vec<CertificateRow> {
        let certificates = self.certificates.iter();
        certificates
            .map(|certificate| certificate.listed.row.clone())
            .collect()
    }

    /// Whether the list is from before digests, as far as it shows, and the trust anchor has signed
    /// all of it.
    #[must_use]
    pub fn is_from_before(&self) -> bool {
        let is_old = |certificate: &CheckedCertificate| {
            certificate.change == Some(RowChange::Added) && certificate.listed.is_intact()
        };
        self.fault == Some(ListFault::NoDigest)
            && self.removed.is_empty()
            && self.unreadable.is_empty()
            && self.certificates.iter().all(is_old)
    }
}

/// Lists a certificate, after checking its form and the trust anchor's signature over its PEM.
pub(super) fn add(
    store: &mut Store,
    keys: &Keys,
    trust_anchor_pem: &str,
    new: &NewCertificate<'_>,
    replace: bool,
) -> Result<AddedCertificate, CertificateError> {
    let thumbprint = check_new(trust_anchor_pem, new)?;
    check_keys(store, keys)?;
    let row = CertificateRow {
        thumbprint,
        country: new.country,
        kind: new.kind,
        pem: new.pem.into(),
        operator_signature: new.operator_signature.into(),
        revoked_at: None,
    };
    let inserted = store.insert_certificate(
        keys.certificate_list_key(),
        &row,
        SystemClock.now(),
        replace,
    );
    if !inserted.map_err(|error| failure(error, "listing a certificate"))? {
        return Err(CertificateError::Listed);
    }
    let rows = store.certificates().map_err(reading)?;
    let others = rows.into_iter().filter(|other| {
        other.thumbprint == thumbprint && other.kind != new.kind && other.revoked_at.is_none()
    });
    Ok(AddedCertificate {
        thumbprint,
        other_kinds: others.map(|other| other.kind).collect(),
    })
}

/// Puts another signature of a trust anchor in place of a row's, after checking it.
pub(super) fn resign(
    store: &mut Store,
    keys: &Keys,
    trust_anchor_pem: &str,
    new: &NewCertificate<'_>,
) -> Result<(), CertificateError> {
    let thumbprint = check_new(trust_anchor_pem, new)?;
    check_keys(store, keys)?;
    let key = keys.certificate_list_key();
    let row = (&thumbprint, new.kind);
    let replaced = store.replace_signature(key, row, new.operator_signature, SystemClock.now());
    match replaced.map_err(|error| failure(error, "signing a certificate again"))? {
        true => Ok(()),
        false => Err(CertificateError::Unknown(thumbprint)),
    }
}

pub(super) fn check_new(
    trust_anchor_pem: &str,
    new: &NewCertificate<'_>,
) -> Result<Thumbprint, CertificateError> {
    let anchors = TrustAnchors::from_pem(trust_anchor_pem)?;
    let thumbprint = check_certificate(&anchors, new.country, new.pem, new.operator_signature)?;
    if canonical_pem(new.pem)? != new.pem {
        return Err(CertificateError::NotCanonical);
    }
    Ok(thumbprint)
}

pub(super) fn revoke(
    store: &mut Store,
    keys: &Keys,
    thumbprint: &Thumbprint,
) -> Result<(), CertificateError> {
    check_keys(store, keys)?;
    let key = keys.certificate_list_key();
    let found = store.revoke_certificate(key, thumbprint, SystemClock.now());
    match found.map_err(|error| failure(error, "revoking a certificate"))? {
        0 => Err(CertificateError::Unknown(*thumbprint)),
        _ => Ok(()),
    }
}

/// Checks each row against the trust anchor, each row and the list against their digests.
pub(super) fn check_list(
    store: &mut Store,
    keys: &Keys,
    trust_anchor_pem: &str,
) -> Result<CheckedList, CertificateError> {
    let anchors = TrustAnchors::from_pem(trust_anchor_pem)?;
    check_keys(store, keys)?;
    let key = keys.certificate_list_key();
    let list = store.certificate_list().map_err(reading)?;
    let fault = list.check(key, 0).err();
    let digests = store.certificate_row_digests().map_err(reading)?;
    let mut digests: HashMap<_, _> = digests
        .into_iter()
        .map(|stored| ((stored.thumbprint, stored.kind), stored.digest))
        .collect();
    let trust = Trust::load(list.rows.iter().cloned(), &anchors, None);
    let check = |row: &CertificateRow| {
        let name = (row.thumbprint.0.to_vec(), row.kind.name().to_owned());
        let change = match digests.remove(&name) {
            None => Some(RowChange::Added),
            Some(digest) if digest != row_digest(key, row) => Some(RowChange::Changed),
            Some(_) => None,
        };
        let listed = trust.find(&row.thumbprint, row.kind)?;
        let listed = ListedCertificate::clone(listed);
        Some(CheckedCertificate { listed, change })
    };
    let certificates = list.rows.iter().filter_map(check).collect();
    let removed = digests.into_keys().map(|(thumbprint, kind)| {
        let thumbprint: String = thumbprint
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        (thumbprint, kind)
    });
    let mut removed: Vec<_> = removed.collect();
    removed.sort();
    Ok(CheckedList {
        certificates,
        unreadable: list.unreadable,
        removed,
        fault,
    })
}

/// Takes a list that was shown as it is.
pub(super) fn accept(
    store: &mut Store,
    keys: &Keys,
    shown: &CheckedList,
) -> Result<(), CertificateError> {
    check_keys(store, keys)?;
    let key = keys.certificate_list_key();
    let accepted = store.accept_certificates(key, &shown.rows(), SystemClock.now());
    match accepted.map_err(|error| failure(error, "accepting the certificate list"))? {
        true => Ok(()),
        false => Err(CertificateError::ShownOther),
    }
}

/// Digests under another installation's key would make gateways refuse the list.
fn check_keys(store: &mut Store, keys: &Keys) -> Result<(), CertificateError> {
    let check = keys.identity_check();
    let agreed = store.agree_on(IDENTITY_KEY, &check).map_err(reading)?;
    if agreed == check {
        Ok(())
    } else {
        Err(WrongKey(IDENTITY_KEY.to_owned()).into())
    }
}

fn failure(error: ListError, doing: &'static str) -> CertificateError {
    match error {
        ListError::Fault(fault) => CertificateError::Fault(fault),
        ListError::NotKept => CertificateError::NotKept,
        ListError::Sql(error) => error.doing(doing).into(),
    }
}

fn reading(error: SqlError) -> CertificateError {
    error.doing("reading the certificate list").into()
}

/// What holds for every certificate, whichever way it comes into the list; returns its thumbprint.
///
/// # Errors
/// [`CertificateError`].
pub(crate) fn check_certificate(
    anchors: &TrustAnchors,
    country: Country,
    pem: &str,
    operator_signature: &str,
) -> Result<Thumbprint, CertificateError> {
    let der = Certificate::der_of_pem(pem).map_err(|_| CertificateError::NotACertificate)?;
    let certificate = Certificate::from_der(&der);
    let certificate = certificate.map_err(|_| CertificateError::NotACertificate)?;
    if certificate.country() != Ok(country) {
        return Err(CertificateError::Country(country));
    }
    if !anchors.verify(pem.as_bytes(), operator_signature) {
        return Err(CertificateError::OperatorSignature);
    }
    Ok(certificate.thumbprint())
}

/// The certificate in a PEM text as BouncyCastle writes it: IT compares the text that an audit
/// shows with what it writes itself, and drops all keys of a country where they differ.
///
/// # Errors
/// [`CertificateError::NotACertificate`] when the text is not the PEM of one certificate.
pub fn canonical_pem(pem: &str) -> Result<String, CertificateError> {
    let der = Certificate::der_of_pem(pem).map_err(|_| CertificateError::NotACertificate)?;
    Ok(Certificate::canonical_pem(der))
}
