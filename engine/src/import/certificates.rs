//! Certificates of the reference: those that `efgs cert add` would take.

use std::collections::HashMap;

use super::note::Note;
use super::{ImportError, Run, reading, thumbprint};
use crate::admin::{canonical_pem, check_certificate};
use crate::domain::{CertificateKind, Country, Thumbprint, UnixMillis};
use crate::pki::Certificate;
use crate::pki::algorithm::KeyError;
use crate::store::ReferenceCertificate;
use crate::trust::{CertificateRow, Trust, TrustAnchors};

impl Run<'_> {
    /// The rows to import. What cannot be used is left out; what the operator should see to is
    /// told.
    pub(super) fn read_certificates(
        &mut self,
        now: UnixMillis,
        anchors: &TrustAnchors,
    ) -> Result<Vec<CertificateRow>, ImportError> {
        let mut rows = Vec::new();
        for found in self.reference.certificates().map_err(reading)? {
            match certificate(&found, anchors, now) {
                Ok(row) => rows.push(row),
                Err(why) => {
                    self.imported.left_out_certificates += 1;
                    self.note(Note::CertificateLeftOut {
                        thumbprint: found.thumbprint,
                        country: found.country,
                        why,
                    });
                }
            }
        }
        let mut uses: HashMap<Thumbprint, u32> = HashMap::new();
        for row in &rows {
            let count = uses.entry(row.thumbprint).or_default();
            *count += 1;
            if *count == 2 {
                self.note(Note::CertificateForTwoUses(row.thumbprint));
            }
            for problem in problems(row, now) {
                self.note(problem);
            }
        }
        self.trust = trust_when_uploaded(&rows, anchors);
        let revoked = rows.iter().filter(|row| row.revoked_at.is_some());
        self.imported.revoked_certificates = revoked.count() as u64;
        self.imported.certificates = rows.len() as u64;
        Ok(rows)
    }
}

/// The list that uploads are verified against. It ignores revocations: the reference does not say
/// when a certificate was revoked, and it took these uploads while theirs was not.
fn trust_when_uploaded(rows: &[CertificateRow], anchors: &TrustAnchors) -> Trust {
    let unrevoked = rows.iter().map(|row| CertificateRow {
        revoked_at: None,
        ..row.clone()
    });
    Trust::load(unrevoked, anchors, None)
}

/// A row as `efgs cert add` would list it, or why it would not.
fn certificate(
    found: &ReferenceCertificate,
    anchors: &TrustAnchors,
    now: UnixMillis,
) -> Result<CertificateRow, String> {
    let country = Country::parse(&found.country).map_err(|_| "it has no country of two letters")?;
    let kind = CertificateKind::from_name(&found.kind);
    let kind = kind.ok_or_else(|| format!("{:?} is no kind of certificate", found.kind))?;
    let checked = check_certificate(anchors, country, &found.pem, &found.signature);
    let checked = checked.map_err(|error| error.to_string())?;
    if thumbprint(&found.thumbprint) != Some(checked) {
        return Err("its thumbprint is another".to_owned());
    }
    Ok(CertificateRow {
        thumbprint: checked,
        country,
        kind,
        pem: found.pem.as_str().into(),
        operator_signature: found.signature.as_str().into(),
        // The reference does not know since when.
        revoked_at: found.revoked.then_some(now),
    })
}

/// What is wrong with a certificate that is listed nevertheless: its country's keys, or their
/// audits, need it. A revoked one is not used any more.
fn problems(row: &CertificateRow, now: UnixMillis) -> Vec<Note> {
    let mut notes = Vec::new();
    let der = Certificate::der_of_pem(&row.pem).unwrap_or_default();
    let Ok(certificate) = Certificate::from_der(&der) else {
        return notes;
    };
    let is_signing = row.kind == CertificateKind::Signing;
    if is_signing && !is_canonical(&row.pem) {
        notes.push(Note::CertificateNotCanonical(row.thumbprint));
    }
    if row.revoked_at.is_some() {
        return notes;
    }
    let now = i64::try_from(now.seconds()).unwrap_or(i64::MAX);
    if *certificate.validity().end() < now {
        notes.push(Note::CertificateExpired(row.thumbprint));
    }
    match certificate.public_key() {
        Err(KeyError::Weak) if is_signing => notes.push(Note::CertificateWeak(row.thumbprint)),
        Err(_) if is_signing => notes.push(Note::CertificateUnsupported(row.thumbprint)),
        _ => {}
    }
    notes
}

fn is_canonical(pem: &str) -> bool {
    canonical_pem(pem).is_ok_and(|canonical| canonical == pem)
}
