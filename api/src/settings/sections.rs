//! The sections of the configuration file. The documentation of a type or field is what the
//! template and the help say about the section or setting; `allowed` is what an error asks for,
//! where a range does not say it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use engine::domain::Country;
use engine::settings::{
    BundleSettings, CountryQuota, DownloadSettings, MemorySettings, QuotaSettings, UploadSettings,
    millis,
};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use smart_default::SmartDefault;

use super::callback::{CallbackSettings, read_hosts};
use super::connections::ConnectionSettings;
use super::database::Database;
use super::network::{NETWORKS, Network};
use super::practice::Practice;
use super::proxy::Proxy;
use super::text::{self, GATEWAY_NAME, GatewayName, LISTEN, Listen, Secret};

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
    pub(super) api: Api,
    pub(super) connections: ConnectionSettings,
    pub(super) callback: CallbackSettings,
    pub(super) upload: UploadSettings,
    pub(super) bundle: BundleSettings,
    pub(super) download: DownloadSettings,
    pub(super) quota: Quota,
    pub(super) memory: MemorySettings,
    pub(super) signatures: Signatures,
    pub(super) log: LogSettings,
    pub(super) engine: Engine,
    pub(super) practice: Practice,
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
    /// Addresses and networks of load balancers that forward TCP, as ["10.0.0.7"]: their connections
    /// must begin with a PROXY protocol header of version 2, whose address counts in logs and limits.
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<String>", extend("allowed" = NETWORKS))]
    pub(super) proxy_protocol_from: Vec<Network>,
    /// PEM file of the server's certificate, followed by its intermediate certificates.
    #[schemars(extend(
        "allowed" = "the PEM file of the server's certificate chain (or [public] listen to \"off\")"
    ))]
    pub(super) certificate: PathBuf,
    /// PEM file of the server's private key.
    #[schemars(extend("allowed" = "the PEM file of the server's private key"))]
    pub(super) private_key: PathBuf,
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
    /// PEM file of the certificate whose key signs every listed certificate; of several, up to 8, while
    /// one takes the place of another: each may have signed. Read again on SIGHUP and within 10 seconds of
    /// a change.
    #[schemars(extend("allowed" = "the PEM file of the trust anchor's certificate"))]
    pub(super) certificate: PathBuf,
}

/// The operators' port: health, metrics and the console.
#[derive(SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Operations {
    /// Where operators connect, or "off". There is no authentication.
    #[default(Listen(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090))))]
    #[serde(with = "text::one")]
    #[schemars(with = "String", extend("allowed" = LISTEN))]
    pub(super) listen: Listen,
    /// Names under which operators and Prometheus reach this port, as ["efgs.example.eu"], where they
    /// are not addresses, names without a dot or under .localhost: requests under any other name are
    /// refused, so that no web page can have an operator's browser read the port (DNS rebinding).
    #[serde(deserialize_with = "read_hosts")]
    #[schemars(extend(
        "allowed" = "a list of whole host names without scheme and port, as in [\"efgs.example.eu\"]"
    ))]
    pub(super) hosts: Vec<String>,
    /// This gateway's name, where the console, /status and the log tell the gateways of the installation
    /// apart; "" for the name of the machine and the port of the operators, as in efgs1:9090. Each gateway
    /// needs its own: where they share this file, set it in the environment.
    #[serde(with = "text::one")]
    #[schemars(with = "String", extend("allowed" = GATEWAY_NAME))]
    pub(super) gateway_name: GatewayName,
    /// After SIGTERM, how long /ready answers 503 while everything is still served, in milliseconds:
    /// load balancers that look at it send new requests elsewhere meanwhile. As long as yours take to
    /// notice; a second signal ends the wait. Ctrl-C and SIGQUIT do not wait.
    #[default(Duration::from_secs(5))]
    #[serde(rename = "shutdown_delay_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 0, max = 600_000))]
    pub(super) shutdown_delay: Duration,
}

/// The description of the API.
#[derive(SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Api {
    /// Whether authenticated participants can read it on their ports, too: /diagnosiskeys/docs,
    /// /diagnosiskeys/openapi.json and /diagnosiskeys/Efgs.proto. If not, these are 404 there.
    #[default(true)]
    pub(super) shown_to_participants: bool,
}

/// Signatures of uploads.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Signatures {
    /// Participants whose batch signatures may use SHA-1, as ["CZ", "IE"]: the national backends of
    /// CZ and IE sign with it, and cannot upload otherwise. SHA-1 is broken; list no country that can
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

/// Keys that participants may store per day (UTC). Beyond them, uploads with new keys are refused with 429
/// until the next day; repeats of stored uploads are answered as always.
#[derive(SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Quota {
    /// Most keys of a participant. What one certificate that is faulty or stolen can fill, in memory (32
    /// bytes per key) and in the database; the worst day that is planned for brings 3 million from the
    /// largest participant. All gateways on a database count together.
    #[default(engine::limits::PARTICIPANT_KEYS_PER_DAY)]
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub(super) keys_per_day: u64,
    /// Quotas of single participants, as ["DE=20000000"].
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<String>", extend(
        "allowed" = "a list of countries with their keys per day, as in [\"DE=20000000\"]"
    ))]
    pub(super) keys_per_day_of: Vec<CountryQuota>,
}

impl Quota {
    pub(super) fn read(&self) -> QuotaSettings {
        QuotaSettings {
            keys_per_day: self.keys_per_day,
            keys_per_day_of: self.keys_per_day_of.clone(),
        }
    }
}

/// Log lines, which go to standard error.
#[derive(Debug, Clone, SmartDefault, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LogSettings {
    /// "text" for key=value pairs (logfmt), or "json" for one JSON object per line.
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

/// `Targets` would take a word that it does not know as the name of a module.
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
