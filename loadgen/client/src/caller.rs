//! The caller's identity: certificates for mutual TLS, or the headers of a proxy that terminates
//! TLS.

use std::sync::Arc;

use engine::domain::{Country, Thumbprint};
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use testkit::digest::sha256;
use testkit::participants::{Identity, Participant};

use super::error::SetupError;

/// Version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1, which every national backend uses.
    #[default]
    Http1,
    /// HTTP/2 over TLS.
    Http2,
}

/// A participant and its credentials.
#[derive(Debug)]
pub struct Caller {
    /// The participant.
    pub country: Country,
    pub(super) protocol: Protocol,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) identity: HeaderMap,
}

impl Caller {
    /// A participant's client, which trusts only `server_ca`.
    ///
    /// # Errors
    /// When rustls refuses a certificate or the key.
    pub fn new(
        participant: &Participant,
        server_ca: &CertificateDer<'static>,
        protocol: Protocol,
    ) -> Result<Self, SetupError> {
        Self::with_identity(
            participant.country,
            &participant.authentication,
            server_ca,
            protocol,
        )
    }

    /// A client that authenticates with any certificate, of the right kind or not.
    ///
    /// # Errors
    /// When rustls refuses a certificate or the key.
    pub fn with_identity(
        country: Country,
        identity: &Identity,
        server_ca: &CertificateDer<'static>,
        protocol: Protocol,
    ) -> Result<Self, SetupError> {
        let mut roots = RootCertStore::empty();
        roots.add(server_ca.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?;
        tls.alpn_protocols = match protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        Ok(Self {
            country,
            protocol,
            tls: Arc::new(tls),
            identity: identity_headers(country, identity),
        })
    }
}

/// The identity headers of a proxy that terminates TLS (wire §4).
fn identity_headers(country: Country, identity: &Identity) -> HeaderMap {
    let thumbprint = Thumbprint(sha256(&identity.chain[0])).to_string();
    let name = format!("C={country}");
    let value = |text: &str| HeaderValue::from_str(text).expect("hex and letters are visible");
    HeaderMap::from_iter([
        (
            HeaderName::from_static("x-ssl-client-sha256"),
            value(&thumbprint),
        ),
        (HeaderName::from_static("x-ssl-client-dn"), value(&name)),
    ])
}
