//! Who uploaded the keys of a download batch, and whether that is proven (wire §15).
//!
//! Keys are cut by the audit: entries in order, the reader's own left out wherever they stand, `amount`
//! keys for each. The reference mixes uploads that were stored at the same time, so where that order does
//! not verify, each country's keys are cut by themselves, as IT does: they are distinguished by their origin.
//! Two uploads of one country that are mixed with one another cannot be distinguished; they are unproven.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;
use testkit::digest::sha256;
use testkit::protocol::signed_bytes;

use crate::diagnosis_key::{DiagnosisKey, encode};
use crate::signature::{Content, SignatureError, SigningCertificate};

/// Which certificate of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one that the upload was sent with.
    Uploader,
    /// The one that it was signed with.
    Signer,
}

/// Why an upload is not proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// The batch has fewer keys than the audit says.
    #[error("the batch has fewer keys than its audit says")]
    TooFewKeys,
    /// A member is missing or null, as in the reference when a certificate was deleted.
    #[error("the audit's entry is not complete")]
    Incomplete,
    /// Not the PEM of one certificate with a key that is in use.
    #[error("{0:?}: not a certificate")]
    Certificate(Role),
    /// The thumbprint beside it is another one.
    #[error("{0:?}: the thumbprint is that of another certificate")]
    Thumbprint(Role),
    /// The operator's signature over the PEM is missing or wrong.
    #[error("{0:?}: no valid signature of a trust anchor")]
    OperatorSignature(Role),
    /// The certificate is another country's.
    #[error("{0:?}: the certificate is another country's")]
    Country(Role),
    /// A key's origin is not the entry's country.
    #[error("a key originates in another country")]
    Origin,
    /// The batch signature is not the signing certificate's over these keys.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// One upload of a download batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditedUpload {
    /// Who uploaded it.
    pub country: String,
    /// Its keys.
    pub keys: Vec<DiagnosisKey>,
    /// Whether certificates and signature prove it.
    pub proof: Result<(), Unproven>,
}

/// A download batch, cut by its audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditedBatch {
    /// The uploads of others, in the order of the audit.
    pub uploads: Vec<AuditedUpload>,
    /// Keys that no entry of the audit accounts for.
    pub unaccounted: Vec<DiagnosisKey>,
}

impl AuditedBatch {
    /// Whether every key of the batch is proven.
    pub fn is_proven(&self) -> bool {
        self.unaccounted.is_empty() && self.uploads.iter().all(|upload| upload.proof.is_ok())
    }
}

/// The audit cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the audit is not a JSON array of entries")]
pub struct UnreadableAudit(#[from] serde_json::Error);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    country: String,
    amount: usize,
    uploader_certificate: Option<String>,
    uploader_thumbprint: Option<String>,
    uploader_operator_signature: Option<String>,
    signing_certificate: Option<String>,
    uploader_signing_thumbprint: Option<String>,
    signing_certificate_operator_signature: Option<String>,
    batch_signature: Option<String>,
}

/// Verifies download batches against the certificates of the trust anchors.
pub struct Auditor {
    anchors: Vec<SigningCertificate>,
    country: String,
}

impl Auditor {
    /// For batches that `country` downloads; certificates must be signed by one of these trust anchors.
    /// There are several while the operator changes from one to the next.
    pub fn new(anchors: Vec<SigningCertificate>, country: &str) -> Self {
        Self {
            anchors,
            country: country.to_owned(),
        }
    }

    /// Verifies a batch: its keys as downloaded, and its audit in JSON.
    ///
    /// # Errors
    /// When the audit cannot be read. What is not proven is no error, but says so.
    pub fn verify(
        &self,
        keys: &[DiagnosisKey],
        audit: &[u8],
    ) -> Result<AuditedBatch, UnreadableAudit> {
        let entries: Vec<Entry> = serde_json::from_slice(audit)?;
        let others: Vec<_> = entries
            .into_iter()
            .filter(|entry| entry.country != self.country)
            .collect();
        let in_order = self.cut(&others, &mut InOrder(keys));
        if in_order.is_proven() {
            return Ok(in_order);
        }
        let by_origin = self.cut(&others, &mut ByOrigin::new(keys));
        let proven = |batch: &AuditedBatch| {
            let uploads = batch.uploads.iter();
            uploads.filter(|upload| upload.proof.is_ok()).count()
        };
        Ok(if proven(&by_origin) > proven(&in_order) {
            by_origin
        } else {
            in_order
        })
    }

    fn cut(&self, entries: &[Entry], keys: &mut dyn Cut) -> AuditedBatch {
        let mut uploads = Vec::new();
        for entry in entries {
            let (keys, proof) = match keys.take(entry) {
                Some(keys) => {
                    let proof = self.prove(entry, &keys);
                    (keys, proof)
                }
                None => (Vec::new(), Err(Unproven::TooFewKeys)),
            };
            uploads.push(AuditedUpload {
                country: entry.country.clone(),
                keys,
                proof,
            });
        }
        AuditedBatch {
            uploads,
            unaccounted: keys.rest(),
        }
    }

    fn prove(&self, entry: &Entry, keys: &[DiagnosisKey]) -> Result<(), Unproven> {
        if keys.iter().any(|key| key.origin != entry.country) {
            return Err(Unproven::Origin);
        }
        self.certificate(entry, Role::Uploader)?;
        let signer = self.certificate(entry, Role::Signer)?;
        let signature = entry.batch_signature.as_ref().ok_or(Unproven::Incomplete)?;
        let cms = decode_base64(signature).ok_or(SignatureError::Shape)?;
        let canonical = signed_bytes(&encode(keys)).map_err(|_| SignatureError::Digest)?;
        Ok(signer.check(&cms, Content::Bytes(&canonical))?)
    }

    fn certificate(&self, entry: &Entry, role: Role) -> Result<SigningCertificate, Unproven> {
        let shown = match role {
            Role::Uploader => (
                &entry.uploader_certificate,
                &entry.uploader_thumbprint,
                &entry.uploader_operator_signature,
            ),
            Role::Signer => (
                &entry.signing_certificate,
                &entry.uploader_signing_thumbprint,
                &entry.signing_certificate_operator_signature,
            ),
        };
        let (Some(pem), Some(thumbprint), Some(signature)) = shown else {
            return Err(Unproven::Incomplete);
        };
        let der = der_of_pem(pem).ok_or(Unproven::Certificate(role))?;
        let certificate = SigningCertificate::from_der(&der);
        let certificate = certificate.map_err(|_| Unproven::Certificate(role))?;
        if !is_thumbprint(thumbprint, &sha256(&der)) {
            return Err(Unproven::Thumbprint(role));
        }
        let signature = decode_base64(signature).unwrap_or_default();
        let has_signed =
            |anchor: &SigningCertificate| anchor.has_signed(pem.as_bytes(), &signature);
        if !self.anchors.iter().any(has_signed) {
            return Err(Unproven::OperatorSignature(role));
        }
        match certificate.countries == [entry.country.as_str()] {
            true => Ok(certificate),
            false => Err(Unproven::Country(role)),
        }
    }
}

impl fmt::Debug for Auditor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auditor")
            .field("country", &self.country)
            .field("anchors", &self.anchors)
            .finish()
    }
}

/// A way to cut a batch into its uploads.
trait Cut {
    fn take(&mut self, entry: &Entry) -> Option<Vec<DiagnosisKey>>;
    fn rest(&mut self) -> Vec<DiagnosisKey>;
}

/// One upload behind the other.
struct InOrder<'a>(&'a [DiagnosisKey]);

impl Cut for InOrder<'_> {
    fn take(&mut self, entry: &Entry) -> Option<Vec<DiagnosisKey>> {
        let (taken, rest) = self.0.split_at_checked(entry.amount)?;
        self.0 = rest;
        Some(taken.to_vec())
    }

    fn rest(&mut self) -> Vec<DiagnosisKey> {
        self.0.to_vec()
    }
}

/// Each country's keys by themselves.
struct ByOrigin(HashMap<String, Vec<DiagnosisKey>>);

impl ByOrigin {
    fn new(keys: &[DiagnosisKey]) -> Self {
        let mut by_origin: HashMap<_, Vec<_>> = HashMap::new();
        for key in keys {
            let same: &mut Vec<_> = by_origin.entry(key.origin.clone()).or_default();
            same.push(key.clone());
        }
        Self(by_origin)
    }
}

impl Cut for ByOrigin {
    fn take(&mut self, entry: &Entry) -> Option<Vec<DiagnosisKey>> {
        let of_country = self.0.entry(entry.country.clone()).or_default();
        let is_enough = entry.amount <= of_country.len();
        is_enough.then(|| of_country.drain(..entry.amount).collect())
    }

    fn rest(&mut self) -> Vec<DiagnosisKey> {
        self.0.drain().flat_map(|(_, keys)| keys).collect()
    }
}

/// Hexadecimal in any case; the reference leaves out zeros at the beginning (wire §4.1).
fn is_thumbprint(text: &str, expected: &[u8; 32]) -> bool {
    let hex: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
    let without_zeros = |text: &str| text.trim_start_matches('0').to_ascii_lowercase();
    text.len() <= hex.len() && without_zeros(text) == without_zeros(&hex)
}

/// Standard base64, padded or not.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let engine = if text.ends_with('=') {
        STANDARD
    } else {
        STANDARD_NO_PAD
    };
    engine.decode(text.trim()).ok()
}

fn der_of_pem(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
    let (text, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let text: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(text).ok()
}
