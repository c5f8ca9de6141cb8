//! The trust anchors: the operators' keys, of which one has signed each listed certificate.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::Thumbprint;
use crate::pki::algorithm::{Hash, PublicKey, Scheme};
use crate::pki::{Certificate, NotACertificate};

/// How many trust anchors there may be: two while one is replaced by another, and room for more
/// operators. A row that none has signed costs a verification with each when it is loaded.
pub const TRUST_ANCHORS_MAX: usize = 8;

/// The certificates of the trust anchors. Each of their keys may have signed a listed certificate:
/// there are several while one anchor takes the place of another.
#[derive(Debug, Clone)]
pub struct TrustAnchors(Vec<TrustAnchor>);

#[derive(Debug, Clone)]
struct TrustAnchor {
    thumbprint: Thumbprint,
    key: PublicKey,
}

/// Why certificates cannot be trust anchors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrustAnchorError {
    /// The text is not the PEM of certificates.
    #[error("the trust anchor is not the PEM of X.509 certificates")]
    NotACertificate,
    /// A key is no RSA key of 2048 to 8192 bits and on none of the curves P-256, P-384, P-521.
    #[error("the trust anchor's key is neither RSA of 2048 to 8192 bits nor P-256, P-384 or P-521")]
    Key,
    /// There are more than [`TRUST_ANCHORS_MAX`].
    #[error(
        "there are more than {TRUST_ANCHORS_MAX} trust anchors: remove those that are no longer used"
    )]
    TooMany,
}

impl From<NotACertificate> for TrustAnchorError {
    fn from(_: NotACertificate) -> Self {
        Self::NotACertificate
    }
}

impl TrustAnchors {
    /// Reads the certificates of a PEM text, one after another. Their validity and their own
    /// signatures do not matter.
    ///
    /// # Errors
    /// [`TrustAnchorError`].
    pub fn from_pem(pem: &str) -> Result<Self, TrustAnchorError> {
        let ders = Certificate::ders_of_pem(pem)?;
        if ders.len() > TRUST_ANCHORS_MAX {
            return Err(TrustAnchorError::TooMany);
        }
        let anchors = ders.iter().map(|der| TrustAnchor::from_der(der));
        anchors.collect::<Result<_, _>>().map(Self)
    }

    /// SHA-256 of each certificate's DER, in the order of the text.
    pub fn thumbprints(&self) -> impl Iterator<Item = Thumbprint> + '_ {
        self.0.iter().map(|anchor| anchor.thumbprint)
    }

    /// Whether `operator_signature` (standard base64, white space around it ignored) is the
    /// signature of one of the anchors over exactly these bytes.
    #[must_use]
    pub fn verify(&self, pem: &[u8], operator_signature: &str) -> bool {
        let Ok(signature) = STANDARD.decode(operator_signature.trim_ascii()) else {
            return false;
        };
        self.0.iter().any(|anchor| anchor.verify(pem, &signature))
    }
}

impl TrustAnchor {
    fn from_der(der: &[u8]) -> Result<Self, TrustAnchorError> {
        let certificate = Certificate::from_der(der)?;
        let key = certificate.public_key();
        Ok(Self {
            thumbprint: certificate.thumbprint(),
            key: key.map_err(|_| TrustAnchorError::Key)?,
        })
    }

    /// The algorithm follows from the anchor's key, not from how the anchor itself was signed
    /// (defect A-2 of the reference): PKCS#1 v1.5 or ECDSA with SHA-256, which all tools use,
    /// else SHA-384 or SHA-512.
    fn verify(&self, pem: &[u8], signature: &[u8]) -> bool {
        let scheme = match self.key {
            PublicKey::Rsa { .. } => Scheme::Pkcs1,
            PublicKey::Ec { .. } => Scheme::Ecdsa,
        };
        [Hash::Sha256, Hash::Sha384, Hash::Sha512]
            .into_iter()
            .any(|hash| {
                let digest = hash.digest(pem);
                digest
                    .is_some_and(|digest| self.key.verify(scheme, hash, &digest, signature).is_ok())
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
/// or ECDSA, with SHA-256. Returns standard base64 in one line.
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
