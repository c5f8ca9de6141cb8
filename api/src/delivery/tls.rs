//! TLS towards receivers: the gateway always presents its own certificate; a receiver must present one
//! that is listed for the subscribing country, or one that a CA of the operator's has issued for
//! the host name.

use std::sync::Arc;

use arc_swap::ArcSwap;
use engine::domain::{CertificateKind, Country, UnixMillis};
use engine::trust::Trust;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;

use crate::possession;
use crate::tls::{TlsError, TlsSettings, thumbprint};

/// Why deliveries cannot be made. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryTlsError {
    /// The gateway's certificate and key.
    #[error("[callback] certificate and private_key cannot be used")]
    Identity(#[from] TlsError),
    /// The operator's CA certificates.
    #[error("[callback] ca_file holds no CA certificate: put its PEM there")]
    Authorities,
}

/// The TLS configuration that all deliveries share.
#[derive(Debug)]
pub(crate) struct DeliveryTls {
    provider: Arc<CryptoProvider>,
    identity: Arc<ClientIdentity>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
}

impl DeliveryTls {
    pub(crate) fn new(
        identity: &TlsSettings,
        ca_pem: Option<&str>,
    ) -> Result<Self, DeliveryTlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let identity = certified_key(identity, &provider)?;
        let authorities = ca_pem.map(|pem| authorities(pem, &provider)).transpose()?;
        Ok(Self {
            provider,
            identity: Arc::new(ClientIdentity(ArcSwap::from_pointee(identity))),
            authorities,
        })
    }

    /// Takes another certificate, from the next delivery on.
    pub(crate) fn renew(&self, identity: &TlsSettings) -> Result<(), DeliveryTlsError> {
        let identity = certified_key(identity, &self.provider)?;
        self.identity.0.store(Arc::new(identity));
        Ok(())
    }

    /// The configuration for one delivery: verifies against the current certificate list. Sessions
    /// are not resumed, since resumption skips certificate verification.
    pub(crate) fn config(
        &self,
        country: Country,
        trust: Arc<Trust>,
        now: UnixMillis,
    ) -> Result<ClientConfig, Error> {
        let verifier = ReceiverVerifier {
            country,
            trust,
            now,
            authorities: self.authorities.clone(),
            provider: Arc::clone(&self.provider),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(rustls::ALL_VERSIONS)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::<ClientIdentity>::clone(&self.identity));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// The gateway's certificate: presented whatever CAs the receiver lists, and renewed while it works.
#[derive(Debug)]
struct ClientIdentity(ArcSwap<CertifiedKey>);

impl ResolvesClientCert for ClientIdentity {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certified_key(
    settings: &TlsSettings,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let (chain, key) = settings.parse()?;
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}

fn authorities(
    pem: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, DeliveryTlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let added = certificate.ok().map(|certificate| roots.add(certificate));
        if !matches!(added, Some(Ok(()))) {
            return Err(DeliveryTlsError::Authorities);
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|_| DeliveryTlsError::Authorities)
}

/// Verifies a receiver's certificate.
#[derive(Debug)]
struct ReceiverVerifier {
    country: Country,
    trust: Arc<Trust>,
    now: UnixMillis,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

/// A receiver's certificate according to the certificate list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    /// It is the subscriber's.
    Own,
    /// It is listed but must not be used.
    Refused(Refused),
    /// It is not the subscriber's.
    No,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Revoked,
    NotYetValid,
    Expired,
}

impl ReceiverVerifier {
    /// Looks up the leaf itself: neither its issuer nor its name matters. A revoked certificate is
    /// refused even if a trusted CA has issued it.
    fn look_up(&self, leaf: &CertificateDer<'_>) -> Listed {
        let thumbprint = thumbprint(leaf);
        let find = |kind| self.trust.find(&thumbprint, kind);
        let listed = CertificateKind::ALL.into_iter().filter_map(find);
        let mut found = Listed::No;
        for listed in listed.filter(|listed| listed.is_intact()) {
            if listed.is_revoked() {
                return Listed::Refused(Refused::Revoked);
            }
            let receives = listed.row.kind != CertificateKind::Signing;
            if listed.row.country != self.country || !receives {
                continue;
            }
            found = if listed.is_valid_at(self.now) {
                Listed::Own
            } else if self.now < listed.not_before {
                Listed::Refused(Refused::NotYetValid)
            } else {
                Listed::Refused(Refused::Expired)
            };
        }
        found
    }
}

impl ServerCertVerifier for ReceiverVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let refused = match (self.look_up(end_entity), &self.authorities) {
            (Listed::Own, _) => return Ok(ServerCertVerified::assertion()),
            (Listed::No, Some(authorities)) => {
                let now = std::time::Duration::from_millis(self.now.0);
                return authorities.verify_server_cert(
                    end_entity,
                    intermediates,
                    server_name,
                    ocsp_response,
                    UnixTime::since_unix_epoch(now),
                );
            }
            (Listed::No, None) => CertificateError::UnknownIssuer,
            (Listed::Refused(Refused::Revoked), _) => CertificateError::Revoked,
            (Listed::Refused(Refused::NotYetValid), _) => CertificateError::NotValidYet,
            (Listed::Refused(Refused::Expired), _) => CertificateError::Expired,
        };
        Err(Error::InvalidCertificate(refused))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        possession::verify_tls12(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        possession::verify_tls13(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
