//! TLS of the public port: accepts every client certificate whose key the client proves to possess.
//!
//! Whether it is listed is decided per request ([`crate::participant`]), with a JSON response, so
//! that an unlisted or revoked participant is told why, and self-signed certificates work.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use engine::domain::Thumbprint;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::possession;

/// The gateway's own certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM, the gateway's certificate first.
    pub certificate_chain_pem: String,
    /// PEM: PKCS#8, PKCS#1 or SEC1.
    pub private_key_pem: String,
}

impl TlsSettings {
    /// Parses the PEM.
    ///
    /// # Errors
    /// [`TlsError::NoCertificate`], [`TlsError::NoPrivateKey`].
    pub(crate) fn parse(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let chain = CertificateDer::pem_slice_iter(self.certificate_chain_pem.as_bytes());
        let chain: Result<Vec<_>, _> = chain.collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or(TlsError::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(self.private_key_pem.as_bytes());
        Ok((chain, key.map_err(|_| TlsError::NoPrivateKey)?))
    }
}

/// Without the private key.
impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings").finish_non_exhaustive()
    }
}

/// Why TLS cannot be offered. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chain is empty or not PEM.
    #[error("the TLS certificate file holds no PEM certificate: put the gateway's chain there")]
    NoCertificate,
    /// The key is missing or not PEM.
    #[error("the TLS key file holds no PEM private key: put the key of the certificate there")]
    NoPrivateKey,
    /// The key is another certificate's.
    #[error(
        "the TLS private key is not the key of the first certificate in the certificate file: put the \
         key there that this certificate was made for, or the certificate of this key"
    )]
    Mismatch,
    /// TLS does not support this kind of key.
    #[error("the TLS certificate and key cannot be used together")]
    Unusable(#[from] Error),
}

/// The gateway's certificate as handshakes use it. It can be renewed while the gateway runs:
/// connections that are open keep theirs.
#[derive(Debug)]
pub(crate) struct ServerCertificate(ArcSwap<CertifiedKey>);

impl ServerCertificate {
    /// # Errors
    /// [`TlsError`].
    pub(crate) fn new(settings: &TlsSettings) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::from_pointee(certified_key(settings)?)))
    }

    /// Takes another certificate, from the next handshake on.
    ///
    /// # Errors
    /// [`TlsError`]; the former certificate stays.
    pub(crate) fn renew(&self, settings: &TlsSettings) -> Result<(), TlsError> {
        self.0.store(Arc::new(certified_key(settings)?));
        Ok(())
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn certified_key(settings: &TlsSettings) -> Result<CertifiedKey, TlsError> {
    let (chain, key) = settings.parse()?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
        Error::InconsistentKeys(_) => TlsError::Mismatch,
        error => TlsError::Unusable(error),
    })
}

/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, a client certificate requested but not demanded.
///
/// # Errors
/// [`TlsError`].
pub(crate) fn server_config(certificate: Arc<ServerCertificate>) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = PossessionVerifier::new(&provider);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// SHA-256 of the certificate that a client presented.
pub(crate) fn client_thumbprint(connection: &rustls::ServerConnection) -> Option<Thumbprint> {
    let presented = connection.peer_certificates()?.first()?;
    Some(thumbprint(presented))
}

pub(crate) fn thumbprint(certificate: &CertificateDer<'_>) -> Thumbprint {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    Thumbprint(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// Verifies that the client has the key of the certificate it presents, and nothing else
/// ([`possession`]). Anything but a certificate has no key, and fails the handshake.
#[derive(Debug)]
struct PossessionVerifier {
    algorithms: WebPkiSupportedAlgorithms,
}

impl PossessionVerifier {
    fn new(provider: &CryptoProvider) -> Self {
        Self {
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ClientCertVerifier for PossessionVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        possession::verify_tls12(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        possession::verify_tls13(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn self_signed() -> TlsSettings {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        TlsSettings {
            certificate_chain_pem: made.cert.pem(),
            private_key_pem: made.signing_key.serialize_pem(),
        }
    }

    #[test]
    fn offers_both_protocols() {
        let certificate = ServerCertificate::new(&self_signed()).unwrap();
        let config = server_config(Arc::new(certificate)).unwrap();
        assert_eq!(
            config.alpn_protocols,
            [b"h2".to_vec(), b"http/1.1".to_vec()]
        );
    }

    #[test]
    fn names_what_is_missing() {
        let good = self_signed();
        let without_chain = TlsSettings {
            certificate_chain_pem: String::new(),
            ..good.clone()
        };
        let error = ServerCertificate::new(&without_chain).unwrap_err();
        assert!(matches!(error, TlsError::NoCertificate), "{error}");
        let without_key = TlsSettings {
            private_key_pem: "x".to_owned(),
            ..good.clone()
        };
        let error = ServerCertificate::new(&without_key).unwrap_err();
        assert!(matches!(error, TlsError::NoPrivateKey), "{error}");
        let foreign_key = TlsSettings {
            private_key_pem: self_signed().private_key_pem,
            ..good
        };
        let error = ServerCertificate::new(&foreign_key).unwrap_err();
        assert!(matches!(error, TlsError::Mismatch), "{error}");
    }

    #[test]
    fn never_shows_its_key() {
        assert_eq!(format!("{:?}", self_signed()), "TlsSettings { .. }");
    }
}
