//! `[proxy]`: the port or socket of a proxy that terminates TLS.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use super::network::{NETWORKS, Network};
use super::text::{self, LISTEN, Listen};

/// The port of a proxy that terminates TLS and names its client's certificate in headers.
#[derive(SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Proxy {
    /// Where the proxy connects, or "off". On a loopback address, every user of this host can connect:
    /// set a secret, too, or use a socket.
    #[serde(with = "text::one")]
    #[schemars(with = "String", extend("allowed" = LISTEN))]
    pub(super) listen: Listen,
    /// Unix socket for a proxy on this host; it is created at the start.
    #[schemars(extend("allowed" = "the name of a socket, or empty for none"))]
    pub(super) socket: PathBuf,
    /// Mode of the socket: who can connect.
    #[serde(with = "text::one")]
    #[schemars(with = "String", extend("allowed" = "a mode in octal digits, as in \"0660\""))]
    pub(super) socket_mode: Mode,
    /// Users whose headers are trusted on the socket, by name or number, as ["www-data"]; if empty,
    /// the gateway's own and root.
    #[schemars(extend("allowed" = "a list of users, as in [\"www-data\"]"))]
    pub(super) socket_users: Vec<String>,
    /// File with a secret that the proxy sends in a header with each request; without it no request
    /// is authenticated. At least 16 characters; the proxy must replace what its clients send.
    #[schemars(extend("allowed" = "the name of a file, or empty for none"))]
    pub(super) secret_file: PathBuf,
    /// Header with the secret.
    #[default(HeaderName::from_static("x-proxy-secret"))]
    #[serde(with = "text::one")]
    #[schemars(with = "String", extend("allowed" = HEADER))]
    pub(super) secret_header: HeaderName,
    /// Addresses and networks whose headers are trusted, as ["10.0.0.7", "10.1.0.0/16"]; may be
    /// empty if the port is on a loopback address.
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<String>", extend("allowed" = NETWORKS))]
    pub(super) trusted_peers: Vec<Network>,
    /// Header with the SHA-256 thumbprint of the client's certificate.
    #[default(HeaderName::from_static("x-ssl-client-sha256"))]
    #[serde(with = "text::one")]
    #[schemars(with = "String", extend("allowed" = HEADER))]
    pub(super) thumbprint_header: HeaderName,
    /// Header with the subject of the client's certificate.
    #[default(HeaderName::from_static("x-ssl-client-dn"))]
    #[serde(with = "text::one")]
    #[schemars(with = "String", extend("allowed" = HEADER))]
    pub(super) distinguished_name_header: HeaderName,
    /// Header with the client's certificate itself, as in "Client-Cert" (RFC 9440), instead of the two
    /// others: base64, percent-encoded PEM, or Envoy's form. Or "off".
    #[serde(with = "text::one")]
    #[schemars(with = "String", extend("allowed" = OPTIONAL_HEADER))]
    pub(super) certificate_header: OptionalHeader,
}

/// What the name of a header is, for errors.
const HEADER: &str = "the name of an HTTP header";

/// The name of a header, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OptionalHeader(pub(super) Option<HeaderName>);

/// What an [`OptionalHeader`] is, for errors.
const OPTIONAL_HEADER: &str = "the name of an HTTP header, or \"off\"";

impl FromStr for OptionalHeader {
    type Err = http::header::InvalidHeaderName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self(None)),
            _ => text.parse().map(|name| Self(Some(name))),
        }
    }
}

impl fmt::Display for OptionalHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or("off", HeaderName::as_str))
    }
}

/// Mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode(pub(super) u32);

impl Default for Mode {
    fn default() -> Self {
        Self(0o660)
    }
}

impl FromStr for Mode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 => Ok(Self(mode)),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// `[proxy]`, checked.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Where the proxy connects.
    pub listen: Option<SocketAddr>,
    /// The socket for a proxy on this host.
    pub socket: Option<ProxySocket>,
    /// What the proxy proves itself with.
    pub secret: Option<ProxySecret>,
    /// Networks whose identity headers are trusted; empty: those of loopback addresses.
    pub trusted_peers: Vec<Network>,
    /// Header with the certificate's thumbprint.
    pub thumbprint_header: HeaderName,
    /// Header with the certificate's subject.
    pub distinguished_name_header: HeaderName,
    /// Header with the certificate itself; if set, the two others are not read.
    pub certificate_header: Option<HeaderName>,
}

/// A Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySocket {
    /// Its name.
    pub path: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// User ids whose identity headers are trusted.
    pub users: Vec<u32>,
}

/// A secret in a header.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxySecret {
    /// The header.
    pub header: HeaderName,
    /// The secret.
    pub value: String,
}

/// Without the secret.
impl fmt::Debug for ProxySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxySecret")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}
