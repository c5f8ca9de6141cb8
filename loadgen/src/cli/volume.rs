//! How much is sent, and which keys.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use loadgen::config::Config;
use loadgen::profiles::{Profile, Profiles};

/// How much, and which keys.
#[derive(Debug, Args)]
pub(super) struct VolumeArgs {
    /// Profile: planning-2020, peak-2022, worst-day, smoke, or one of your own file
    /// [default: planning-2020].
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Option<String>,
    /// File of profiles, instead of the built-in ones.
    #[arg(long, value_name = "FILE")]
    pub(super) profiles: Option<PathBuf>,
    /// Keys of the whole run, instead of the profile's.
    #[arg(long, value_name = "N")]
    pub(super) keys: Option<u64>,
    /// Seed of the keys: the same seed gives the same keys [default: 1].
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// Connections per participant, each with one upload in flight [default: 1].
    #[arg(long, value_name = "N")]
    pub(super) connections: Option<usize>,
}

impl VolumeArgs {
    /// Takes what is not given from the file.
    pub(super) fn or(&self, config: &Config) -> Self {
        let (profile, profiles) = (self.profile.as_ref(), self.profiles.as_ref());
        Self {
            profile: profile.or(config.profile.as_ref()).cloned(),
            profiles: profiles.or(config.profiles.as_ref()).cloned(),
            keys: self.keys.or(config.keys),
            seed: self.seed.or(config.seed),
            connections: self.connections.or(config.connections),
        }
    }

    pub(super) fn profiles(&self) -> anyhow::Result<Profiles> {
        Ok(match &self.profiles {
            Some(path) => Profiles::read(path)?,
            None => Profiles::shipped()?,
        })
    }

    pub(super) fn profile(&self, profiles: &Profiles) -> anyhow::Result<Profile> {
        let found = profiles.find(self.profile.as_deref().unwrap_or("planning-2020"))?;
        Ok(Profile {
            keys: self.keys.unwrap_or(found.keys),
            ..found
        })
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed.unwrap_or(1)
    }

    pub(super) fn connections(&self) -> anyhow::Result<usize> {
        let connections = self.connections.unwrap_or(1);
        ensure!(connections > 0, "--connections must be at least 1");
        Ok(connections)
    }
}
