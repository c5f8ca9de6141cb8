//! `[callback]`: how participants are notified of new download batches.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use engine::settings::millis;
use http::Uri;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use smart_default::SmartDefault;

use super::network::{NETWORKS, Network};
use super::text::{self, Secret};
use crate::tls::TlsSettings;

/// Delivery of callbacks.
#[derive(Debug, Clone, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CallbackSettings {
    /// PEM file of the certificate that the gateway shows to the receivers of callbacks. Without
    /// it, subscriptions are accepted and no callback is delivered.
    #[schemars(extend(
        "allowed" = "the PEM file of the certificate that the gateway shows to receivers"
    ))]
    pub(crate) certificate: PathBuf,
    /// PEM file of its private key.
    #[schemars(extend("allowed" = "the PEM file of the callback certificate's private key"))]
    pub(crate) private_key: PathBuf,
    /// PEM file of authorities that may certify receivers by host name, besides the receivers'
    /// listed certificates.
    #[schemars(extend("allowed" = "the PEM file of authorities that certify receivers"))]
    pub(crate) ca_file: PathBuf,
    /// Networks that callback URLs may lead to although they are not public, as ["10.1.0.0/16"].
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<String>", extend("allowed" = NETWORKS))]
    pub allowed_networks: Vec<Network>,
    /// Hosts that callback URLs may name wherever they lead, as ["receiver.internal"].
    #[serde(deserialize_with = "read_hosts")]
    #[schemars(extend("allowed" = "a list of whole host names, as in [\"receiver.internal\"]"))]
    pub allowed_hosts: Vec<String>,
    /// Proxy to connect through, as http://HOST:PORT, or "off". It must support CONNECT.
    #[serde(with = "text::one")]
    #[schemars(with = "String", extend(
        "allowed" = "http://HOST:PORT, or \"off\"; user and password have settings of their own"
    ))]
    pub(crate) proxy_url: ProxyUrl,
    /// User at the proxy, if it asks for one.
    pub(crate) proxy_user: String,
    /// File with the proxy user's password.
    #[schemars(extend("allowed" = "the file of the proxy user's password"))]
    pub(crate) proxy_password_file: PathBuf,
    /// The proxy user's password, in place of the file.
    #[schemars(with = "String", extend("file_setting" = "proxy_password_file"))]
    pub(crate) proxy_password: Secret,
    /// Time between checks for due callbacks, in milliseconds.
    #[default(Duration::from_secs(1))]
    #[serde(rename = "interval_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 1, max = 3_600_000))]
    pub interval: Duration,
    /// Longest time to resolve, connect and complete the TLS handshake, in milliseconds.
    #[default(Duration::from_secs(10))]
    #[serde(rename = "connect_timeout_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 1, max = 60_000))]
    pub connect_timeout: Duration,
    /// Longest time from the request to the head of the response, in milliseconds.
    #[default(Duration::from_secs(10))]
    #[serde(rename = "read_timeout_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 1, max = 60_000))]
    pub read_timeout: Duration,
    /// Failed attempts in a row after which a subscription is disabled.
    // The reference's `max-retries` is 5, which makes six attempts.
    #[default = 6]
    #[schemars(range(min = 1, max = 100))]
    pub attempts_max: u32,
    /// Wait after the first failed attempt, in milliseconds; each further failure doubles it.
    #[default(Duration::from_secs(300))]
    #[serde(rename = "retry_wait_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 1, max = WAIT_MS_MAX))]
    pub retry_wait: Duration,
    /// Longest wait after a failed attempt, in milliseconds; up to a quarter is added at random.
    #[default(Duration::from_secs(3600))]
    #[serde(rename = "retry_wait_max_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 1, max = WAIT_MS_MAX))]
    pub retry_wait_max: Duration,
    /// Most deliveries under way at once.
    // A slow receiver holds one place for 20 s, and a country has 16 subscriptions at the most.
    #[default = 64]
    #[schemars(range(min = 1, max = 128))]
    pub deliveries_max: usize,
    /// The certificate and key that the gateway shows to receivers.
    #[serde(skip)]
    pub identity: Option<TlsSettings>,
    /// The content of `ca_file`.
    #[serde(skip)]
    pub ca_pem: Option<String>,
    /// The proxy, with the user's password.
    #[serde(skip)]
    pub proxy: Option<CallbackProxy>,
}

/// Longest wait, with room for the random quarter below the engine's bound of a day.
const WAIT_MS_MAX: u64 = 12 * 3600 * 1000;

/// An HTTP proxy that supports CONNECT.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackProxy {
    /// Name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User and password, if it asks for them.
    pub credentials: Option<(String, String)>,
}

/// Without user and password.
impl fmt::Debug for CallbackProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackProxy")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Host, without brackets, and port of a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProxyUrl(pub(super) Option<(String, u16)>);

impl FromStr for ProxyUrl {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if matches!(text, "off" | "") {
            return Ok(Self(None));
        }
        let uri: Uri = text.parse().map_err(|_| ())?;
        let (host, port) = uri.host().zip(uri.port_u16()).ok_or(())?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let has_more = text.contains('@') || uri.query().is_some() || uri.path().len() > 1;
        match uri.scheme_str() {
            Some("http") if !has_more && !host.is_empty() => {
                Ok(Self(Some((host.to_owned(), port))))
            }
            _ => Err(()),
        }
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((host, port)) if host.contains(':') => write!(f, "http://[{host}]:{port}"),
            Some((host, port)) => write!(f, "http://{host}:{port}"),
            None => f.write_str("off"),
        }
    }
}

pub(super) fn read_hosts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    let hosts = Vec::<String>::deserialize(deserializer)?;
    let is_host = |text: &String| !text.is_empty() && !text.contains(['/', ':', '*', ' ']);
    match hosts.iter().all(is_host) {
        true => Ok(hosts),
        false => Err(D::Error::custom("not a host name")),
    }
}
