//! Verify: the batch signature covers exactly these keys, and the uploader may upload them.
//!
//! - *In*: [`ValidBatch`] and its [`SignedContent`].
//! - *Out*: [`VerifiedBatch`].
//! - *Refuses*: signatures ([`SignatureError`]), those by another country's certificate included;
//!   keys that originate outside the uploader's country.
//! - *Assumes*: the certificate list holds checked rows; the clock is right.
//! - *Runs on*: a CPU job.

mod canonical;
mod form;
mod mistake;
mod signature;

pub use canonical::CanonicalBytes;
pub use form::{SignatureDemand, SignatureForm};
pub(crate) use mistake::Mismatch;
pub use mistake::SigningMistake;
pub use signature::{
    Exceptions, SignatureCheck, SignatureError, Signer, ValiditySeconds, check_signature,
};

use std::fmt;

use crate::domain::{ContentDigest, Country, Thumbprint, UnixMillis};
use crate::trust::Trust;
use crate::validate::{OriginMismatch, ValidBatch, check_origins};

/// What a batch signature covers.
#[derive(Debug)]
pub struct SignedContent {
    canonical: CanonicalBytes,
    digest: ContentDigest,
}

impl SignedContent {
    /// The canonical texts.
    pub fn canonical(&self) -> &CanonicalBytes {
        &self.canonical
    }

    /// The texts in signing order.
    pub fn signed_bytes(&self) -> &[u8] {
        self.canonical.as_bytes()
    }

    /// SHA-256 over the signed bytes: the content that an upload tag stands for.
    pub fn digest(&self) -> &ContentDigest {
        &self.digest
    }

    /// For the participant that signed something else.
    pub(crate) fn summary(&self, mistake: Option<SigningMistake>) -> ContentSummary {
        let canonical = &self.canonical;
        let text = |index: &u32| String::from_utf8_lossy(canonical.key(*index as usize)).into();
        ContentSummary {
            sha256: self.digest,
            key_count: canonical.key_count(),
            first_text: canonical.order().first().map(text),
            last_text: canonical.order().last().map(text),
            mistake,
        }
    }
}

/// What the gateway computed from the keys of an upload whose signature covers something else, so
/// that the participant can compare it with what it signed.
///
/// Only for the uploader itself: the texts hold key data, so that `Debug` leaves them out.
#[derive(Clone, PartialEq, Eq)]
pub struct ContentSummary {
    /// SHA-256 over the canonical texts in signing order.
    pub sha256: ContentDigest,
    /// How many keys the upload had.
    pub key_count: usize,
    /// The canonical text of the key that comes first in signing order; none without keys.
    pub first_text: Option<Box<str>>,
    /// The canonical text of the key that comes last in signing order; none without keys.
    pub last_text: Option<Box<str>>,
    /// What was signed instead, if it is one of the usual mistakes.
    pub mistake: Option<SigningMistake>,
}

impl fmt::Debug for ContentSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentSummary")
            .field("key_count", &self.key_count)
            .finish_non_exhaustive()
    }
}

/// Writes, orders and hashes the canonical texts of a batch.
pub fn signed_content(batch: &ValidBatch<'_>) -> SignedContent {
    let canonical = CanonicalBytes::of(batch.keys());
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, canonical.as_bytes());
    let digest = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
    SignedContent {
        canonical,
        digest: ContentDigest(digest),
    }
}

/// A batch whose signature holds. Only [`verify`] makes one.
#[derive(Debug)]
pub struct VerifiedBatch<'a> {
    batch: ValidBatch<'a>,
    signer: Thumbprint,
    content: ContentDigest,
}

impl VerifiedBatch<'_> {
    /// How many keys there are.
    pub fn key_count(&self) -> u32 {
        self.batch.keys().key_count()
    }

    /// The certificate that signed.
    pub fn signer(&self) -> Thumbprint {
        self.signer
    }

    /// SHA-256 over the signed bytes.
    pub fn content(&self) -> ContentDigest {
        self.content
    }

    /// The keys as they will be served: encoded `keys` fields, in upload order, without fields
    /// that are unknown and thus unsigned.
    pub fn encode_segment(&self) -> Vec<u8> {
        self.batch.keys().encode_segment()
    }
}

/// What a batch is verified against.
#[derive(Debug)]
pub struct VerifyContext<'a> {
    /// The uploader's country.
    pub country: Country,
    /// Base64 of a detached CMS `SignedData`, as sent.
    pub batch_signature: &'a str,
    /// What this participant may sign with, in addition to what everybody may.
    pub exceptions: Exceptions,
    /// The certificate list.
    pub trust: &'a Trust,
    /// The clock.
    pub now: UnixMillis,
}

/// Why a batch is not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The batch signature is not acceptable.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A key originates elsewhere than in the uploader's country.
    #[error(transparent)]
    OriginMismatch(#[from] OriginMismatch),
}

/// Verifies a batch.
///
/// # Errors
/// [`VerifyError`] (wire §11.11 and §11.12).
pub fn verify<'a>(
    batch: ValidBatch<'a>,
    content: &SignedContent,
    context: &VerifyContext<'_>,
) -> Result<VerifiedBatch<'a>, VerifyError> {
    let signer = check_signature(&SignatureCheck {
        batch_signature: context.batch_signature,
        signed_bytes: content.signed_bytes(),
        content: &content.digest,
        keys: batch.keys(),
        exceptions: context.exceptions,
        trust: context.trust,
        now: context.now,
    })
    .map_err(|error| match error {
        // The keys may well be the uploader's own: then the certificate is the wrong one.
        SignatureError::ForeignOrigin { signer, .. } if signer.country != context.country => {
            SignatureError::OtherCountry(signer.thumbprint)
        }
        error => error,
    })?;
    check_origins(batch.keys(), context.country)?;
    // An upload without keys has no origins that would tell.
    if signer.country != context.country {
        return Err(SignatureError::OtherCountry(signer.thumbprint).into());
    }
    Ok(VerifiedBatch {
        batch,
        signer: signer.thumbprint,
        content: content.digest,
    })
}
