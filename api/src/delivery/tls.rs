//! TLS towards receivers: we always show the gateway's own certificate; a receiver must show one
//! that is listed for the subscribing country, or one that an authority of the operator's vouches
//! for by host name.

use std::sync::Arc;

use engine::domain::{CertificateKind, Country, UnixMillis};
use engine::trust::Trust;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
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
    #[error("[callback] certificate and private_key: {0}")]
    Identity(#[from] TlsError),
    /// The operator's authorities.
    #[error("[callback] ca_file holds no certificate of an authority: put its PEM there")]
    Authorities,
}

/// What all deliveries share.
#[derive(Debug)]
pub(crate) struct DeliveryTls {
    provider: Arc<CryptoProvider>,
    identity: Arc<dyn ResolvesClientCert>,
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
            // Shows its certificate whatever authorities the receiver names.
            identity: Arc::new(SingleCertAndKey::from(identity)),
            authorities,
        })
    }

    /// For one delivery: judged by the certificate list of this moment. Sessions are not resumed,
    /// since that would not look at the certificate again.
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
            .with_client_cert_resolver(Arc::clone(&self.identity));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn certified_key(
    settings: &TlsSettings,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let (chain, key) = settings.read()?;
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

/// Who a receiver is by the certificate that it shows.
#[derive(Debug)]
struct ReceiverVerifier {
    country: Country,
    trust: Arc<Trust>,
    now: UnixMillis,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

/// What the certificate list says of a receiver's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    /// It is the subscriber's.
    Own,
    /// It is somebody's and must not be used.
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
    /// The leaf itself must be listed: whoever issued it does not matter, nor does its name. What
    /// is revoked is refused even if an authority vouches for it.
    fn judge(&self, leaf: &CertificateDer<'_>) -> Listed {
        let thumbprint = thumbprint(leaf);
        let find = |kind| self.trust.find(&thumbprint, kind);
        let listed = CertificateKind::ALL.into_iter().filter_map(find);
        let mut judged = Listed::No;
        for listed in listed.filter(|listed| listed.intact) {
            if listed.is_revoked() {
                return Listed::Refused(Refused::Revoked);
            }
            let receives = listed.row.kind != CertificateKind::Signing;
            if listed.row.country != self.country || !receives {
                continue;
            }
            judged = if listed.is_valid_at(self.now) {
                Listed::Own
            } else if self.now < listed.not_before {
                Listed::Refused(Refused::NotYetValid)
            } else {
                Listed::Refused(Refused::Expired)
            };
        }
        judged
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
        let refused = match (self.judge(end_entity), &self.authorities) {
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
