//! Configuration: one TOML file, overridden by `EFGS__SECTION__KEY` in the environment.
//!
//! Read once at start, into values that need no further check. Messages name the setting and where
//! it was given, say what it must be, and never show what it was: it may be a secret.

mod callback;
mod peers;
mod source;

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::domain::Country;
use engine::limits;
use engine::seal::Keys;
use engine::settings::{
    BundleSettings, DatabaseUrl, DownloadSettings, Settings as EngineSettings, UploadSettings,
};
use http::HeaderName;
use tracing_subscriber::EnvFilter;

pub use callback::{CallbackProxy, CallbackSettings};
pub use peers::{TrustedPeer as Network, TrustedPeer, TrustedPeerError};
use source::{ENCRYPTION_KEYS, Name, Source};
pub use source::{SettingsError, environment, variables};

const PUBLIC_LISTEN: Name = Name("public", "listen");
const PUBLIC_CERTIFICATE: Name = Name("public", "certificate");
const PUBLIC_PRIVATE_KEY: Name = Name("public", "private_key");
const PROXY_LISTEN: Name = Name("proxy", "listen");
const PROXY_TRUSTED_PEERS: Name = Name("proxy", "trusted_peers");
const PROXY_THUMBPRINT_HEADER: Name = Name("proxy", "thumbprint_header");
const PROXY_DISTINGUISHED_NAME_HEADER: Name = Name("proxy", "distinguished_name_header");
const OPERATIONS_LISTEN: Name = Name("operations", "listen");
const DATABASE_URL: Name = Name("database", "url");
const ENCRYPTION_KEY_FILE: Name = Name("encryption", "key_file");
const TRUST_ANCHOR_CERTIFICATE: Name = Name("trust_anchor", "certificate");
const UPLOAD_KEYS_MAX: Name = Name("upload", "keys_max");
const UPLOAD_BODY_BYTES_MAX: Name = Name("upload", "body_bytes_max");
const UPLOAD_BATCHES_IN_FLIGHT_MAX: Name = Name("upload", "batches_in_flight_max");
const UPLOAD_BYTES_IN_FLIGHT_MAX: Name = Name("upload", "bytes_in_flight_max");
const BUNDLE_MAX_DELAY_MS: Name = Name("bundle", "max_delay_ms");
const BUNDLE_KEYS_MAX: Name = Name("bundle", "keys_max");
const BUNDLE_CACHE_BYTES_MAX: Name = Name("bundle", "cache_bytes_max");
const DOWNLOAD_MAX_AGE_DAYS: Name = Name("download", "max_age_days");
const SIGNATURES_LEGACY_SHA1: Name = Name("signatures", "legacy_sha1");
const SIGNATURES_PSS: Name = Name("signatures", "pss");
const LOG_FORMAT: Name = Name("log", "format");
const LOG_LEVEL: Name = Name("log", "level");
const ENGINE_CPU_THREADS: Name = Name("engine", "cpu_threads");

/// Where participants connect, unless told otherwise.
const PUBLIC_LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8443);
/// Where operators connect, unless told otherwise.
const OPERATIONS_LISTEN_DEFAULT: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// Everything that `efgs serve` needs to know.
#[derive(Debug)]
pub struct Settings {
    /// For the engine.
    pub engine: EngineSettings,
    /// `[public]`: mutual TLS; nothing when it is off.
    pub public: Option<PublicSettings>,
    /// `[proxy]`: identity headers; nothing when it is off.
    pub proxy: Option<ProxySettings>,
    /// `[operations] listen`; nothing when it is off.
    pub operations_listen: Option<SocketAddr>,
    /// `[callback]`
    pub callback: CallbackSettings,
    /// `[log]`
    pub log: LogSettings,
}

/// `[public]`
#[derive(Clone)]
pub struct PublicSettings {
    /// Where participants connect.
    pub listen: SocketAddr,
    /// The server's certificate and those that vouch for it, as PEM.
    pub certificate_chain_pem: String,
    /// The private key of the server's certificate, as PEM.
    pub private_key_pem: String,
}

/// Does not show the private key.
impl fmt::Debug for PublicSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicSettings")
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// `[proxy]`
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Where the proxy connects.
    pub listen: SocketAddr,
    /// Whose identity headers are believed; empty: those from loopback addresses.
    pub trusted_peers: Vec<TrustedPeer>,
    /// Header with the certificate's thumbprint.
    pub thumbprint_header: HeaderName,
    /// Header with the certificate's subject.
    pub distinguished_name_header: HeaderName,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// How lines are written.
    pub format: LogFormat,
    /// Directives of `tracing_subscriber::EnvFilter`, as `info` or `info,engine=debug`.
    pub level: String,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` pairs.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the admin commands need to know.
#[derive(Debug)]
pub struct AdminSettings {
    /// `[database] url`
    pub database: DatabaseUrl,
    /// Of which a command reads what it needs when it needs it.
    source: Source,
}

impl Settings {
    /// Reads and checks all settings, and the files that they name.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn load(
        file: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let source = Source::load(file, environment)?;
        let settings = Self {
            engine: read_engine(&source)?,
            public: read_public(&source)?,
            proxy: read_proxy(&source)?,
            operations_listen: source.listen(OPERATIONS_LISTEN, Some(OPERATIONS_LISTEN_DEFAULT))?,
            callback: callback::read(&source)?,
            log: read_log(&source)?,
        };
        if settings.public.is_none() && settings.proxy.is_none() {
            return Err(SettingsError(format!(
                "{} and {PROXY_LISTEN} are both off: set one of them to ADDRESS:PORT",
                source.place(PUBLIC_LISTEN)
            )));
        }
        Ok(settings)
    }
}

impl AdminSettings {
    /// Reads what every admin command needs; checks the names of all settings.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn load(
        file: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let source = Source::load(file, environment)?;
        Ok(Self {
            database: read_database(&source)?,
            source,
        })
    }

    /// PEM of the trust anchor's certificate.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn trust_anchor_pem(&self) -> Result<String, SettingsError> {
        read_trust_anchor(&self.source)
    }

    /// The encryption keys.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn keys(&self) -> Result<Keys, SettingsError> {
        read_keys(&self.source)
    }

    /// `[download]`
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn download(&self) -> Result<DownloadSettings, SettingsError> {
        read_download(&self.source)
    }

    /// `[callback]`
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn callback(&self) -> Result<CallbackSettings, SettingsError> {
        callback::read(&self.source)
    }

    /// The file of the encryption keys.
    ///
    /// # Errors
    /// When the keys come from the environment, or from nowhere.
    pub fn key_file(&self) -> Result<PathBuf, SettingsError> {
        let source = &self.source;
        if source.text(ENCRYPTION_KEYS)?.is_some() {
            return Err(source.error(
                ENCRYPTION_KEYS,
                "holds the encryption keys, which only their owner can rotate: add a line `sealing ID BASE64` there",
            ));
        }
        source.required(ENCRYPTION_KEY_FILE, KEY_FILE_IS)?;
        let path = source.path(ENCRYPTION_KEY_FILE)?;
        Ok(path.unwrap_or_default())
    }
}

fn read_download(source: &Source) -> Result<DownloadSettings, SettingsError> {
    let default = limits::DOWNLOAD_MAX_AGE_DAYS;
    Ok(DownloadSettings {
        max_age_days: source.number(DOWNLOAD_MAX_AGE_DAYS, 0..=KEPT_DAYS_MAX, default)?,
    })
}

fn read_engine(source: &Source) -> Result<EngineSettings, SettingsError> {
    let upload = read_upload(source)?;
    let bundle = read_bundle(source)?;
    if upload.keys_max > bundle.keys_max {
        // The reference refuses this, too: its batches hold whole uploads.
        return Err(source.error(
            UPLOAD_KEYS_MAX,
            &format!(
                "must not be greater than {BUNDLE_KEYS_MAX}, which is {}: an upload is never split",
                bundle.keys_max
            ),
        ));
    }
    Ok(EngineSettings {
        database: read_database(source)?,
        keys: read_keys(source)?,
        trust_anchor_pem: read_trust_anchor(source)?,
        upload,
        bundle,
        download: read_download(source)?,
        legacy_sha1: read_countries(source, SIGNATURES_LEGACY_SHA1)?,
        pss: read_countries(source, SIGNATURES_PSS)?,
        cpu_threads: source.number(ENGINE_CPU_THREADS, 0..=1024, 0)?,
    })
}

/// Longest time for which keys can be downloaded: what a phone can still use.
const KEPT_DAYS_MAX: u32 = 14;

fn read_upload(source: &Source) -> Result<UploadSettings, SettingsError> {
    let default = UploadSettings::default();
    // Sealed keys go into one MEDIUMBLOB of 16 MiB.
    let body_bytes_max = source.number(
        UPLOAD_BODY_BYTES_MAX,
        1024..=16 << 20,
        default.body_bytes_max,
    )?;
    let upload = UploadSettings {
        keys_max: source.number(UPLOAD_KEYS_MAX, 1..=100_000, default.keys_max)?,
        body_bytes_max,
        batches_in_flight_max: source.number(
            UPLOAD_BATCHES_IN_FLIGHT_MAX,
            limits::PARTICIPANT_SHARE_DIVISOR..=100_000,
            default.batches_in_flight_max,
        )?,
        bytes_in_flight_max: source.number(
            UPLOAD_BYTES_IN_FLIGHT_MAX,
            1024..=1 << 40,
            default.bytes_in_flight_max,
        )?,
    };
    if upload.bytes_in_flight_max / limits::PARTICIPANT_SHARE_DIVISOR < body_bytes_max {
        return Err(source.error(
            UPLOAD_BYTES_IN_FLIGHT_MAX,
            &format!(
                "must be at least {} times {UPLOAD_BODY_BYTES_MAX}, which is {body_bytes_max}: one participant's share has to hold a body",
                limits::PARTICIPANT_SHARE_DIVISOR
            ),
        ));
    }
    Ok(upload)
}

fn read_bundle(source: &Source) -> Result<BundleSettings, SettingsError> {
    let default = BundleSettings::default();
    let max_delay_ms = u64::try_from(default.max_delay.as_millis()).unwrap_or(u64::MAX);
    let max_delay_ms = source.number(BUNDLE_MAX_DELAY_MS, 1..=3_600_000, max_delay_ms)?;
    Ok(BundleSettings {
        max_delay: Duration::from_millis(max_delay_ms),
        keys_max: source.number(BUNDLE_KEYS_MAX, 1..=1_000_000, default.keys_max)?,
        cache_bytes_max: source.number(
            BUNDLE_CACHE_BYTES_MAX,
            1 << 20..=1 << 40,
            default.cache_bytes_max,
        )?,
        clock_skew_max: default.clock_skew_max,
    })
}

fn read_database(source: &Source) -> Result<DatabaseUrl, SettingsError> {
    let what = "sqlite:PATH or mysql://USER:PASSWORD@HOST:PORT/NAME";
    let url = source.required(DATABASE_URL, what)?;
    match url.parse() {
        Ok(DatabaseUrl::Sqlite(path)) => Ok(DatabaseUrl::Sqlite(source.resolve(&path))),
        Ok(database) => Ok(database),
        Err(_) => Err(source.error(DATABASE_URL, &format!("must be {what}"))),
    }
}

const KEY_FILE_IS: &str = "the file of the encryption keys";

fn read_keys(source: &Source) -> Result<Keys, SettingsError> {
    if let Some(keys) = source.text(ENCRYPTION_KEYS)? {
        // A variable of one line is easier to hand on: `;` ends a line, too.
        return Keys::parse(&keys.replace(';', "\n"))
            .map_err(|error| source.error(ENCRYPTION_KEYS, &format!("cannot be used: {error}")));
    }
    source.required(ENCRYPTION_KEY_FILE, KEY_FILE_IS)?;
    let path = source.path(ENCRYPTION_KEY_FILE)?.unwrap_or_default();
    let text = source.file_text(ENCRYPTION_KEY_FILE, &path)?;
    Keys::parse(&text).map_err(|error| {
        let cannot = format!("names {}, which cannot be used: {error}", path.display());
        source.error(ENCRYPTION_KEY_FILE, &cannot)
    })
}

fn read_trust_anchor(source: &Source) -> Result<String, SettingsError> {
    let what = "the PEM file of the trust anchor's certificate";
    read_pem(source, TRUST_ANCHOR_CERTIFICATE, what, "CERTIFICATE")
}

/// The text of a PEM file that has a block of the wanted kind.
fn read_pem(source: &Source, name: Name, what: &str, kind: &str) -> Result<String, SettingsError> {
    source.required(name, what)?;
    let path = source.path(name)?.unwrap_or_default();
    let text = source.file_text(name, &path)?;
    if text.contains("-----BEGIN ") && text.contains(&format!("{kind}-----")) {
        return Ok(text);
    }
    let message = format!("must name {what}; {} is none", path.display());
    Err(source.error(name, &message))
}

fn read_public(source: &Source) -> Result<Option<PublicSettings>, SettingsError> {
    let Some(listen) = source.listen(PUBLIC_LISTEN, Some(PUBLIC_LISTEN_DEFAULT))? else {
        return Ok(None);
    };
    let certificate =
        "the PEM file of the server's certificate chain (or [public] listen to \"off\")";
    let private_key = "the PEM file of the server's private key";
    Ok(Some(PublicSettings {
        listen,
        certificate_chain_pem: read_pem(source, PUBLIC_CERTIFICATE, certificate, "CERTIFICATE")?,
        private_key_pem: read_pem(source, PUBLIC_PRIVATE_KEY, private_key, "PRIVATE KEY")?,
    }))
}

fn read_proxy(source: &Source) -> Result<Option<ProxySettings>, SettingsError> {
    let Some(listen) = source.listen(PROXY_LISTEN, None)? else {
        return Ok(None);
    };
    Ok(Some(ProxySettings {
        listen,
        trusted_peers: read_trusted_peers(source, listen)?,
        thumbprint_header: read_header(source, PROXY_THUMBPRINT_HEADER, "x-ssl-client-sha256")?,
        distinguished_name_header: read_header(
            source,
            PROXY_DISTINGUISHED_NAME_HEADER,
            "x-ssl-client-dn",
        )?,
    }))
}

fn read_trusted_peers(
    source: &Source,
    listen: SocketAddr,
) -> Result<Vec<TrustedPeer>, SettingsError> {
    let given = source.list(PROXY_TRUSTED_PEERS)?.unwrap_or_default();
    let peers: Result<Vec<TrustedPeer>, _> = given.into_iter().map(str::parse).collect();
    let peers = peers.map_err(|TrustedPeerError| {
        source.error(
            PROXY_TRUSTED_PEERS,
            "must list addresses or networks, as in [\"10.0.0.7\", \"10.1.0.0/16\"]",
        )
    })?;
    if !peers.is_empty() || listen.ip().is_loopback() {
        return Ok(peers);
    }
    Err(SettingsError(format!(
        "{} is not a loopback address and {PROXY_TRUSTED_PEERS} is empty: list the addresses of your proxies there, since anybody else could claim any identity",
        source.place(PROXY_LISTEN)
    )))
}

fn read_header(
    source: &Source,
    name: Name,
    default: &'static str,
) -> Result<HeaderName, SettingsError> {
    match source.text(name)? {
        None => Ok(HeaderName::from_static(default)),
        Some(text) => text
            .parse()
            .map_err(|_| source.error(name, "must be the name of an HTTP header")),
    }
}

fn read_countries(source: &Source, name: Name) -> Result<Vec<Country>, SettingsError> {
    let given = source.list(name)?.unwrap_or_default();
    let countries: Result<Vec<Country>, _> = given.into_iter().map(Country::parse).collect();
    countries.map_err(|_| {
        source.error(
            name,
            "must list two-letter countries, as in [\"CZ\", \"IE\"]",
        )
    })
}

fn read_log(source: &Source) -> Result<LogSettings, SettingsError> {
    let format = match source.text(LOG_FORMAT)? {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(_) => return Err(source.error(LOG_FORMAT, "must be \"text\" or \"json\"")),
    };
    let level = source.text(LOG_LEVEL)?.unwrap_or("info");
    if level.is_empty() || EnvFilter::builder().parse(level).is_err() {
        let must = "must be \"error\", \"warn\", \"info\", \"debug\" or \"trace\"";
        return Err(source.error(LOG_LEVEL, must));
    }
    Ok(LogSettings {
        format,
        level: level.to_owned(),
    })
}

#[cfg(test)]
mod tests;
