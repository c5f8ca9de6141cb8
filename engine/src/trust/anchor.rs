//! The trust anchor: the operator's key, which signs every listed certificate.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::Thumbprint;
use crate::pki::algorithm::{Hash, PublicKey, Scheme};
use crate::pki::{Certificate, NotACertificate};

/// The certificate of the trust anchor, with its key.
#[derive(Debug, Clone)]
pub struct TrustAnchor {
    thumbprint: Thumbprint,
    key: PublicKey,
}

/// Why a certificate cannot be the trust anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrustAnchorError {
    /// The text is not the PEM of one certificate.
    #[error("the trust anchor is not the PEM of one X.509 certificate")]
    NotACertificate,
    /// The key is no RSA key of 2048 to 8192 bits and on none of the curves P-256, P-384, P-521.
    #[error("the trust anchor's key is neither RSA of 2048 to 8192 bits nor P-256, P-384 or P-521")]
    Key,
}

impl From<NotACertificate> for TrustAnchorError {
    fn from(_: NotACertificate) -> Self {
        Self::NotACertificate
    }
}

impl TrustAnchor {
    /// Reads the trust anchor's certificate. Its validity and its own signature do not matter.
    ///
    /// # Errors
    /// [`TrustAnchorError`].
    pub fn from_pem(pem: &str) -> Result<Self, TrustAnchorError> {
        let der = Certificate::der_of_pem(pem)?;
        let certificate = Certificate::from_der(&der)?;
        Ok(Self {
            thumbprint: certificate.thumbprint(),
            key: certificate
                .public_key()
                .map_err(|_| TrustAnchorError::Key)?,
        })
    }

    /// SHA-256 of the certificate's DER.
    pub const fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// Whether `operator_signature` (standard base64, white space around it ignored) is the
    /// anchor's signature over exactly these bytes.
    ///
    /// The algorithm follows from the anchor's key, not from how the anchor itself was signed
    /// (defect A-2 of the reference): PKCS#1 v1.5 or ECDSA with SHA-256, which all tools use,
    /// else SHA-384 or SHA-512.
    #[must_use]
    pub fn verify(&self, pem: &[u8], operator_signature: &str) -> bool {
        let Ok(signature) = STANDARD.decode(operator_signature.trim_ascii()) else {
            return false;
        };
        let scheme = match self.key {
            PublicKey::Rsa { .. } => Scheme::Pkcs1,
            PublicKey::Ec { .. } => Scheme::Ecdsa,
        };
        [Hash::Sha256, Hash::Sha384, Hash::Sha512]
            .into_iter()
            .any(|hash| {
                let digest = hash.digest(pem);
                digest.is_some_and(|digest| {
                    self.key.verify(scheme, hash, &digest, &signature).is_ok()
                })
            })
    }
}

/// Why a private key does not sign for the trust anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The text is not the PEM of a PKCS#8 private key.
    #[error("the key is no PKCS#8 PEM (BEGIN PRIVATE KEY): convert it with openssl pkcs8 -topk8")]
    NotPkcs8,
    /// The key is neither RSA nor P-256, or it is broken.
    #[error("the key is neither RSA of 2048 to 8192 bits nor P-256")]
    Key,
}

/// Signs the exact bytes of a certificate's PEM with the trust anchor's private key: PKCS#1 v1.5
/// or ECDSA, with SHA-256. Gives standard base64 in one line.
///
/// # Errors
/// [`SignError`].
pub fn sign(key_pkcs8_pem: &str, pem: &str) -> Result<String, SignError> {
    let key = pem::parse(key_pkcs8_pem).map_err(|_| SignError::NotPkcs8)?;
    if key.tag() != "PRIVATE KEY" {
        return Err(SignError::NotPkcs8);
    }
    let signature = sign_with_rsa(key.contents(), pem.as_bytes())
        .or_else(|| sign_with_p256(key.contents(), pem.as_bytes()));
    signature
        .map(|bytes| STANDARD.encode(bytes))
        .ok_or(SignError::Key)
}

fn sign_with_rsa(pkcs8: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let key = RsaKeyPair::from_pkcs8(pkcs8).ok()?;
    let mut signature = vec![0; key.public_modulus_len()];
    let random = SystemRandom::new();
    key.sign(
        &signature::RSA_PKCS1_SHA256,
        &random,
        message,
        &mut signature,
    )
    .ok()?;
    Some(signature)
}

fn sign_with_p256(pkcs8: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let algorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8).ok()?;
    let signature = key.sign(&SystemRandom::new(), message).ok()?;
    Some(signature.as_ref().to_vec())
}
