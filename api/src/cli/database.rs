//! `efgs db`: the schema, and a new epoch after a restore.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand};
use engine::admin::{Admin, LogPlace, Recovery, RowOutcome};
use engine::domain::BatchTag;

use super::config::ConfigArguments;
use super::output::{instant, say};

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
    Recovered(RecoveredArguments),
}

/// Begin a new epoch after the database went back to an earlier state
///
/// After a restore, or the failover to a replica that lacked the last commits. Gateways that still
/// run stop, and have to be started again; numbers of download batches that may have been given out
/// are never given again. Name the state files of all gateways: the highest counts. That of this
/// configuration is read, too. A gateway without a state file may have given out more: its log
/// names each download batch that it created ("Batch created").
#[derive(Debug, Args)]
#[command(after_help = RECOVERED_EXAMPLE)]
pub(super) struct RecoveredArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Only say what would be skipped and what may be lost
    #[arg(long)]
    dry_run: bool,
    /// State file of a gateway; once per file
    #[arg(long = "state-file", value_name = "FILE")]
    state_files: Vec<PathBuf>,
    /// Newest download batch that was given out, as far as is known
    #[arg(long, value_name = "TAG", value_parser = parse_tag)]
    skip_to: Option<BatchTag>,
}

const RECOVERED_EXAMPLE: &str = "\
Examples:
  efgs db recovered --config demo/efgs.toml --dry-run --state-file gateway-1 --state-file gateway-2
  efgs db recovered --config demo/efgs.toml --skip-to 20210601-17";

fn parse_tag(text: &str) -> Result<BatchTag, String> {
    BatchTag::parse(text).map_err(|error| error.to_string())
}

pub(super) fn run(command: &DbCommand) -> anyhow::Result<()> {
    match command {
        DbCommand::Migrate(config) => migrate(config),
        DbCommand::Status(config) => status(config),
        DbCommand::Recovered(arguments) => recovered(arguments),
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

fn recovered(arguments: &RecoveredArguments) -> anyhow::Result<()> {
    let settings = arguments.config.load()?;
    let mut files = arguments.state_files.clone();
    files.extend(settings.state_file().filter(|file| file.exists()));
    let mut admin = Admin::open(&settings.database)?;
    let recovery = admin.plan_recovery(&files, arguments.skip_to)?;
    say_what_is_lost(&recovery)?;
    let epoch = recovery.epoch;
    let behind = match recovery.skipped_to {
        Some(tag) => format!("download batches are numbered behind {tag}"),
        None => "no download batch was given out".to_owned(),
    };
    if arguments.dry_run {
        return say(format_args!(
            "epoch {epoch} would begin: {behind}; nothing was changed"
        ));
    }
    admin.begin_epoch(&recovery)?;
    say(format_args!(
        "epoch {epoch} has begun: {behind}; start the gateways again"
    ))
}

fn say_what_is_lost(recovery: &Recovery) -> anyhow::Result<()> {
    let place = |place: &LogPlace| {
        let stored_at = instant(place.stored_at);
        format!("position {}, stored at {stored_at}", place.position)
    };
    let end = recovery.log_end.as_ref();
    let end_text = end.map_or_else(|| "nothing".to_owned(), place);
    say(format_args!("the log ends with {end_text}"))?;
    let Some((newest, outcome)) = &recovery.remembered else {
        let since = end.map_or_else(|| "ever".to_owned(), |end| instant(end.stored_at));
        return say(format_args!(
            "without a state file nobody knows what is lost: ask all participants to send again \
             what they have sent since {since}"
        ));
    };
    let newest_text = place(newest);
    match outcome {
        RowOutcome::Held => say(format_args!(
            "nothing is lost that a state file remembers, which is up to {newest_text}"
        )),
        RowOutcome::Gone => {
            let first = end.map_or(1, |end| end.position + 1);
            let since = end.map_or_else(|| "ever".to_owned(), |end| instant(end.stored_at));
            let last = newest.position;
            say(format_args!(
                "positions {first} to {last} are lost: ask all participants to send again what \
                 they have sent from {since} to {}, and perhaps what came after",
                instant(newest.stored_at)
            ))
        }
        RowOutcome::Replaced => say(format_args!(
            "another upload is at {newest_text}: ask all participants to send again what they \
             have sent since the database was backed up"
        )),
    }
}
