//! The sections of the configuration file. The documentation of a type or field is what the
//! template and the help say about the section or setting; `allowed` is what an error asks for,
//! where a range does not say it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use engine::domain::Country;
use engine::settings::{BundleSettings, DownloadSettings, UploadSettings};
use http::HeaderName;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use smart_default::SmartDefault;

use super::callback::CallbackSettings;
use super::connections::ConnectionSettings;
use super::network::{NETWORKS, Network};
use super::text::{self, LISTEN, Listen, Secret};

/// The configuration file.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Sections {
    pub(super) public: Public,
    pub(super) database: Database,
    pub(super) encryption: Encryption,
    pub(super) trust_anchor: TrustAnchor,
    pub(super) operations: Operations,
    pub(super) proxy: Proxy,
    pub(super) connections: ConnectionSettings,
    pub(super) callback: CallbackSettings,
    pub(super) upload: UploadSettings,
    pub(super) bundle: BundleSettings,
    pub(super) download: DownloadSettings,
    pub(super) signatures: Signatures,
    pub(super) log: LogSettings,
    pub(super) engine: Engine,
}

/// The participants' port, with mutual TLS.
#[derive(SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Public {
    /// Where participants connect; "off" if they only come through a proxy.
    #[default(Listen(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8443))))]
    #[serde(with = "text::one")]
    #[schemars(with = "String", extend("allowed" = LISTEN))]
    pub(super) listen: Listen,
    /// PEM file of the server's certificate, followed by its intermediate certificates.
    #[schemars(extend(
        "allowed" = "the PEM file of the server's certificate chain (or [public] listen to \"off\")"
    ))]
    pub(super) certificate: PathBuf,
    /// PEM file of the server's private key.
    #[schemars(extend("allowed" = "the PEM file of the server's private key"))]
    pub(super) private_key: PathBuf,
}

/// The database.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Database {
    /// sqlite:PATH, or mysql://USER:PASSWORD@HOST:PORT/NAME (MariaDB, too), which several gateways
    /// can share. The connection to a server is not encrypted: use the same host, a private
    /// network, or a TLS proxy such as stunnel.
    #[schemars(extend("allowed" = "sqlite:PATH or mysql://USER:PASSWORD@HOST:PORT/NAME"))]
    pub(super) url: String,
    /// File where this gateway remembers, outside the database, the newest upload that it
    /// acknowledged and the newest download batch; each gateway needs its own, on a disk that is not
    /// the database's. A start on an older database is refused, and `efgs db recovered` skips the
    /// numbers that were given out. Costs two synchronous writes for each group of uploads.
    #[schemars(extend("allowed" = "the name of a file, or empty for none"))]
    pub(super) state_file: PathBuf,
    /// Whether to work on a MySQL-compatible server, or cluster, that may lose commits which it has
    /// confirmed (`innodb_flush_log_at_trx_commit`, `sync_binlog`). Uploads that were answered 201 are
    /// lost when it crashes, or when all nodes of a cluster do; then the gateways stop until an
    /// operator runs `efgs db recovered`.
    pub(super) accept_unflushed_commits: bool,
}

/// Encryption of stored diagnosis keys.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Encryption {
    /// File of the keys that encrypt stored diagnosis keys. Nobody can read them without this file:
    /// keep a copy.
    #[schemars(extend("allowed" = "the file of the encryption keys"))]
    pub(super) key_file: PathBuf,
    /// The text of the key file, in place of the file; a semicolon ends a line, too.
    #[schemars(with = "String", extend("file_setting" = "key_file"))]
    pub(super) keys: Secret,
}

/// The trust anchor.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct TrustAnchor {
    /// PEM file of the certificate whose key signs every listed certificate.
    #[schemars(extend("allowed" = "the PEM file of the trust anchor's certificate"))]
    pub(super) certificate: PathBuf,
}

/// The operators' port: health, metrics and dashboard.
#[derive(SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Operations {
    /// Where operators connect, or "off". There is no authentication.
    #[default(Listen(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090))))]
    #[serde(with = "text::one")]
    #[schemars(with = "String", extend("allowed" = LISTEN))]
    pub(super) listen: Listen,
}

/// The port of a proxy that terminates TLS and names its client's certificate in headers.
#[derive(SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Proxy {
    /// Where the proxy connects, or "off".
    #[serde(with = "text::one")]
    #[schemars(with = "String", extend("allowed" = LISTEN))]
    pub(super) listen: Listen,
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
}

/// What the name of a header is, for errors.
const HEADER: &str = "the name of an HTTP header";

/// Signatures of uploads.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Signatures {
    /// Participants whose batch signatures may use SHA-1, as ["CZ", "IE"]: the national backends of
    /// CZ and IE sign with it, and cannot upload otherwise. SHA-1 is broken; list nobody who can
    /// sign with SHA-256.
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<String>", extend(
        "allowed" = "a list of two-letter countries, as in [\"CZ\", \"IE\"]"
    ))]
    pub(super) legacy_sha1: Vec<Country>,
    /// Participants whose batch signatures may use RSA-PSS, as ["SE"]. Verifiers built like the
    /// reference do not know it: their audits of these uploads fail.
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<String>", extend(
        "allowed" = "a list of two-letter countries, as in [\"SE\"]"
    ))]
    pub(super) pss: Vec<Country>,
}

/// Log lines, which go to standard error.
#[derive(Debug, Clone, SmartDefault, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LogSettings {
    /// "text" for key=value pairs, or "json" for one JSON object per line.
    #[schemars(with = "String", extend("allowed" = "\"text\" or \"json\""))]
    pub format: LogFormat,
    /// Least severe level to log: "off", "error", "warn", "info", "debug" or "trace". Modules may
    /// have levels of their own, as in "info,engine=debug".
    #[default(String::from("info"))]
    #[serde(deserialize_with = "read_level")]
    #[schemars(extend(
        "allowed" = "\"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\", for a module alone as in \"info,engine=debug\""
    ))]
    pub level: String,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `key=value` pairs.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// `EnvFilter` would take a word that it does not know as the name of a module.
fn read_level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = String::deserialize(deserializer)?;
    let known = |directive: &str| {
        let (module, level) = directive.split_once('=').unwrap_or(("api", directive));
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
        LEVELS.contains(&level) && !module.is_empty() && module.bytes().all(is_word)
    };
    match text.split(',').all(known) {
        true => Ok(text),
        false => Err(D::Error::custom("unknown level")),
    }
}

/// Resources of the engine.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Engine {
    /// Threads that decode and verify uploads; 0 means one per core.
    #[schemars(range(min = 0, max = 1024))]
    pub(super) cpu_threads: usize,
}
