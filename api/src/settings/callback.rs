//! `[callback]`: whom to tell of new download batches, and how.

use std::fmt;
use std::time::Duration;

use http::Uri;

use super::source::{CALLBACK_PROXY_PASSWORD, Name, Source};
use super::{Network, SettingsError, read_pem};
use crate::tls::TlsSettings;

const CERTIFICATE: Name = Name("callback", "certificate");
const PRIVATE_KEY: Name = Name("callback", "private_key");
const CA_FILE: Name = Name("callback", "ca_file");
const ALLOWED_NETWORKS: Name = Name("callback", "allowed_networks");
const ALLOWED_HOSTS: Name = Name("callback", "allowed_hosts");
const PROXY_URL: Name = Name("callback", "proxy_url");
const PROXY_USER: Name = Name("callback", "proxy_user");
const PROXY_PASSWORD_FILE: Name = Name("callback", "proxy_password_file");
const INTERVAL_MS: Name = Name("callback", "interval_ms");
const CONNECT_TIMEOUT_MS: Name = Name("callback", "connect_timeout_ms");
const READ_TIMEOUT_MS: Name = Name("callback", "read_timeout_ms");
const ATTEMPTS_MAX: Name = Name("callback", "attempts_max");
const RETRY_WAIT_MS: Name = Name("callback", "retry_wait_ms");
const RETRY_WAIT_MAX_MS: Name = Name("callback", "retry_wait_max_ms");
const DELIVERIES_MAX: Name = Name("callback", "deliveries_max");

/// `[callback]`
#[derive(Debug, Clone)]
pub struct CallbackSettings {
    /// The gateway's certificate and key, which it shows to receivers; without it this gateway
    /// takes subscriptions and delivers nothing.
    pub identity: Option<TlsSettings>,
    /// PEM of authorities that may vouch for receivers by host name, beside the receivers'
    /// certificates that are listed.
    pub ca_pem: Option<String>,
    /// Networks that URLs may lead to though they are not public.
    pub allowed_networks: Vec<Network>,
    /// Hosts that URLs may name wherever they lead.
    pub allowed_hosts: Vec<String>,
    /// Through which proxy to connect.
    pub proxy: Option<CallbackProxy>,
    /// Between looks at what is due, unless something was just delivered.
    pub interval: Duration,
    /// For resolving, connecting and the TLS handshake together.
    pub connect_timeout: Duration,
    /// From the request to the head of the response.
    pub read_timeout: Duration,
    /// Attempts in a row after which a subscription is disabled (reference: `max-retries` 5, which
    /// makes six attempts).
    pub attempts_max: u32,
    /// Least wait after a failed attempt (reference: `retry-wait`); doubled with each further one.
    pub retry_wait: Duration,
    /// Where the doubling ends; a quarter may be added at random.
    pub retry_wait_max: Duration,
    /// Deliveries under way at a time.
    pub deliveries_max: usize,
}

impl Default for CallbackSettings {
    fn default() -> Self {
        Self {
            identity: None,
            ca_pem: None,
            allowed_networks: Vec::new(),
            allowed_hosts: Vec::new(),
            proxy: None,
            interval: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(10),
            attempts_max: 6,
            retry_wait: Duration::from_secs(300),
            retry_wait_max: Duration::from_secs(3600),
            // A slow receiver holds one place for 20 s, and a country has 16 at the most.
            deliveries_max: 64,
        }
    }
}

/// An HTTP proxy that knows CONNECT.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackProxy {
    /// Name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User and password, if it wants them.
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

pub(super) fn read(source: &Source) -> Result<CallbackSettings, SettingsError> {
    let default = CallbackSettings::default();
    let retry_wait = millis(source, RETRY_WAIT_MS, WAIT_MAX_MS, default.retry_wait)?;
    let retry_wait_max = millis(
        source,
        RETRY_WAIT_MAX_MS,
        WAIT_MAX_MS,
        default.retry_wait_max,
    )?;
    Ok(CallbackSettings {
        identity: read_identity(source)?,
        ca_pem: read_authorities(source)?,
        allowed_networks: read_networks(source)?,
        allowed_hosts: read_hosts(source)?,
        proxy: read_proxy(source)?,
        interval: millis(source, INTERVAL_MS, 3_600_000, default.interval)?,
        connect_timeout: millis(source, CONNECT_TIMEOUT_MS, 60_000, default.connect_timeout)?,
        read_timeout: millis(source, READ_TIMEOUT_MS, 60_000, default.read_timeout)?,
        attempts_max: source.number(ATTEMPTS_MAX, 1..=100, default.attempts_max)?,
        retry_wait,
        retry_wait_max: retry_wait_max.max(retry_wait),
        deliveries_max: source.number(DELIVERIES_MAX, 1..=128, default.deliveries_max)?,
    })
}

/// Longest wait, with room for the random quarter below the engine's bound of a day.
const WAIT_MAX_MS: u64 = 12 * 3600 * 1000;

fn millis(
    source: &Source,
    name: Name,
    most: u64,
    default: Duration,
) -> Result<Duration, SettingsError> {
    let default = u64::try_from(default.as_millis()).unwrap_or(most);
    Ok(Duration::from_millis(source.number(
        name,
        1..=most,
        default,
    )?))
}

fn read_identity(source: &Source) -> Result<Option<TlsSettings>, SettingsError> {
    let given = |name| Ok(source.path(name)?.is_some());
    if !given(CERTIFICATE)? && !given(PRIVATE_KEY)? {
        return Ok(None);
    }
    let certificate = "the PEM file of the certificate that the gateway shows to receivers";
    let private_key = "the PEM file of its private key";
    Ok(Some(TlsSettings {
        certificate_chain_pem: read_pem(source, CERTIFICATE, certificate, "CERTIFICATE")?,
        private_key_pem: read_pem(source, PRIVATE_KEY, private_key, "PRIVATE KEY")?,
    }))
}

fn read_authorities(source: &Source) -> Result<Option<String>, SettingsError> {
    if source.path(CA_FILE)?.is_none() {
        return Ok(None);
    }
    let what = "the PEM file of authorities that vouch for receivers";
    read_pem(source, CA_FILE, what, "CERTIFICATE").map(Some)
}

fn read_networks(source: &Source) -> Result<Vec<Network>, SettingsError> {
    let given = source.list(ALLOWED_NETWORKS)?.unwrap_or_default();
    let networks: Result<_, _> = given.into_iter().map(str::parse).collect();
    networks.map_err(|_| {
        let must = "must list addresses or networks, as in [\"10.0.0.7\", \"10.1.0.0/16\"]";
        source.error(ALLOWED_NETWORKS, must)
    })
}

fn read_hosts(source: &Source) -> Result<Vec<String>, SettingsError> {
    let given = source.list(ALLOWED_HOSTS)?.unwrap_or_default();
    let is_host = |text: &&str| !text.is_empty() && !text.contains(['/', ':', '*', ' ']);
    if given.iter().all(is_host) {
        return Ok(given.into_iter().map(str::to_owned).collect());
    }
    let must = "must list whole host names, as in [\"receiver.internal\"]";
    Err(source.error(ALLOWED_HOSTS, must))
}

fn read_proxy(source: &Source) -> Result<Option<CallbackProxy>, SettingsError> {
    let text = match source.text(PROXY_URL)? {
        None | Some("off" | "") => return Ok(None),
        Some(text) => text,
    };
    let parsed = text.parse::<Uri>().ok().and_then(|uri| {
        let (host, port) = (uri.host()?, uri.port_u16()?);
        let plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/");
        let plain = plain && uri.query().is_none() && !text.contains('@');
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (plain && !host.is_empty()).then(|| (host.to_owned(), port))
    });
    let must = "must be http://HOST:PORT, or \"off\"; user and password have settings of their own";
    let (host, port) = parsed.ok_or_else(|| source.error(PROXY_URL, must))?;
    Ok(Some(CallbackProxy {
        host,
        port,
        credentials: read_credentials(source)?,
    }))
}

fn read_credentials(source: &Source) -> Result<Option<(String, String)>, SettingsError> {
    let user = source.text(PROXY_USER)?.filter(|user| !user.is_empty());
    let Some(user) = user else {
        return Ok(None);
    };
    // RFC 7617 §2: the first colon ends the user.
    if user.contains(':') {
        return Err(source.error(PROXY_USER, "must not have a colon"));
    }
    let password = match source.text(CALLBACK_PROXY_PASSWORD)? {
        Some(password) => password.to_owned(),
        None => {
            source.required(PROXY_PASSWORD_FILE, "the file of the proxy user's password")?;
            let path = source.path(PROXY_PASSWORD_FILE)?.unwrap_or_default();
            let text = source.file_text(PROXY_PASSWORD_FILE, &path)?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    Ok(Some((user.to_owned(), password)))
}
