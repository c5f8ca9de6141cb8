//! The caller's identity: certificates for mutual TLS, or the headers of a proxy that terminates
//! TLS.

use std::path::Path;
use std::sync::Arc;

use engine::domain::{Country, Thumbprint};
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
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

    /// A client with PEM files: the authentication certificate (and its chain), its key, and the
    /// certificates of the authorities that may have issued the gateway's.
    ///
    /// # Errors
    /// [`SetupError`] when a file cannot be read or rustls refuses its content.
    pub fn from_files(
        country: &str,
        certificate: &Path,
        private_key: &Path,
        server_ca: &Path,
        protocol: Protocol,
    ) -> Result<Self, SetupError> {
        let no_country = |_| SetupError::Country(country.to_owned());
        let identity = Identity {
            chain: read_certificates(certificate)?,
            key: PrivateKeyDer::from_pem_file(private_key).map_err(pem_error(private_key))?,
        };
        let country = Country::parse(country).map_err(no_country)?;
        Self::trusting(country, &identity, &read_certificates(server_ca)?, protocol)
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
        let authorities = std::slice::from_ref(server_ca);
        Self::trusting(country, identity, authorities, protocol)
    }

    fn trusting(
        country: Country,
        identity: &Identity,
        authorities: &[CertificateDer<'static>],
        protocol: Protocol,
    ) -> Result<Self, SetupError> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone())?;
        }
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

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .and_then(|found| match found.is_empty() {
            true => Err(pem::Error::NoItemsFound),
            false => Ok(found),
        })
        .map_err(pem_error(path))
}

fn pem_error(path: &Path) -> impl Fn(pem::Error) -> SetupError {
    let path = path.to_owned();
    move |source| SetupError::Pem {
        path: path.clone(),
        source,
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
