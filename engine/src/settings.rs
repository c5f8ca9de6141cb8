//! The settings of the engine.
//!
//! The sections `[upload]`, `[bundle]` and `[download]` of the configuration file are the types
//! below: their documentation is the text of the template that `efgs init` writes, and their
//! defaults and ranges hold everywhere.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use crate::domain::Country;
use crate::limits;
use crate::machine::memory_bytes;
use crate::seal::Keys;

mod database_url;

pub use database_url::{ClientIdentity, DatabaseUrl, DatabaseUrlError, ServerTls, ServerUrl};

/// Everything the engine needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where uploads are stored.
    pub database: DatabaseUrl,
    /// The keys that seal key data and make key identities.
    pub keys: Keys,
    /// PEM of the trust anchor's certificate, whose key signs every listed certificate.
    pub trust_anchor_pem: String,
    /// Uploads.
    pub upload: UploadSettings,
    /// Download batches.
    pub bundle: BundleSettings,
    /// Downloads.
    pub download: DownloadSettings,
    /// Participants that may sign with SHA-1.
    pub legacy_sha1: Vec<Country>,
    /// Participants that may sign with RSA-PSS, which verifiers built like the reference do not know.
    pub pss: Vec<Country>,
    /// Threads for the CPU stages; 0 means one per core.
    pub cpu_threads: usize,
    /// What is known when the database forgets.
    pub continuity: ContinuitySettings,
    /// Keys per participant and day.
    pub quota: QuotaSettings,
    /// Memory for what grows with the log.
    pub memory: MemorySettings,
}

/// Keys per participant and day (UTC).
#[derive(Debug, Clone, SmartDefault)]
pub struct QuotaSettings {
    /// Most keys of any participant.
    #[default(limits::PARTICIPANT_KEYS_PER_DAY)]
    pub keys_per_day: u64,
    /// Most keys of those that have a quota of their own.
    pub keys_per_day_of: Vec<CountryQuota>,
}

impl QuotaSettings {
    /// Most keys of a participant.
    pub fn of(&self, country: Country) -> u64 {
        let mut own = self.keys_per_day_of.iter();
        let own = own.find(|quota| quota.country == country);
        own.map_or(self.keys_per_day, |quota| quota.keys_per_day)
    }
}

/// A participant's own quota, written as `DE=20000000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountryQuota {
    /// The participant.
    pub country: Country,
    /// Most keys that it may store in a day.
    pub keys_per_day: u64,
}

/// Not `COUNTRY=KEYS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a quota is written as COUNTRY=KEYS")]
pub struct CountryQuotaError;

impl FromStr for CountryQuota {
    type Err = CountryQuotaError;

    fn from_str(text: &str) -> Result<Self, CountryQuotaError> {
        let (country, keys) = text.split_once('=').ok_or(CountryQuotaError)?;
        Ok(Self {
            country: Country::parse(country).map_err(|_| CountryQuotaError)?,
            keys_per_day: keys.parse().map_err(|_| CountryQuotaError)?,
        })
    }
}

impl fmt::Display for CountryQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.country, self.keys_per_day)
    }
}

/// Memory for what grows with the log: identities, upload tags, the list of download batches.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MemorySettings {
    /// Most bytes for what is kept of stored uploads (identities of keys, upload tags, the list of
    /// download batches); beyond them uploads are refused with 503. 0 means half of what the machine, or
    /// the control group of the process, has.
    #[schemars(range(min = 0, max = 1_u64 << 44))]
    pub stored_bytes_max: u64,
}

impl MemorySettings {
    /// Most bytes, on this machine.
    pub fn stored_bytes_max(&self) -> u64 {
        if self.stored_bytes_max > 0 {
            return self.stored_bytes_max;
        }
        memory_bytes().map_or(limits::STORED_MEMORY_BYTES_FALLBACK, |bytes| {
            bytes / limits::STORED_MEMORY_DIVISOR
        })
    }
}

/// What is known when the database forgets.
#[derive(Debug, Clone, Default)]
pub struct ContinuitySettings {
    /// Where this gateway remembers outside the database what it has acknowledged.
    pub state_file: Option<PathBuf>,
    /// Whether a server may be used that can lose commits which it has confirmed.
    pub accept_unflushed_commits: bool,
}

impl Settings {
    /// The first setting that another one rules out.
    pub fn contradiction(&self) -> Option<Contradiction> {
        let (upload, bundle) = (&self.upload, &self.bundle);
        if upload.keys_max > bundle.keys_max {
            // The reference refuses this, too, when it starts.
            return Some(Contradiction {
                section: "upload",
                key: "keys_max",
                must: format!(
                    "must not be greater than [bundle] keys_max, which is {}: an upload is never split",
                    bundle.keys_max
                ),
            });
        }
        let (body, shares) = (upload.body_bytes_max, limits::PARTICIPANT_SHARE_DIVISOR);
        if body > upload.bytes_in_flight_max / shares {
            return Some(Contradiction {
                section: "upload",
                key: "bytes_in_flight_max",
                must: format!(
                    "must be at least {shares} times [upload] body_bytes_max, which is {body}: a participant's share must hold a whole body"
                ),
            });
        }
        None
    }
}

/// A setting that another one rules out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// Its section.
    pub section: &'static str,
    /// Its name there.
    pub key: &'static str,
    /// What it must be, and why.
    pub must: String,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {} {}", self.section, self.key, self.must)
    }
}

/// Limits for uploads.
#[derive(Debug, Clone, Copy, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UploadSettings {
    /// Most keys in one upload.
    #[default(limits::UPLOAD_KEYS_MAX)]
    #[schemars(range(min = 1, max = 100_000))]
    pub keys_max: u32,
    /// Largest body of an upload, in bytes.
    #[default(limits::UPLOAD_BODY_BYTES_MAX)]
    #[schemars(range(min = 1024, max = limits::BODY_BYTES_SETTING_MAX))]
    pub body_bytes_max: usize,
    /// Most uploads in flight, over all participants; one participant may have a quarter of them.
    #[default(limits::BATCHES_IN_FLIGHT_MAX)]
    #[schemars(range(min = limits::PARTICIPANT_SHARE_DIVISOR, max = 100_000))]
    pub batches_in_flight_max: usize,
    /// Most bytes of bodies in flight, over all participants; one participant may have a quarter
    /// of them.
    #[default(limits::BYTES_IN_FLIGHT_MAX)]
    #[schemars(range(min = 1024, max = 1_u64 << 40))]
    pub bytes_in_flight_max: usize,
}

/// Cutting of download batches.
#[derive(Debug, Clone, Copy, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BundleSettings {
    /// Longest wait of an upload before others can download it, in milliseconds.
    #[default(limits::BUNDLE_MAX_DELAY)]
    #[serde(rename = "max_delay_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 1, max = 3_600_000))]
    pub max_delay: Duration,
    /// Most keys in a download batch.
    #[default(limits::BUNDLE_KEYS_MAX)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub keys_max: u32,
    /// Most bytes of encoded keys in a download batch; an upload that is larger makes one alone.
    #[default(limits::BUNDLE_BYTES_MAX)]
    #[schemars(range(min = 1024, max = 1_u64 << 30))]
    pub bytes_max: u64,
    /// Memory for encoded download batches, in bytes; uploads that wait to be cut may take a
    /// quarter as much again.
    #[default(limits::BUNDLE_CACHE_BYTES_MAX)]
    #[schemars(range(min = 1 << 20, max = 1_u64 << 40))]
    pub cache_bytes_max: usize,
    /// Whether download batches that are not full are paced, so that no day has more than the
    /// slowest client reads.
    #[default(true)]
    pub paced: bool,
    /// Most download batches that may be cut before they are full when nothing was cut for long.
    #[default(limits::PACING_BATCHES_MAX)]
    #[schemars(range(min = 1, max = 10_000))]
    pub paced_batches_max: u32,
    /// In which time one more may be cut, in milliseconds; an upload waits for it no longer.
    #[default(limits::PACING_INTERVAL)]
    #[serde(rename = "paced_interval_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 1, max = 86_400_000))]
    pub paced_interval: Duration,
    /// How far the clock may be from the database's; nothing for simulated time. Not configurable.
    #[default(Some(limits::CLOCK_SKEW_MAX))]
    #[serde(skip)]
    pub clock_skew_max: Option<Duration>,
}

impl BundleSettings {
    /// The pace of download batches that are not full; nothing if they are not paced.
    pub const fn pacing(&self) -> Option<Pacing> {
        match self.paced {
            true => Some(Pacing {
                interval: self.paced_interval,
                batches_max: self.paced_batches_max,
            }),
            false => None,
        }
    }
}

/// How many download batches may be cut that are not full (decision 25).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// The budget refills by one per interval, at least a millisecond; it is also the longest that an
    /// upload waits for it.
    pub interval: Duration,
    /// Most download batches that the budget holds; at least 1.
    pub batches_max: u32,
}

/// Downloads.
#[derive(Debug, Clone, Copy, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DownloadSettings {
    /// Days before today whose download batches can still be asked for.
    #[default(limits::DOWNLOAD_MAX_AGE_DAYS)]
    #[schemars(range(min = 0, max = limits::MAX_AGE_DAYS_SETTING_MAX))]
    pub max_age_days: u32,
    /// For how long a download batch is kept after it was cut, if shorter than its days: only of a
    /// practice gateway, whose testers shall see batches go.
    #[serde(skip)]
    pub kept: Option<Duration>,
}

/// Durations as whole milliseconds, in configuration files.
pub mod millis {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    /// Writes a duration.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(wait: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }

    /// Reads a duration.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
