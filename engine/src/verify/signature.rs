//! Verify: the batch signature is the uploader's, over exactly these keys.
//!
//! - *In*: [`SignatureCheck`]: the header as sent, the ordered canonical text and its SHA-256, the
//!   keys, the certificate list, the clock.
//! - *Out*: the signer's [`Thumbprint`].
//! - *Refuses*: [`SignatureError`], for the first of these that does not hold (wire §10):
//!   base64, CMS, one signer, its certificate inside, valid now, listed for its country, its row
//!   without fault, not revoked, all keys of its country, the signature itself.
//! - *Assumes*: the caller compares the country with the uploader's
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
    /// The certificate is of another country than the uploader.
    #[error("the signing certificate is of another country than the uploader")]
    OtherCountry(Thumbprint),
    /// A key originates elsewhere than in the signer's country.
    #[error("key {index} does not originate in the signer's country")]
    ForeignOrigin {
        /// Zero-based position in the request.
        index: u32,
        /// The certificate that signed.
        signer: Signer,
    },
    /// A signature or digest algorithm, or a kind of key, outside decision 8.
    #[error("the signature algorithm is not supported")]
    UnsupportedAlgorithm,
    /// MD5; or SHA-1, and the operator has not allowed it for this participant.
    #[error(
        "the signature uses MD5, or SHA-1 and the operator has not listed the participant in [signatures] legacy_sha1"
    )]
    WeakDigest,
    /// RSA-PSS, and the operator has not allowed it for this participant.
    #[error(
        "the signature uses RSA-PSS, and the operator has not listed the participant in [signatures] pss"
    )]
    PssNotAllowed,
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
            Self::OtherCountry(_) => "signer_country",
            Self::ForeignOrigin { .. } => "origin_mismatch",
            Self::UnsupportedAlgorithm => "unsupported_algorithm",
            Self::WeakDigest => "weak_digest",
            Self::PssNotAllowed => "pss_not_allowed",
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

/// What the operator allows a participant to sign with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exceptions {
    /// SHA-1: `[signatures] legacy_sha1`.
    pub sha1: bool,
    /// RSA-PSS, which the reference, and verifiers built like it, do not know: `[signatures] pss`.
    pub pss: bool,
}

/// The certificate that a batch was signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signer {
    /// The certificate.
    pub thumbprint: Thumbprint,
    /// The country of its subject, for which it is listed.
    pub country: Country,
}

/// What a batch signature is checked against.
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
    /// What this participant may sign with, in addition to what everybody may.
    pub exceptions: Exceptions,
    /// The certificate list.
    pub trust: &'a Trust,
    /// The clock.
    pub now: UnixMillis,
}

/// Checks a batch signature; returns the signer.
///
/// # Errors
/// [`SignatureError`]: the first thing that is wrong.
pub fn check_signature(check: &SignatureCheck<'_>) -> Result<Signer, SignatureError> {
    let bytes = decode_base64(check.batch_signature)?;
    let message = SignedMessage::parse(&bytes)?;
    let certificate = message
        .signer_certificate()
        .ok_or(SignatureError::NoCertificate)?;
    check_validity(&certificate, check.now)?;
    let country = certificate
        .country()
        .map_err(|_| SignatureError::NoCountry)?;
    let signer = Signer {
        thumbprint: check_listed(&certificate, country, check.trust)?,
        country,
    };
    check_origins(check.keys, country).map_err(|mismatch| SignatureError::ForeignOrigin {
        index: mismatch.index,
        signer,
    })?;
    check_cryptography(check, &message, &certificate)?;
    Ok(signer)
}

/// Standard base64, its padding whole or left out: `java.util.Base64`, which the reference decodes
/// with, takes both.
pub(super) fn decode_base64(header: &str) -> Result<Vec<u8>, SignatureError> {
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
    if !listed.is_intact() {
        Err(SignatureError::BrokenRow(thumbprint))
    } else if listed.is_revoked() {
        Err(SignatureError::RevokedCertificate(thumbprint))
    } else {
        Ok(thumbprint)
    }
}

/// The algorithms are good enough, and the signature is the certificate's over the content.
///
/// As BouncyCastle does it, two hashes may be involved. Over signed attributes the signature is made
/// with the hash that `signatureAlgorithm` names, otherwise with that of `digestAlgorithm`, which is the
/// hash of the content; IE's client names two different ones. Over the content itself
/// `digestAlgorithm` decides, whatever `signatureAlgorithm` names. PSS names one hash for everything.
fn check_cryptography(
    check: &SignatureCheck<'_>,
    message: &SignedMessage<'_>,
    certificate: &Certificate<'_>,
) -> Result<(), SignatureError> {
    let signer = message.signer();
    let content_hash = Hash::of(&signer.digest_algorithm);
    let content_hash = content_hash.ok_or(SignatureError::UnsupportedAlgorithm)?;
    let algorithm = SignatureAlgorithm::of(&signer.signature_algorithm)?;
    let is_pss = matches!(algorithm.scheme, Scheme::Pss { .. });
    if is_pss && !check.exceptions.pss {
        return Err(SignatureError::PssNotAllowed);
    }
    let signature = SignatureValue {
        scheme: algorithm.scheme,
        certificate,
        bytes: message.signature(),
        sha1_allowed: check.exceptions.sha1,
    };
    let named_hash = algorithm.hash.unwrap_or(content_hash);
    match &signer.signed_attributes {
        None => {
            let hash = if is_pss { named_hash } else { content_hash };
            signature.verify(hash, || content_digest(check, hash))
        }
        Some(attributes) => {
            check_allowed(content_hash, check.exceptions.sha1)?;
            check_attributes(message, attributes, certificate)?;
            check_message_digest(attributes, content_digest(check, content_hash))?;
            signature.verify(named_hash, || named_hash.digest(&attributes.der))
        }
    }
}

/// The signed digest is that of the content.
fn check_message_digest(
    attributes: &SignedAttributes,
    content: Option<Digest>,
) -> Result<(), SignatureError> {
    let message_digest = attributes.message_digest();
    let message_digest = message_digest.map_err(|_| SignatureError::SignedAttributes)?;
    match content {
        Some(content) if content.as_ref() == message_digest => Ok(()),
        _ => Err(SignatureError::DigestMismatch),
    }
}

/// What RFC 5652 §5.3 and §11 demand of signed attributes, and BouncyCastle enforces.
fn check_attributes(
    message: &SignedMessage<'_>,
    attributes: &SignedAttributes,
    certificate: &Certificate<'_>,
) -> Result<(), SignatureError> {
    let broken = |_| SignatureError::SignedAttributes;
    if attributes.content_type().map_err(broken)? != message.content_type() {
        return Err(SignatureError::SignedAttributes);
    }
    attributes.message_digest().map_err(broken)?;
    attributes.check_countersignature().map_err(broken)?;
    attributes
        .check_algorithm_protection(message.signer())
        .map_err(broken)?;
    match attributes.signing_time().map_err(broken)? {
        Some(time) if !certificate.validity().contains(&time) => Err(SignatureError::SigningTime),
        _ => Ok(()),
    }
}

/// A signature value, and what it is verified with.
struct SignatureValue<'a> {
    scheme: Scheme,
    certificate: &'a Certificate<'a>,
    bytes: &'a [u8],
    sha1_allowed: bool,
}

impl SignatureValue<'_> {
    /// Verifies it over a digest that is made with `hash`, if that is good enough.
    fn verify(
        &self,
        hash: Hash,
        digest: impl FnOnce() -> Option<Digest>,
    ) -> Result<(), SignatureError> {
        let key = self.certificate.public_key()?;
        check_allowed(hash, self.sha1_allowed)?;
        let digest = digest().ok_or(SignatureError::WeakDigest)?;
        Ok(key.verify(self.scheme, hash, &digest, self.bytes)?)
    }
}

const fn check_allowed(hash: Hash, sha1_allowed: bool) -> Result<(), SignatureError> {
    match hash {
        Hash::Md5 => Err(SignatureError::WeakDigest),
        Hash::Sha1 if !sha1_allowed => Err(SignatureError::WeakDigest),
        Hash::Sha1 | Hash::Sha256 | Hash::Sha384 | Hash::Sha512 => Ok(()),
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
