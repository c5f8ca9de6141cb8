//! Verifies that a TLS peer has the key of the certificate that it presents.
//!
//! - *In*: the signed message, the certificate, the signature.
//! - *Out*: nothing; the signature is valid.
//! - *Refuses*: a wrong signature; a certificate or a key that cannot be parsed; algorithms that TLS
//!   does not pair with the key.
//! - *Assumes*: nothing about the certificate but its key. rustls validates all of it by the Web
//!   PKI's rules, and so rejects X.509 version 1, unknown critical extensions and negative serial
//!   numbers; here the certificate list decides who is trusted.
//! - *Runs on*: the tokio thread of the handshake.

use engine::pki::{Certificate, SubjectKey};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};

/// Verifies a signature of a TLS 1.2 handshake. Its scheme does not name a curve: the key decides
/// which of the scheme's algorithms applies.
///
/// # Errors
/// See the module.
pub(crate) fn verify_tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = subject_key(certificate)?;
    let mut schemes = algorithms.mapping.iter();
    let (_, candidates) = schemes
        .find(|(scheme, _)| *scheme == signature.scheme)
        .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    let matching = candidates
        .iter()
        .find(|algorithm| algorithm.public_key_alg_id().as_ref() == key.algorithm);
    let verified = matching.is_some_and(|algorithm| {
        let signature = signature.signature();
        algorithm
            .verify_signature(key.key, message, signature)
            .is_ok()
    });
    if verified {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(CertificateError::BadSignature.into())
    }
}

/// Verifies a signature of a TLS 1.3 handshake.
///
/// # Errors
/// See the module.
pub(crate) fn verify_tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let info = SubjectPublicKeyInfoDer::from(subject_key(certificate)?.info);
    verify_tls13_signature_with_raw_key(message, &info, signature, algorithms)
}

fn subject_key<'a>(certificate: &'a CertificateDer<'_>) -> Result<SubjectKey<'a>, Error> {
    let read = Certificate::from_der(certificate);
    let key = read.ok().and_then(|certificate| certificate.subject_key());
    key.ok_or_else(|| CertificateError::BadEncoding.into())
}
