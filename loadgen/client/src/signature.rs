//! Checks signatures with the public key of a certificate. It trusts nothing that the gateway says
//! and uses none of the gateway's verification code. It supports what national backends sign with
//! (wire §10): RSA, RSA-PSS with any salt length, ECDSA; also SHA-1, which the gateway may allow to
//! a participant; with or without signed attributes.

use std::fmt;
use std::ops::RangeInclusive;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest as digest_with};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA1_ASN1, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1,
    ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1, ECDSA_P521_SHA256_ASN1,
    ECDSA_P521_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPssSaltLength, UnparsedPublicKey, VerificationAlgorithm,
};
use engine::domain::Thumbprint;
use rasn::types::{ObjectIdentifier, OctetString, Oid};
use rasn_cms::{ContentInfo, SignedData, SignerInfo};
use x509_parser::asn1_rs::Any;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::signature_algorithm::RsaSsaPssParams;

use testkit::digest::sha256;

/// Why a signature is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum SignatureError {
    /// Not a `SignedData` with one signer, or of algorithms that no backend uses.
    #[error("the batch signature is not a CMS SignedData with one signer")]
    Shape,
    /// The message digest is not the digest of the content.
    #[error("the batch signature is over other keys")]
    Digest,
    /// The signature is wrong.
    #[error("the batch signature is wrong")]
    Signature,
}

/// The certificate has an unsupported key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not X.509 with an RSA key or one on P-256, P-384 or P-521")]
pub struct CertificateError;

/// The content of a batch signature.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// The content is not available: the digest that the signature states is taken as it is.
    Unseen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Pkcs1,
    Pss { salt_bytes: u16 },
    P256,
    P384,
    P521,
}

/// A signing certificate: its public key, and its fields.
pub struct SigningCertificate {
    scheme: Scheme,
    public_key: Vec<u8>,
    /// SHA-256 of its DER.
    pub thumbprint: Thumbprint,
    /// The countries that its subject names.
    pub countries: Vec<String>,
    /// First and last second of its validity, since the Unix epoch.
    pub validity: RangeInclusive<i64>,
}

impl SigningCertificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// When it is not a certificate, or its key is neither RSA nor on a curve in use.
    pub fn from_der(certificate: &[u8]) -> Result<Self, CertificateError> {
        let (rest, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| CertificateError)?;
        if !rest.is_empty() {
            return Err(CertificateError);
        }
        let key = parsed.public_key();
        let curve = || key.algorithm.parameters.as_ref()?.as_oid().ok();
        let scheme = match key.algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.1" | "1.2.840.113549.1.1.10" => Scheme::Pkcs1,
            "1.2.840.10045.2.1" => match curve().map(|oid| oid.to_id_string()).as_deref() {
                Some("1.2.840.10045.3.1.7") => Scheme::P256,
                Some("1.3.132.0.34") => Scheme::P384,
                Some("1.3.132.0.35") => Scheme::P521,
                _ => return Err(CertificateError),
            },
            _ => return Err(CertificateError),
        };
        let named = parsed.subject().iter_country();
        let validity = parsed.validity();
        Ok(Self {
            scheme,
            public_key: key.subject_public_key.data.to_vec(),
            thumbprint: Thumbprint(sha256(certificate)),
            countries: named
                .filter_map(|country| country.as_str().ok().map(str::to_owned))
                .collect(),
            validity: validity.not_before.timestamp()..=validity.not_after.timestamp(),
        })
    }

    /// Whether it signed `message` as operators sign certificates: PKCS#1 v1.5 or ECDSA, with
    /// SHA-256, SHA-384 or SHA-512.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        [Hash::Sha256, Hash::Sha384, Hash::Sha512]
            .into_iter()
            .any(|hash| self.verifies(self.scheme, hash, message, signature))
    }

    /// Checks a detached `SignedData`, DER or BER.
    ///
    /// The hash under the signature is the one that `signatureAlgorithm` names, as BouncyCastle
    /// goes by it, or `digestAlgorithm`'s, as OpenSSL does.
    ///
    /// # Errors
    /// [`SignatureError`] when it is not a signature of this certificate over this content.
    pub fn check(&self, cms: &[u8], content: Content<'_>) -> Result<(), SignatureError> {
        let signer = read_signer(cms).ok_or(SignatureError::Shape)?;
        let content_hash = named_hash(&signer.digest_algorithm.algorithm);
        let content_hash = content_hash.ok_or(SignatureError::Shape)?;
        let algorithm = &signer.signature_algorithm.algorithm;
        let scheme = match (self.scheme, is_pss(algorithm)) {
            (Scheme::Pkcs1, true) => {
                let salt_bytes = salt_bytes(&signer).ok_or(SignatureError::Shape)?;
                Scheme::Pss { salt_bytes }
            }
            (scheme, _) => scheme,
        };
        let (signed, hashes) = match (&signer.signed_attrs, content) {
            (Some(attributes), content) => {
                let digest = message_digest(&signer).ok_or(SignatureError::Shape)?;
                if let Content::Bytes(bytes) = content
                    && digest != content_hash.digest(bytes)
                {
                    return Err(SignatureError::Digest);
                }
                // What is signed is the attributes as a SET in DER (RFC 5652 §5.4).
                let signed = rasn::der::encode(attributes).map_err(|_| SignatureError::Shape)?;
                let named = named_hash(algorithm).unwrap_or(content_hash);
                (signed, [named, content_hash])
            }
            (None, Content::Bytes(bytes)) => (bytes.to_vec(), [content_hash; 2]),
            (None, Content::Unseen) => return Ok(()),
        };
        let signature = &signer.signature;
        if hashes
            .into_iter()
            .any(|hash| self.verifies(scheme, hash, &signed, signature))
        {
            Ok(())
        } else {
            Err(SignatureError::Signature)
        }
    }

    fn verifies(&self, scheme: Scheme, hash: Hash, message: &[u8], signature: &[u8]) -> bool {
        if let Scheme::Pss { salt_bytes } = scheme {
            return pss(hash).is_some_and(|parameters| {
                let salt = RsaPssSaltLength::Custom(salt_bytes);
                let parameters = parameters.with_pss_salt_length(salt);
                parameters
                    .verify_sig(&self.public_key, message, signature)
                    .is_ok()
            });
        }
        verification_algorithm(scheme, hash).is_some_and(|algorithm| {
            let key = UnparsedPublicKey::new(algorithm, &self.public_key);
            key.verify(message, signature).is_ok()
        })
    }
}

impl fmt::Debug for SigningCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningCertificate")
            .field("scheme", &self.scheme)
            .field("thumbprint", &self.thumbprint)
            .finish_non_exhaustive()
    }
}

impl Hash {
    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => &SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &SHA256,
            Self::Sha384 => &SHA384,
            Self::Sha512 => &SHA512,
        };
        digest_with(algorithm, bytes).as_ref().to_vec()
    }
}

fn verification_algorithm(
    scheme: Scheme,
    hash: Hash,
) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match (scheme, hash) {
        (Scheme::Pkcs1, Hash::Sha1) => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
        (Scheme::Pkcs1, Hash::Sha256) => &RSA_PKCS1_2048_8192_SHA256,
        (Scheme::Pkcs1, Hash::Sha384) => &RSA_PKCS1_2048_8192_SHA384,
        (Scheme::Pkcs1, Hash::Sha512) => &RSA_PKCS1_2048_8192_SHA512,
        (Scheme::P256, Hash::Sha1) => &ECDSA_P256_SHA1_ASN1,
        (Scheme::P256, Hash::Sha256) => &ECDSA_P256_SHA256_ASN1,
        (Scheme::P256, Hash::Sha384) => &ECDSA_P256_SHA384_ASN1,
        (Scheme::P256, Hash::Sha512) => &ECDSA_P256_SHA512_ASN1,
        (Scheme::P384, Hash::Sha256) => &ECDSA_P384_SHA256_ASN1,
        (Scheme::P384, Hash::Sha384) => &ECDSA_P384_SHA384_ASN1,
        (Scheme::P384, Hash::Sha512) => &ECDSA_P384_SHA512_ASN1,
        (Scheme::P521, Hash::Sha256) => &ECDSA_P521_SHA256_ASN1,
        (Scheme::P521, Hash::Sha384) => &ECDSA_P521_SHA384_ASN1,
        (Scheme::P521, Hash::Sha512) => &ECDSA_P521_SHA512_ASN1,
        (Scheme::P384 | Scheme::P521, Hash::Sha1) | (Scheme::Pss { .. }, _) => return None,
    })
}

/// RSA-PSS with a hash; the salt is the signer's choice.
const fn pss(hash: Hash) -> Option<RsaParameters> {
    match hash {
        Hash::Sha1 => None,
        Hash::Sha256 => Some(RSA_PSS_2048_8192_SHA256),
        Hash::Sha384 => Some(RSA_PSS_2048_8192_SHA384),
        Hash::Sha512 => Some(RSA_PSS_2048_8192_SHA512),
    }
}

/// The length of the salt that the parameters of RSA-PSS name (RFC 4055 §3.1: 20 by default).
fn salt_bytes(signer: &SignerInfo) -> Option<u16> {
    let Some(parameters) = &signer.signature_algorithm.parameters else {
        return Some(20);
    };
    let (_, parameters) = Any::from_der(parameters.as_bytes()).ok()?;
    let parameters = RsaSsaPssParams::try_from(&parameters).ok()?;
    u16::try_from(parameters.salt_length()).ok()
}

/// The hash that an algorithm names: a digest, or RSA or ECDSA with one.
fn named_hash(algorithm: &ObjectIdentifier) -> Option<Hash> {
    let arcs: &[u32] = algorithm;
    Some(match arcs {
        [1, 3, 14, 3, 2, 26] | [1, 2, 840, 113_549, 1, 1, 5] | [1, 2, 840, 10045, 4, 1] => {
            Hash::Sha1
        }
        [2, 16, 840, 1, 101, 3, 4, 2, 1]
        | [1, 2, 840, 113_549, 1, 1, 11]
        | [1, 2, 840, 10045, 4, 3, 2] => Hash::Sha256,
        [2, 16, 840, 1, 101, 3, 4, 2, 2]
        | [1, 2, 840, 113_549, 1, 1, 12]
        | [1, 2, 840, 10045, 4, 3, 3] => Hash::Sha384,
        [2, 16, 840, 1, 101, 3, 4, 2, 3]
        | [1, 2, 840, 113_549, 1, 1, 13]
        | [1, 2, 840, 10045, 4, 3, 4] => Hash::Sha512,
        _ => return None,
    })
}

fn is_pss(algorithm: &ObjectIdentifier) -> bool {
    let arcs: &[u32] = algorithm;
    arcs == [1, 2, 840, 113_549, 1, 1, 10]
}

fn read_signer(cms: &[u8]) -> Option<SignerInfo> {
    let content: ContentInfo = rasn::ber::decode(cms).ok()?;
    let signed: SignedData = rasn::ber::decode(content.content.as_bytes()).ok()?;
    match signed.signer_infos.to_vec().as_slice() {
        [signer] => Some((*signer).clone()),
        _ => None,
    }
}

/// The SHA-256 that a `SignedData` states for its content: identifies an upload before its keys
/// have been seen.
pub fn content_digest(cms: &[u8]) -> Option<[u8; 32]> {
    message_digest(&read_signer(cms)?)?.try_into().ok()
}

fn message_digest(signer: &SignerInfo) -> Option<Vec<u8>> {
    let kind = ObjectIdentifier::from(Oid::ISO_MEMBER_BODY_US_RSADSI_PKCS9_MESSAGE_DIGEST);
    let attributes = signer.signed_attrs.as_ref()?.to_vec();
    let attribute = attributes
        .into_iter()
        .find(|attribute| attribute.r#type == kind)?;
    match attribute.values.to_vec().as_slice() {
        [value] => {
            let digest: OctetString = rasn::ber::decode(value.as_bytes()).ok()?;
            Some(digest.as_ref().to_vec())
        }
        _ => None,
    }
}
