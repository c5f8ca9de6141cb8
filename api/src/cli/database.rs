//! `efgs db`: the schema.

use anyhow::bail;
use clap::Subcommand;
use engine::admin::Admin;

use super::config::ConfigArguments;
use super::output::say;

pub(super) const GROUP_EXAMPLE: &str = "\
Example: migrate before a new version starts
  efgs db status --config demo/efgs.toml
  efgs db migrate --config demo/efgs.toml";

#[derive(Debug, Subcommand)]
pub(super) enum DbCommand {
    /// Migrate the database to the current schema
    ///
    /// Gateways do this when they start; this command does it beforehand.
    #[command(after_help = "Example:\n  efgs db migrate --config demo/efgs.toml")]
    Migrate(ConfigArguments),
    /// Show the schema version of the database
    ///
    /// Ends with status 1 if it is not the one that this program needs.
    #[command(after_help = "Example:\n  efgs db status --config demo/efgs.toml")]
    Status(ConfigArguments),
}

pub(super) fn run(command: &DbCommand) -> anyhow::Result<()> {
    match command {
        DbCommand::Migrate(config) => migrate(config),
        DbCommand::Status(config) => status(config),
    }
}

fn migrate(config: &ConfigArguments) -> anyhow::Result<()> {
    let database = config.load()?.database;
    let migrated = Admin::migrate(&database)?;
    let (from, to) = (migrated.from, migrated.to);
    if from == to {
        say(format_args!("{database} has schema version {to} already"))
    } else {
        say(format_args!(
            "{database} had schema version {from}, has {to} now"
        ))
    }
}

fn status(config: &ConfigArguments) -> anyhow::Result<()> {
    let database = config.load()?.database;
    let (found, known) = Admin::schema_version(&database)?;
    if found < known {
        bail!("{database} has schema version {found}, {known} is needed: run `efgs db migrate`");
    }
    if found > known {
        bail!(
            "{database} has schema version {found}, this program knows {known}: install a newer efgs"
        );
    }
    say(format_args!(
        "{database} has schema version {found}, which is up to date"
    ))
}
