//! Verify (stub, being built).

use crate::decode::DecodedBatch;
use crate::domain::{ContentDigest, Thumbprint, UnixMillis};
use crate::trust::Trust;

/// Why a batch signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The cryptographic check fails.
    #[error("the signature does not verify")]
    Wrong,
}

/// What a batch signature is judged on.
#[derive(Debug)]
pub struct SignatureCheck<'a> {
    /// The header as sent: base64 of a detached CMS `SignedData`.
    pub batch_signature: &'a str,
    /// The ordered canonical text.
    pub signed_bytes: &'a [u8],
    /// SHA-256 of `signed_bytes`: most signatures need no other digest.
    pub content: &'a ContentDigest,
    /// The keys, whose origins must be the signer's country.
    pub keys: &'a DecodedBatch<'a>,
    /// Whether this participant may sign with SHA-1.
    pub sha1_allowed: bool,
    /// The certificate list.
    pub trust: &'a Trust,
    /// The clock.
    pub now: UnixMillis,
}

/// Judges a batch signature; gives the signer's thumbprint.
///
/// # Errors
/// [`SignatureError`].
pub fn check_signature(_check: &SignatureCheck<'_>) -> Result<Thumbprint, SignatureError> {
    Err(SignatureError::Wrong)
}
