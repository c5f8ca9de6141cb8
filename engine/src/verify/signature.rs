//! Verify: the batch signature is the uploader's, over exactly these keys.
//!
//! - *In*: [`SignatureCheck`]: the header as sent, the ordered canonical text and its SHA-256, the
//!   keys, the certificate list, the clock.
//! - *Out*: the signer's [`Thumbprint`].
//! - *Refuses*: [`SignatureError`], for the first of these that does not hold (wire §10):
//!   base64, CMS, one signer, its certificate inside, valid now, listed for its country, intact,
//!   not revoked, all keys of its country, the signature itself.
//! - *Assumes*: whoever calls compares the country with the uploader's
//!   ([`crate::validate::check_origins`]); the list was checked when it was loaded.
//! - *Runs on*: a CPU job.
//!
//! Which algorithms are good enough is decided here; how they are read and computed is in `pki`.

use aws_lc_rs::digest::{self, Digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use crate::decode::DecodedBatch;
use crate::domain::{CertificateKind, ContentDigest, Country, Thumbprint, UnixMillis};
use crate::pki::algorithm::{Hash, KeyError, Scheme, SignatureAlgorithm};
use crate::pki::{Certificate, CmsError, SignedAttributes, SignedMessage};
use crate::trust::Trust;
use crate::validate::check_origins;

/// Why a batch signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header is empty or not standard base64 in one line.
    #[error("the header is not standard base64")]
    NotBase64,
    /// The bytes are not one well-formed CMS `SignedData`, or beyond the bounds of `limits`.
    #[error("not well-formed CMS SignedData within the bounds")]
    NotCms,
    /// The content is inside the signature; it has to be detached.
    #[error("the content is inside the signature")]
    AttachedContent,
    /// There is no `signerInfo`.
    #[error("no signerInfo")]
    NoSigner,
    /// There is more than one `signerInfo`.
    #[error("more than one signerInfo")]
    SeveralSigners,
    /// No embedded certificate matches the signer identifier.
    #[error("the signer's certificate is not inside the signature")]
    NoCertificate,
    /// The clock is before the certificate's validity.
    #[error("the signing certificate is not yet valid")]
    NotYetValid(ValiditySeconds),
    /// The clock is after the certificate's validity.
    #[error("the signing certificate has expired")]
    Expired(ValiditySeconds),
    /// The certificate's subject does not name exactly one country.
    #[error("the signing certificate does not name exactly one country")]
    NoCountry,
    /// The certificate is not listed as signing certificate of its country.
    #[error("the signing certificate is not listed for its country")]
    UnknownCertificate(Thumbprint),
    /// The certificate's row is not covered by the trust anchor, or holds another certificate.
    #[error("the signing certificate's row is not intact")]
    BrokenRow(Thumbprint),
    /// The certificate is listed as revoked.
    #[error("the signing certificate is revoked")]
    RevokedCertificate(Thumbprint),
    /// A key originates elsewhere than in the signer's country.
    #[error("key {index} does not originate in the signer's country")]
    ForeignOrigin {
        /// Zero-based position in the request.
        index: u32,
    },
    /// A signature or digest algorithm, or a kind of key, outside decision 8.
    #[error("the signature algorithm is not supported")]
    UnsupportedAlgorithm,
    /// MD5; or SHA-1, and the operator has not allowed it for this participant.
    #[error("the signature uses MD5, or SHA-1 without being allowed to")]
    WeakDigest,
    /// An RSA modulus shorter than 2048 bits.
    #[error("the signing key has fewer than 2048 bits")]
    WeakKey,
    /// A signed attribute is missing, repeated, malformed or contradicts the rest.
    #[error("the signed attributes are incomplete or contradictory")]
    SignedAttributes,
    /// The signing time lies outside the certificate's validity.
    #[error("the signing time is outside the certificate's validity")]
    SigningTime,
    /// The signed digest is that of other content: keys were changed, or put in another order.
    #[error("the signed digest is not that of these keys")]
    DigestMismatch,
    /// The cryptographic check fails.
    #[error("the signature does not verify")]
    Wrong,
}

/// When a certificate is valid, both ends included, in seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValiditySeconds {
    /// The first second.
    pub not_before: i64,
    /// The last second.
    pub not_after: i64,
}

impl SignatureError {
    /// A stable code, for answers, logs and metric labels.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotBase64 => "bad_base64",
            Self::NotCms => "malformed_cms",
            Self::AttachedContent => "attached_content",
            Self::NoSigner => "no_signer_info",
            Self::SeveralSigners => "multiple_signer_infos",
            Self::NoCertificate => "signer_cert_not_found",
            Self::NotYetValid(_) => "cert_not_yet_valid",
            Self::Expired(_) => "cert_expired",
            Self::NoCountry => "cert_country",
            Self::UnknownCertificate(_) => "cert_unknown",
            Self::BrokenRow(_) => "cert_integrity",
            Self::RevokedCertificate(_) => "cert_revoked",
            Self::ForeignOrigin { .. } => "origin_mismatch",
            Self::UnsupportedAlgorithm => "unsupported_algorithm",
            Self::WeakDigest => "weak_digest",
            Self::WeakKey => "weak_key",
            Self::SignedAttributes => "signed_attrs_invalid",
            Self::SigningTime => "signing_time_invalid",
            Self::DigestMismatch => "digest_mismatch",
            Self::Wrong => "signature_invalid",
        }
    }
}

impl From<CmsError> for SignatureError {
    fn from(error: CmsError) -> Self {
        match error {
            CmsError::Malformed => Self::NotCms,
            CmsError::NoSigner => Self::NoSigner,
            CmsError::SeveralSigners => Self::SeveralSigners,
            CmsError::AttachedContent => Self::AttachedContent,
        }
    }
}

impl From<KeyError> for SignatureError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Weak => Self::WeakKey,
            KeyError::Unsupported => Self::UnsupportedAlgorithm,
            KeyError::Wrong => Self::Wrong,
        }
    }
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
/// [`SignatureError`]: the first thing that is wrong.
pub fn check_signature(check: &SignatureCheck<'_>) -> Result<Thumbprint, SignatureError> {
    let bytes = decode_base64(check.batch_signature)?;
    let message = SignedMessage::parse(&bytes)?;
    let certificate = message
        .signer_certificate()
        .ok_or(SignatureError::NoCertificate)?;
    check_validity(&certificate, check.now)?;
    let country = certificate
        .country()
        .map_err(|_| SignatureError::NoCountry)?;
    let signer = check_listed(&certificate, country, check.trust)?;
    check_origins(check.keys, country).map_err(|mismatch| SignatureError::ForeignOrigin {
        index: mismatch.index,
    })?;
    check_cryptography(check, &message, &certificate)?;
    Ok(signer)
}

/// Standard base64, its padding whole or left out: `java.util.Base64`, which the reference decodes
/// with, takes both.
fn decode_base64(header: &str) -> Result<Vec<u8>, SignatureError> {
    let engine = if header.ends_with('=') {
        STANDARD
    } else {
        STANDARD_NO_PAD
    };
    match engine.decode(header) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(SignatureError::NotBase64),
    }
}

fn check_validity(certificate: &Certificate<'_>, now: UnixMillis) -> Result<(), SignatureError> {
    let now = i64::try_from(now.seconds()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    let validity = ValiditySeconds {
        not_before: *validity.start(),
        not_after: *validity.end(),
    };
    if now < validity.not_before {
        Err(SignatureError::NotYetValid(validity))
    } else if now > validity.not_after {
        Err(SignatureError::Expired(validity))
    } else {
        Ok(())
    }
}

fn check_listed(
    certificate: &Certificate<'_>,
    country: Country,
    trust: &Trust,
) -> Result<Thumbprint, SignatureError> {
    let thumbprint = certificate.thumbprint();
    let listed = trust
        .find(&thumbprint, CertificateKind::Signing)
        .filter(|listed| listed.row.country == country)
        .ok_or(SignatureError::UnknownCertificate(thumbprint))?;
    if !listed.intact {
        Err(SignatureError::BrokenRow(thumbprint))
    } else if listed.is_revoked() {
        Err(SignatureError::RevokedCertificate(thumbprint))
    } else {
        Ok(thumbprint)
    }
}

/// The algorithms are good enough, and the signature is the certificate's over the content.
fn check_cryptography(
    check: &SignatureCheck<'_>,
    message: &SignedMessage,
    certificate: &Certificate<'_>,
) -> Result<(), SignatureError> {
    let signer = message.signer();
    let digest_algorithm = signer.digest_algorithm()?;
    let content_hash = Hash::of(&digest_algorithm).ok_or(SignatureError::UnsupportedAlgorithm)?;
    let algorithm = SignatureAlgorithm::of(&signer.signature_algorithm()?)?;
    let candidates = Candidates {
        algorithm,
        certificate,
        signature: message.signature(),
        sha1_allowed: check.sha1_allowed,
    };
    match &signer.signed_attributes {
        None => candidates.verify(&direct_hashes(algorithm, content_hash), |hash| {
            content_digest(check, hash)
        }),
        Some(attributes) => {
            if !is_allowed(content_hash, check.sha1_allowed) {
                return Err(SignatureError::WeakDigest);
            }
            check_attributes(message, attributes, certificate)?;
            let message_digest = attributes.message_digest();
            let message_digest = message_digest.map_err(|_| SignatureError::SignedAttributes)?;
            let content = content_digest(check, content_hash);
            if content.is_none_or(|content| content.as_ref() != message_digest) {
                return Err(SignatureError::DigestMismatch);
            }
            candidates.verify(&attribute_hashes(algorithm, content_hash), |hash| {
                hash.digest(&attributes.der)
            })
        }
    }
}

/// Hashes that a signature over the content itself may have been made with. The reference goes by
/// `digestAlgorithm`, whatever hash `signatureAlgorithm` names; PSS parameters name one hash for
/// everything.
fn direct_hashes(algorithm: SignatureAlgorithm, content_hash: Hash) -> Vec<Hash> {
    match (algorithm.scheme, algorithm.hash) {
        (Scheme::Pss { .. }, Some(named)) => vec![named],
        _ => vec![content_hash],
    }
}

/// Hashes that a signature over signed attributes may have been made with. The reference goes by
/// `signatureAlgorithm` if that names a hash, OpenSSL by `digestAlgorithm`: IE's client needs the
/// one (wire §10), whoever was tested against OpenSSL may need the other.
fn attribute_hashes(algorithm: SignatureAlgorithm, content_hash: Hash) -> Vec<Hash> {
    match (algorithm.scheme, algorithm.hash) {
        (_, None) => vec![content_hash],
        (Scheme::Pss { .. }, Some(named)) => vec![named],
        (_, Some(named)) if named == content_hash => vec![named],
        (_, Some(named)) => vec![named, content_hash],
    }
}

/// What RFC 5652 §5.3 and §11 demand of signed attributes, and BouncyCastle enforces.
fn check_attributes(
    message: &SignedMessage,
    attributes: &SignedAttributes,
    certificate: &Certificate<'_>,
) -> Result<(), SignatureError> {
    let broken = |_| SignatureError::SignedAttributes;
    if attributes.content_type().map_err(broken)? != message.content_type() {
        return Err(SignatureError::SignedAttributes);
    }
    attributes.message_digest().map_err(broken)?;
    attributes
        .check_algorithm_protection(message.signer())
        .map_err(broken)?;
    match attributes.signing_time().map_err(broken)? {
        Some(time) if !certificate.validity().contains(&time) => Err(SignatureError::SigningTime),
        _ => Ok(()),
    }
}

/// A signature value, and by which hashes it may have been made.
struct Candidates<'a> {
    algorithm: SignatureAlgorithm,
    certificate: &'a Certificate<'a>,
    signature: &'a [u8],
    sha1_allowed: bool,
}

impl Candidates<'_> {
    /// Tries the hashes in turn. One that is not allowed is passed over; if no other verifies,
    /// that is the reason of the refusal.
    fn verify(
        &self,
        hashes: &[Hash],
        digest: impl Fn(Hash) -> Option<Digest>,
    ) -> Result<(), SignatureError> {
        let key = self.certificate.public_key()?;
        let mut refusal = None;
        for &hash in hashes {
            let outcome = match digest(hash) {
                Some(digest) if is_allowed(hash, self.sha1_allowed) => {
                    let scheme = self.algorithm.scheme;
                    key.verify(scheme, hash, &digest, self.signature)
                        .map_err(Into::into)
                }
                _ => Err(SignatureError::WeakDigest),
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.unwrap_or(SignatureError::Wrong))
    }
}

const fn is_allowed(hash: Hash, sha1_allowed: bool) -> bool {
    match hash {
        Hash::Md5 => false,
        Hash::Sha1 => sha1_allowed,
        Hash::Sha256 | Hash::Sha384 | Hash::Sha512 => true,
    }
}

/// The digest of the canonical text. Most signers use SHA-256, which is at hand.
fn content_digest(check: &SignatureCheck<'_>, hash: Hash) -> Option<Digest> {
    match hash {
        Hash::Sha256 => Digest::import_less_safe(&check.content.0, &digest::SHA256).ok(),
        other => other.digest(check.signed_bytes),
    }
}

#[cfg(test)]
mod tests;
