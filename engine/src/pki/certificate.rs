//! One X.509 certificate, and what the gateway needs of it.

use std::ops::RangeInclusive;

use aws_lc_rs::digest;
use pem::{EncodeConfig, LineEnding, Pem};
use x509_parser::asn1_rs::Any;
use x509_parser::certificate::{X509Certificate, X509CertificateParser};
use x509_parser::nom::Parser as _;
use x509_parser::prelude::FromDer as _;

use super::algorithm::{KeyError, PublicKey};
use super::ber::{self, Bounds, Types, identifier};
use crate::domain::{Country, Thumbprint};
use crate::limits;

/// The bytes or the text are not exactly one X.509 certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not exactly one X.509 certificate")]
pub struct NotACertificate;

/// The subject does not name exactly one country by two upper-case letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the certificate's subject does not have exactly one C of two upper-case letters")]
pub struct CountryCountError;

/// The subject's key is none whose signatures are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// An RSA modulus shorter than 2048 bits.
    #[error("its RSA key has fewer than 2048 bits")]
    Weak,
    /// Another kind of key, or another curve.
    #[error("its key is neither RSA of 2048 to 8192 bits nor on the curves P-256, P-384 and P-521")]
    Unsupported,
}

/// The subject's public key, as others verify with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubjectKey<'a> {
    /// DER of the `SubjectPublicKeyInfo`.
    pub info: &'a [u8],
    /// Contents of its `AlgorithmIdentifier`.
    pub algorithm: &'a [u8],
    /// Its key: a whole number of bytes.
    pub key: &'a [u8],
}

/// Organization of all subjects of the development PKI that `efgs init` makes: what it is known by.
pub const DEVELOPMENT_ORGANIZATION: &str = "EFGS development";

/// A certificate, borrowed from its DER.
#[derive(Debug)]
pub struct Certificate<'a> {
    der: &'a [u8],
    x509: X509Certificate<'a>,
}

impl<'a> Certificate<'a> {
    /// Reads a certificate that fills `der`. Its own signature is not looked at, nor are its
    /// extensions, but for the subject key identifier: the certificate list is what makes it trusted. Odd
    /// encodings are tolerated where they do not matter, such as negative serial numbers.
    ///
    /// # Errors
    /// [`NotACertificate`].
    pub fn from_der(der: &'a [u8]) -> Result<Self, NotACertificate> {
        ber::check(der, &BOUNDS, Types::Any).map_err(|_| NotACertificate)?;
        let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
        match parser.parse(der) {
            Ok(([], x509)) => Ok(Self { der, x509 }),
            _ => Err(NotACertificate),
        }
    }

    /// The DER in a PEM text that holds exactly one certificate and nothing else encoded.
    ///
    /// # Errors
    /// [`NotACertificate`]; the DER itself is not looked at.
    pub fn der_of_pem(pem: &str) -> Result<Vec<u8>, NotACertificate> {
        let mut blocks = pem::parse_many(pem).map_err(|_| NotACertificate)?;
        match (blocks.pop(), blocks.is_empty()) {
            (Some(block), true) if block.tag() == "CERTIFICATE" => Ok(block.into_contents()),
            _ => Err(NotACertificate),
        }
    }

    /// The DER of each certificate of a PEM text, of which there is one at least.
    ///
    /// # Errors
    /// [`NotACertificate`] when the text has none, or something else than certificates.
    pub fn ders_of_pem(pem: &str) -> Result<Vec<Vec<u8>>, NotACertificate> {
        let blocks = pem::parse_many(pem).map_err(|_| NotACertificate)?;
        if blocks.is_empty() || blocks.iter().any(|block| block.tag() != "CERTIFICATE") {
            return Err(NotACertificate);
        }
        Ok(blocks.into_iter().map(Pem::into_contents).collect())
    }

    /// The PEM of a certificate's DER as BouncyCastle's and OpenSSL's writers write it: 64 columns,
    /// LF, a final LF, nothing around it.
    pub fn canonical_pem(der: Vec<u8>) -> String {
        let form = EncodeConfig::new().set_line_ending(LineEnding::LF);
        pem::encode_config(&Pem::new("CERTIFICATE", der), form)
    }

    /// SHA-256 over the DER, exactly as it is.
    pub fn thumbprint(&self) -> Thumbprint {
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest::digest(&digest::SHA256, self.der).as_ref());
        Thumbprint(thumbprint)
    }

    /// Seconds since the Unix epoch at which the certificate is valid, both ends included
    /// (RFC 5280 §4.1.2.5; the Java gateway leaves the ends out).
    pub fn validity(&self) -> RangeInclusive<i64> {
        let validity = self.x509.validity();
        validity.not_before.timestamp()..=validity.not_after.timestamp()
    }

    /// The country of the subject.
    ///
    /// # Errors
    /// When there is not exactly one, wherever in the name, or it is not two upper-case letters
    /// (ISO 3166 has no others, and origins are compared exactly).
    pub fn country(&self) -> Result<Country, CountryCountError> {
        let mut countries = self.x509.subject().iter_country();
        let (Some(only), None) = (countries.next(), countries.next()) else {
            return Err(CountryCountError);
        };
        let text = only.as_str().map_err(|_| CountryCountError)?;
        match Country::parse(text) {
            Ok(country) if country.as_str() == text => Ok(country),
            _ => Err(CountryCountError),
        }
    }

    /// The subject as a text, for people.
    pub fn subject(&self) -> String {
        self.x509.subject().to_string()
    }

    /// Whether it is of a development PKI, as `efgs init` makes one: its keys lie on a developer's disk.
    pub fn is_for_development(&self) -> bool {
        let mut organizations = self.x509.subject().iter_organization();
        organizations.any(|organization| organization.as_str() == Ok(DEVELOPMENT_ORGANIZATION))
    }

    /// The key of the subject, of whatever kind; nothing if it has a fraction of a byte.
    pub fn subject_key(&self) -> Option<SubjectKey<'a>> {
        let info = self.x509.tbs_certificate.subject_pki.raw;
        let (_, sequence) = Any::from_der(info).ok()?;
        let (rest, algorithm) = Any::from_der(sequence.data).ok()?;
        let key = ber::contents(rest, identifier::BIT_STRING)?.strip_prefix(&[0])?;
        Some(SubjectKey {
            info,
            algorithm: algorithm.data,
            key,
        })
    }

    /// Checks that the subject's key is of a kind that signs batches.
    ///
    /// # Errors
    /// [`SigningKeyError`].
    pub fn check_signing_key(&self) -> Result<(), SigningKeyError> {
        match self.public_key() {
            Ok(_) => Ok(()),
            Err(KeyError::Weak) => Err(SigningKeyError::Weak),
            Err(KeyError::Unsupported | KeyError::Wrong) => Err(SigningKeyError::Unsupported),
        }
    }

    /// The key of the subject, of a kind that signs batches.
    pub(crate) fn public_key(&self) -> Result<PublicKey, KeyError> {
        PublicKey::of(self.x509.public_key())
    }
}

/// A certificate is bounded like the message that brings it.
const BOUNDS: Bounds = Bounds {
    bytes_max: limits::CMS_BYTES_MAX,
    depth_max: limits::CMS_DEPTH_MAX,
    elements_max: limits::CMS_ELEMENTS_MAX,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_pem_of_one_certificate_only() {
        let one = include_str!("../../tests/fixtures/vectors/pki/DE/DE-signing.pem");
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(Certificate::der_of_pem(one).is_ok());
        for other in [
            "",
            key,
            "AAAA",
            &format!("{one}{one}"),
            &format!("{one}{key}"),
        ] {
            assert_eq!(Certificate::der_of_pem(other), Err(NotACertificate));
        }
    }

    #[test]
    fn refuses_bytes_behind_the_certificate() {
        let pem = include_str!("../../tests/fixtures/vectors/pki/DE/DE-signing.pem");
        let mut der = Certificate::der_of_pem(pem).unwrap();
        assert!(Certificate::from_der(&der).is_ok());
        der.push(0);
        assert!(Certificate::from_der(&der).is_err());
    }
}
