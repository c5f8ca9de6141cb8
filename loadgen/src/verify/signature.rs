//! Checks a batch signature with the public key of the participant's own certificate: nothing that
//! the gateway says is trusted, and nothing of the gateway's own verification is used.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use rasn::types::{ObjectIdentifier, OctetString, Oid};
use rasn_cms::{ContentInfo, SignedData, SignerInfo};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::workload::sha256;

/// Why a signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not a `SignedData` with one signer and signed attributes.
    #[error("no CMS SignedData with a signer and signed attributes")]
    Shape,
    /// The message digest is not the digest of the content.
    #[error("the message digest is another")]
    Digest,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Signature,
}

/// The certificate is none that batches are signed with here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signing certificate is not X.509 with an RSA or P-256 key")]
pub struct CertificateError;

/// The public key of a signing certificate.
pub struct SigningCertificate {
    algorithm: &'static dyn VerificationAlgorithm,
    public_key: Vec<u8>,
}

impl SigningCertificate {
    /// Takes the public key out of a certificate in DER.
    ///
    /// # Errors
    /// When it is no certificate, or its key is neither RSA nor elliptic.
    pub fn from_der(certificate: &[u8]) -> Result<Self, CertificateError> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError)?;
        let key = parsed.public_key();
        let algorithm: &'static dyn VerificationAlgorithm =
            match key.algorithm.algorithm.to_id_string().as_str() {
                "1.2.840.113549.1.1.1" => &RSA_PKCS1_2048_8192_SHA256,
                "1.2.840.10045.2.1" => &ECDSA_P256_SHA256_ASN1,
                _ => return Err(CertificateError),
            };
        Ok(Self {
            algorithm,
            public_key: key.subject_public_key.data.to_vec(),
        })
    }

    /// Checks a detached `SignedData`, DER or BER, over `signed_bytes`.
    ///
    /// # Errors
    /// [`SignatureError`] when it is no signature of this certificate over these bytes.
    pub fn check(&self, cms: &[u8], signed_bytes: &[u8]) -> Result<(), SignatureError> {
        let signer = read_signer(cms).ok_or(SignatureError::Shape)?;
        let attributes = signer.signed_attrs.as_ref().ok_or(SignatureError::Shape)?;
        if message_digest(&signer).ok_or(SignatureError::Shape)? != sha256(signed_bytes) {
            return Err(SignatureError::Digest);
        }
        // What is signed is the attributes as a SET in DER (RFC 5652 §5.4).
        let signed = rasn::der::encode(attributes).map_err(|_| SignatureError::Shape)?;
        let key = UnparsedPublicKey::new(self.algorithm, &self.public_key);
        key.verify(&signed, &signer.signature)
            .map_err(|_| SignatureError::Signature)
    }
}

impl fmt::Debug for SigningCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningCertificate")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

fn read_signer(cms: &[u8]) -> Option<SignerInfo> {
    let content: ContentInfo = rasn::ber::decode(cms).ok()?;
    let signed: SignedData = rasn::ber::decode(content.content.as_bytes()).ok()?;
    match signed.signer_infos.to_vec().as_slice() {
        [signer] => Some((*signer).clone()),
        _ => None,
    }
}

fn message_digest(signer: &SignerInfo) -> Option<[u8; 32]> {
    let kind = ObjectIdentifier::from(Oid::ISO_MEMBER_BODY_US_RSADSI_PKCS9_MESSAGE_DIGEST);
    let attributes = signer.signed_attrs.as_ref()?.to_vec();
    let attribute = attributes
        .into_iter()
        .find(|attribute| attribute.r#type == kind)?;
    match attribute.values.to_vec().as_slice() {
        [value] => {
            let digest: OctetString = rasn::ber::decode(value.as_bytes()).ok()?;
            digest.as_ref().try_into().ok()
        }
        _ => None,
    }
}
