//! Verify: the batch signature covers exactly these keys, and the uploader may upload them.
//!
//! - *In*: [`ValidBatch`] and its [`SignedContent`].
//! - *Out*: [`VerifiedBatch`].
//! - *Refuses*: signatures ([`SignatureError`]), those by another country's certificate included;
//!   keys that originate outside the uploader's country.
//! - *Assumes*: the certificate list holds checked rows; the clock is right.
//! - *Runs on*: a CPU job.

mod signature;

pub use signature::{
    Exceptions, SignatureCheck, SignatureError, Signer, ValiditySeconds, check_signature,
};

use crate::domain::{ContentDigest, Thumbprint, UnixMillis};
use crate::error::Rejection;
use crate::upload::{Surroundings, UploadRequest};
use crate::validate::{ValidBatch, check_origins};
use crate::wire::canonical::CanonicalBytes;

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

/// Verifies a batch.
///
/// # Errors
/// [`Rejection::Signature`]; [`Rejection::OriginMismatch`] (wire behaviour §11, rows 11 and 12).
pub fn verify<'a>(
    batch: ValidBatch<'a>,
    content: &SignedContent,
    request: &UploadRequest,
    around: &Surroundings<'_>,
    now: UnixMillis,
) -> Result<VerifiedBatch<'a>, Rejection> {
    let signer = check_signature(&SignatureCheck {
        batch_signature: &request.batch_signature,
        signed_bytes: content.signed_bytes(),
        content: &content.digest,
        keys: batch.keys(),
        exceptions: Exceptions {
            sha1: around.legacy_sha1.contains(&request.country),
            pss: around.pss.contains(&request.country),
        },
        trust: around.trust,
        now,
    })?;
    check_origins(batch.keys(), request.country)?;
    // An upload without keys has no origins that would tell.
    if signer.country != request.country {
        let other = SignatureError::OtherCountry(signer.thumbprint);
        return Err(Rejection::Signature(other));
    }
    Ok(VerifiedBatch {
        batch,
        signer: signer.thumbprint,
        content: content.digest,
    })
}
