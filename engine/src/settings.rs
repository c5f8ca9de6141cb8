//! What the engine is told at start. `api` reads it from the configuration file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::domain::Country;
use crate::limits;
use crate::seal::Keys;

/// Everything the engine needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where uploads are stored.
    pub database: DatabaseUrl,
    /// The keys that seal key data and make key identities.
    pub keys: Keys,
    /// PEM of the trust anchor's certificate, which vouches for every listed certificate.
    pub trust_anchor_pem: String,
    /// Uploads.
    pub upload: UploadSettings,
    /// Download batches.
    pub bundle: BundleSettings,
    /// Downloads.
    pub download: DownloadSettings,
    /// Participants that may sign with SHA-1 (design, semantics 8: CZ and IE do).
    pub legacy_sha1: Vec<Country>,
    /// Participants that may sign with RSA-PSS, which verifiers built like the reference do not know.
    pub pss: Vec<Country>,
    /// Threads for the CPU stages; 0 means one a core.
    pub cpu_threads: usize,
}

/// `[upload]`
#[derive(Debug, Clone, Copy)]
pub struct UploadSettings {
    /// Most keys in one upload (reference: `maximum-upload-batch-size`).
    pub keys_max: u32,
    /// Largest body, in bytes.
    pub body_bytes_max: usize,
    /// Uploads in flight, over all participants.
    pub batches_in_flight_max: usize,
    /// Body bytes in flight, over all participants.
    pub bytes_in_flight_max: usize,
}

impl Default for UploadSettings {
    fn default() -> Self {
        Self {
            keys_max: limits::UPLOAD_KEYS_MAX,
            body_bytes_max: limits::UPLOAD_BODY_BYTES_MAX,
            batches_in_flight_max: limits::BATCHES_IN_FLIGHT_MAX,
            bytes_in_flight_max: limits::BYTES_IN_FLIGHT_MAX,
        }
    }
}

/// `[bundle]`
#[derive(Debug, Clone, Copy)]
pub struct BundleSettings {
    /// Longest wait of an upload before a download batch is cut.
    pub max_delay: Duration,
    /// Most keys in a download batch (reference: `batching.doclimit`).
    pub keys_max: u32,
    /// Memory for encoded bundles, in bytes; uploads that wait to be cut may take a quarter as much
    /// again.
    pub cache_bytes_max: usize,
    /// How far the clock may be from the database's; nothing for simulated time.
    pub clock_skew_max: Option<Duration>,
}

impl Default for BundleSettings {
    fn default() -> Self {
        Self {
            max_delay: limits::BUNDLE_MAX_DELAY,
            keys_max: limits::BUNDLE_KEYS_MAX,
            cache_bytes_max: limits::BUNDLE_CACHE_BYTES_MAX,
            clock_skew_max: Some(limits::CLOCK_SKEW_MAX),
        }
    }
}

/// `[download]`
#[derive(Debug, Clone, Copy)]
pub struct DownloadSettings {
    /// Days before today that can still be asked for (reference: `max-age-in-days`).
    pub max_age_days: u32,
}

impl Default for DownloadSettings {
    fn default() -> Self {
        Self {
            max_age_days: limits::DOWNLOAD_MAX_AGE_DAYS,
        }
    }
}

/// Which database, and where: `sqlite:PATH` or `mysql://USER:PASSWORD@HOST:PORT/NAME`
/// (MariaDB, too; `?socket=PATH` for a Unix socket).
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file, opened by this process.
    Sqlite(PathBuf),
    /// A MySQL-compatible server.
    Mysql(String),
}

impl FromStr for DatabaseUrl {
    type Err = crate::failure::StartError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            Some(("mysql", rest)) if rest.starts_with("//") => Ok(Self::Mysql(text.to_owned())),
            _ => Err(crate::failure::StartError::Setting(
                "[database] url must be sqlite:PATH or mysql://USER:PASSWORD@HOST:PORT/NAME"
                    .to_owned(),
            )),
        }
    }
}

/// Without the password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Mysql(url) => match url.rsplit_once('@') {
                Some((_, place)) => {
                    let place = place.split('?').next().unwrap_or(place);
                    write!(f, "mysql://…@{place}")
                }
                None => f.write_str("mysql://…"),
            },
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shows_a_password() {
        let url: DatabaseUrl = "mysql://efgs:s3cr@t@db:3306/efgs?socket=/x"
            .parse()
            .unwrap();
        assert_eq!(
            format!("{url} {url:?}"),
            "mysql://…@db:3306/efgs mysql://…@db:3306/efgs"
        );
    }

    #[test]
    fn refuses_other_databases() {
        for text in ["", "sqlite:", "postgres://x/y", "mysql:x"] {
            assert!(text.parse::<DatabaseUrl>().is_err(), "{text:?}");
        }
    }
}
