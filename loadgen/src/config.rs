//! The `--config` file: options of a run or a verification that need not be typed.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Why the configuration cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is malformed.
    #[error("{path}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<toml::de::Error>,
    },
}

/// Settings, all optional. Paths are relative to the file's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The folder with the participants' certificates.
    pub pki: Option<PathBuf>,
    /// The gateways: one address, or a list.
    #[serde(rename = "target")]
    pub targets: Targets,
    /// The profile's name.
    pub profile: Option<String>,
    /// A custom file of profiles.
    pub profiles: Option<PathBuf>,
    /// Keys of the whole run, instead of the profile's.
    pub keys: Option<u64>,
    /// Seed of every key.
    pub seed: Option<u64>,
    /// Connections per participant.
    pub connections: Option<usize>,
    /// The record's path, for writing and reading.
    pub record: Option<PathBuf>,
}

/// One address or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Targets {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Default for Targets {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Targets {
    /// All of them.
    pub fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(target) => vec![target],
            Self::Many(targets) => targets,
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is not TOML, or has an unknown name.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let read: Result<Self, _> = toml::from_str(&text);
        let mut config = read.map_err(|source| ConfigError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        for path in [&mut config.pki, &mut config.profiles, &mut config.record] {
            *path = path.take().map(|path| folder.join(path));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_paths_relative_to_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loadgen.toml");
        let text = "pki = \"pki\"\ntarget = \"https://localhost:8443\"\nseed = 7\n";
        std::fs::write(&path, text).unwrap();
        let config = Config::read(&path).unwrap();
        assert_eq!(config.pki, Some(folder.path().join("pki")));
        assert_eq!(config.targets.into_vec(), ["https://localhost:8443"]);
        assert_eq!(config.seed, Some(7));
        std::fs::write(&path, "target = [\"http://a:1\", \"http://b:2\"]").unwrap();
        let targets = Config::read(&path).unwrap().targets.into_vec();
        assert_eq!(targets, ["http://a:1", "http://b:2"]);
        std::fs::write(&path, "sead = 7").unwrap();
        let error = engine::chain(&Config::read(&path).unwrap_err());
        assert!(error.contains("sead"), "{error}");
    }
}
