//! The option `--config`, which most commands have.

use std::path::PathBuf;

use api::settings::{AdminSettings, environment};
use clap::Args;

/// Which configuration.
#[derive(Debug, Args)]
pub(super) struct ConfigArguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "efgs.toml")]
    pub(super) config: PathBuf,
}

impl ConfigArguments {
    pub(super) fn load(&self) -> anyhow::Result<AdminSettings> {
        Ok(AdminSettings::load(&self.config, environment())?)
    }
}
