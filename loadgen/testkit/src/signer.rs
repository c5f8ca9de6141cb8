//! Batch signatures as national backends make them: detached CMS `SignedData` over the signed
//! bytes of a batch (wire §9 and §10).

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::domain::UnixMillis;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::der::{NULL, element, indefinite, oid, tag};

/// Why a certificate and a key cannot be used to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// The certificate is not an X.509 certificate.
    #[error("the signing certificate is not X.509 in DER")]
    Certificate,
    /// The key is neither RSA (2048 bits or more) nor P-256.
    #[error("the signing key is neither RSA (2048 bits or more) nor P-256")]
    Key,
    /// RSA-PSS with another kind of key.
    #[error("only an RSA key signs with RSA-PSS")]
    NotRsa,
}

/// How the `SignedData` is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// DER, as OpenSSL writes.
    #[default]
    Der,
    /// Indefinite lengths around the outer structures, as BouncyCastle writes.
    BerIndefinite,
}

enum SigningKey {
    Rsa(RsaKeyPair),
    RsaPss(RsaKeyPair),
    EcdsaP256(EcdsaKeyPair),
}

/// A participant's signing certificate and key, parsed once.
pub struct Signer {
    key: SigningKey,
    certificate: Vec<u8>,
    issuer_and_serial: Vec<u8>,
}

impl Signer {
    /// Takes a certificate in DER and its private key in PKCS#8, PKCS#1 or SEC 1.
    ///
    /// # Errors
    /// [`SignerError`] when either is something else. Whether they belong together is not checked.
    pub fn new(certificate: &[u8], private_key: &[u8]) -> Result<Self, SignerError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| SignerError::Certificate)?;
        let serial = element(tag::INTEGER, &[parsed.raw_serial()]);
        Ok(Self {
            key: read_key(private_key)?,
            certificate: certificate.to_vec(),
            issuer_and_serial: element(tag::SEQUENCE, &[parsed.issuer().as_raw(), &serial]),
        })
    }

    /// Signs with RSA-PSS (SHA-256, MGF1 of the same, a salt of 32 bytes) from now on.
    ///
    /// # Errors
    /// [`SignerError::NotRsa`].
    pub fn with_pss(self) -> Result<Self, SignerError> {
        let key = match self.key {
            SigningKey::Rsa(key) | SigningKey::RsaPss(key) => SigningKey::RsaPss(key),
            SigningKey::EcdsaP256(_) => return Err(SignerError::NotRsa),
        };
        Ok(Self { key, ..self })
    }

    /// Whether the certificate is that of the key.
    pub fn is_consistent(&self) -> bool {
        let own = match &self.key {
            SigningKey::Rsa(key) | SigningKey::RsaPss(key) => key.public_key().as_ref(),
            SigningKey::EcdsaP256(key) => key.public_key().as_ref(),
        };
        let parsed = X509Certificate::from_der(&self.certificate);
        parsed.is_ok_and(|(_, parsed)| &*parsed.public_key().subject_public_key.data == own)
    }

    /// The signing certificate, in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// A detached `SignedData` over `signed_bytes` with signed attributes (content type, signing
    /// time, message digest), SHA-256, and the certificate embedded.
    pub fn sign(&self, signed_bytes: &[u8], at: UnixMillis, encoding: Encoding) -> Vec<u8> {
        self.sign_digest(digest(&SHA256, signed_bytes).as_ref(), at, encoding)
    }

    /// The same, given the SHA-256 of the signed bytes.
    pub(crate) fn sign_digest(&self, digest: &[u8], at: UnixMillis, encoding: Encoding) -> Vec<u8> {
        let attributes = signed_attributes(digest, at);
        let to_sign = element(tag::SET, &[&attributes]);
        let signer_info = element(
            tag::SEQUENCE,
            &[
                &[tag::INTEGER, 1, 1],
                &self.issuer_and_serial,
                &digest_algorithm(),
                &element(tag::CONTEXT_0, &[&attributes]),
                &self.signature_algorithm(),
                &element(tag::OCTET_STRING, &[&self.raw_signature(&to_sign)]),
            ],
        );
        self.wrap(&signer_info, encoding)
    }

    /// The same in base64, as the header `batchSignature` carries it.
    pub fn sign_base64(&self, signed_bytes: &[u8], at: UnixMillis, encoding: Encoding) -> String {
        STANDARD.encode(self.sign(signed_bytes, at, encoding))
    }

    fn wrap(&self, signer_info: &[u8], encoding: Encoding) -> Vec<u8> {
        let outer = match encoding {
            Encoding::Der => element,
            Encoding::BerIndefinite => indefinite,
        };
        let data = element(tag::OBJECT_IDENTIFIER, &[oid::DATA]);
        let signed_data = outer(
            tag::SEQUENCE,
            &[
                &[tag::INTEGER, 1, 1],
                &element(tag::SET, &[&digest_algorithm()]),
                &element(tag::SEQUENCE, &[&data]),
                &outer(tag::CONTEXT_0, &[&self.certificate]),
                &element(tag::SET, &[signer_info]),
            ],
        );
        let content_type = element(tag::OBJECT_IDENTIFIER, &[oid::SIGNED_DATA]);
        let content = outer(tag::CONTEXT_0, &[&signed_data]);
        outer(tag::SEQUENCE, &[&content_type, &content])
    }

    fn signature_algorithm(&self) -> Vec<u8> {
        match self.key {
            SigningKey::Rsa(_) => algorithm(oid::RSA_ENCRYPTION, NULL),
            SigningKey::RsaPss(_) => algorithm(oid::RSA_PSS, &pss_parameters()),
            SigningKey::EcdsaP256(_) => algorithm(oid::ECDSA_WITH_SHA256, &[]),
        }
    }

    fn raw_signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |key: &RsaKeyPair, padding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(padding, &random, message, &mut signature)
                .expect("a parsed RSA key signs");
            signature
        };
        match &self.key {
            SigningKey::Rsa(key) => rsa(key, &RSA_PKCS1_SHA256),
            SigningKey::RsaPss(key) => rsa(key, &RSA_PSS_SHA256),
            SigningKey::EcdsaP256(key) => {
                let signature = key.sign(&random, message);
                signature
                    .expect("a parsed P-256 key signs")
                    .as_ref()
                    .to_vec()
            }
        }
    }
}

/// Does not show the key.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match self.key {
            SigningKey::Rsa(_) => "RSA",
            SigningKey::RsaPss(_) => "RSA-PSS",
            SigningKey::EcdsaP256(_) => "P-256",
        };
        f.debug_struct("Signer")
            .field("key", &key)
            .finish_non_exhaustive()
    }
}

fn read_key(der: &[u8]) -> Result<SigningKey, SignerError> {
    let p256 = &ECDSA_P256_SHA256_ASN1_SIGNING;
    if let Ok(key) = EcdsaKeyPair::from_private_key_der(p256, der) {
        return Ok(SigningKey::EcdsaP256(key));
    }
    RsaKeyPair::from_pkcs8(der)
        .or_else(|_| RsaKeyPair::from_der(der))
        .map(SigningKey::Rsa)
        .map_err(|_| SignerError::Key)
}

fn algorithm(identifier: &[u8], parameters: &[u8]) -> Vec<u8> {
    let identifier = element(tag::OBJECT_IDENTIFIER, &[identifier]);
    element(tag::SEQUENCE, &[&identifier, parameters])
}

/// RFC 4055 §3.1: SHA-256, MGF1 with SHA-256, a salt as long as the hash.
fn pss_parameters() -> Vec<u8> {
    let mask = algorithm(oid::MGF1, &digest_algorithm());
    element(
        tag::SEQUENCE,
        &[
            &element(tag::CONTEXT_0, &[&digest_algorithm()]),
            &element(tag::CONTEXT_1, &[&mask]),
            &element(tag::CONTEXT_2, &[&[tag::INTEGER, 1, 32]]),
        ],
    )
}

fn digest_algorithm() -> Vec<u8> {
    algorithm(oid::SHA256, &[])
}

/// The attributes one after the other, in the order of DER's SET OF: here, by their lengths.
fn signed_attributes(digest: &[u8], at: UnixMillis) -> Vec<u8> {
    let content_type = element(tag::OBJECT_IDENTIFIER, &[oid::DATA]);
    let message_digest = element(tag::OCTET_STRING, &[digest]);
    let mut attributes = [
        attribute(oid::CONTENT_TYPE, &content_type),
        attribute(oid::SIGNING_TIME, &signing_time(at)),
        attribute(oid::MESSAGE_DIGEST, &message_digest),
    ];
    attributes.sort();
    attributes.concat()
}

fn attribute(kind: &[u8], value: &[u8]) -> Vec<u8> {
    let kind = element(tag::OBJECT_IDENTIFIER, &[kind]);
    element(tag::SEQUENCE, &[&kind, &element(tag::SET, &[value])])
}

/// `UTCTime` until 2049, `GeneralizedTime` from 2050 (RFC 5652 §11.3).
fn signing_time(at: UnixMillis) -> Vec<u8> {
    const UTC: &[BorrowedFormatItem<'_>] =
        format_description!("[year repr:last_two][month][day][hour][minute][second]Z");
    const GENERALIZED: &[BorrowedFormatItem<'_>] =
        format_description!("[year][month][day][hour][minute][second]Z");
    let at = i64::try_from(at.seconds())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (tag, format) = match at.year() {
        ..2050 => (tag::UTC_TIME, UTC),
        _ => (tag::GENERALIZED_TIME, GENERALIZED),
    };
    let text = at
        .format(format)
        .expect("the format needs date and time, which are there");
    element(tag, &[text.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_signing_time_as_rfc_5652_wants() {
        // `date -u -d 2020-10-06T12:00:01Z +%s`, and the same in 2050.
        assert_eq!(
            signing_time(UnixMillis(1_601_985_601_000)),
            b"\x17\x0d201006120001Z"
        );
        assert_eq!(
            signing_time(UnixMillis(2_548_670_401_000)),
            b"\x18\x0f20501006120001Z"
        );
    }

    #[test]
    fn refuses_what_is_no_certificate_and_no_key() {
        assert_eq!(
            Signer::new(b"x", b"y").unwrap_err(),
            SignerError::Certificate
        );
    }
}
