//! `efgs db`: the schema, a new epoch after a restore, the day after a long pause, and whether all is
//! as it was stored.

use std::path::PathBuf;

use anyhow::bail;
use api::settings::AdminSettings;
use clap::{Args, Subcommand};
use engine::admin::{self, Admin, LogPlace, Recovery, RowOutcome};
use engine::domain::{BatchTag, Country, Day, UploadTag};

use super::config::ConfigArguments;
use super::output::{instant, say};
use super::verification::{VerifyArguments, verify};

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
    /// Ends with status 1 if it is not the one that this program needs, or if the database has
    /// triggers, views or events, or tables that are not as the migrations made them.
    #[command(after_help = "Example:\n  efgs db status --config demo/efgs.toml")]
    Status(ConfigArguments),
    Backup(BackupArguments),
    Recovered(RecoveredArguments),
    ConfirmDay(ConfirmDayArguments),
    Withdraw(WithdrawArguments),
    Verify(VerifyArguments),
}

/// Copy an SQLite database into a new file, while gateways work on it
///
/// The copy is of one moment: everything that was acknowledged before is in it. It is checked page by
/// page, private to its owner, on the disk when the command ends, and never replaces a file. It is
/// encrypted as the database is: keep the key file elsewhere. Servers have tools of their own
/// (docs/operate/backup.md).
#[derive(Debug, Args)]
#[command(after_help = BACKUP_EXAMPLE)]
pub(super) struct BackupArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// File to make
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

const BACKUP_EXAMPLE: &str = "\
Example: back up, and verify the copy with the keys of the installation
  efgs db backup --config demo/efgs.toml backup.sqlite
  EFGS__DATABASE__URL=sqlite:$PWD/backup.sqlite efgs db verify --config demo/efgs.toml";

/// Confirm today's date when gateways do not accept their clock yet
///
/// Key data is deleted, identities are forgotten and download batches are named by the day. When the
/// clock shows another than the next one, because it has jumped or no gateway ran for days, gateways
/// wait until it has held for an hour. All of them take over a confirmed day within a second.
#[derive(Debug, Args)]
#[command(after_help = CONFIRM_DAY_EXAMPLE)]
pub(super) struct ConfirmDayArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Today in UTC, which must be the day of the database's clock, too
    #[arg(value_name = "YYYY-MM-DD")]
    day: Day,
    /// Accept download batches of later days, which a wrong clock has named
    #[arg(long)]
    accept_batches: bool,
}

const CONFIRM_DAY_EXAMPLE: &str = "\
Examples:
  efgs db confirm-day --config demo/efgs.toml 2026-11-28
  efgs db confirm-day --config demo/efgs.toml 2026-11-28 --accept-batches";

/// Withdraw an upload: its keys are no longer served
///
/// When a country has sent keys by mistake, or when the stored keys of an upload are damaged. All
/// gateways leave them out of downloads, audits and download batches to come within two seconds;
/// what was downloaded before cannot be called back. `efgs stats --withdrawals` lists what was
/// withdrawn.
#[derive(Debug, Args)]
#[command(after_help = WITHDRAW_EXAMPLE)]
pub(super) struct WithdrawArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The country that has sent it
    #[arg(value_name = "COUNTRY")]
    country: Country,
    /// The tag under which it was sent
    #[arg(value_name = "TAG")]
    tag: UploadTag,
    /// Reason, recorded with the withdrawal
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Let the country send these keys, and use this tag, again
    #[arg(long)]
    free: bool,
}

const WITHDRAW_EXAMPLE: &str = "\
Examples:
  efgs db withdraw DE 2021-06-01-17 --reason 'sent by mistake, ticket 4711' --config demo/efgs.toml
  efgs db withdraw DE 2021-06-01-17 --reason 'damaged, DE sends it again' --free";

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
    #[arg(long, value_name = "TAG")]
    skip_to: Option<BatchTag>,
}

const RECOVERED_EXAMPLE: &str = "\
Examples:
  efgs db recovered --config demo/efgs.toml --dry-run --state-file gateway-1 --state-file gateway-2
  efgs db recovered --config demo/efgs.toml --skip-to 20210601-17";

pub(super) fn run(command: &DbCommand) -> anyhow::Result<()> {
    match command {
        DbCommand::Migrate(config) => migrate(config),
        DbCommand::Status(config) => status(config),
        DbCommand::Backup(arguments) => back_up(arguments),
        DbCommand::Recovered(arguments) => recovered(arguments),
        DbCommand::ConfirmDay(arguments) => confirm_day(arguments),
        DbCommand::Withdraw(arguments) => withdraw(arguments),
        DbCommand::Verify(arguments) => verify(arguments),
    }
}

fn migrate(config: &ConfigArguments) -> anyhow::Result<()> {
    let settings = config.load()?;
    let database = &settings.database;
    let migrated = Admin::migrate(database)?;
    let (from, to) = (migrated.from, migrated.to);
    if from == to {
        return say(format_args!("{database} has schema version {to} already"));
    }
    say(format_args!(
        "{database} had schema version {from}, has {to} now"
    ))?;
    take_over_certificates(&settings)
}

/// A certificate list from before there were digests over it: the gateways would not use it. Only
/// right after a migration, and only if the trust anchor has signed all of it.
fn take_over_certificates(settings: &AdminSettings) -> anyhow::Result<()> {
    let mut admin = Admin::open(&settings.database)?;
    if admin.certificates()?.is_empty() {
        return Ok(());
    }
    let keys = settings.keys()?;
    let list = admin.check_certificates(&keys, &settings.trust_anchor_pem()?)?;
    if list.is_from_before() {
        admin.accept_certificates(&keys, &list)?;
        return say(format_args!(
            "{} certificates, all signed by the trust anchor, are under this installation's digest \
             now: compare them with your own records (efgs cert list)",
            list.certificates.len()
        ));
    }
    match list.fault {
        None => Ok(()),
        Some(fault) => bail!(
            "gateways do not use the certificate list: {fault}; look at it with efgs cert verify, \
             and accept it with efgs cert verify --accept"
        ),
    }
}

fn back_up(arguments: &BackupArguments) -> anyhow::Result<()> {
    let database = arguments.config.load()?.database;
    let made = admin::back_up(&database, &arguments.file)?;
    say(format_args!(
        "{} has {database} up to position {} of the log, with schema version {}, in {} bytes",
        arguments.file.display(),
        made.position,
        made.schema_version,
        made.bytes
    ))
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
    let faults = Admin::open(&database)?.check_schema()?;
    if let Some(first) = faults.first() {
        for fault in &faults[1..] {
            say(fault)?;
        }
        bail!("{database} has objects that no migration created: {first}");
    }
    say(format_args!(
        "{database} has schema version {found}, which is up to date"
    ))
}

fn confirm_day(arguments: &ConfirmDayArguments) -> anyhow::Result<()> {
    let database = arguments.config.load()?.database;
    let mut admin = Admin::open(&database)?;
    let (day, theirs) = (arguments.day, admin.database_day()?);
    if day != theirs {
        bail!("the database's clock shows {theirs} (UTC): set it right first, or confirm that day");
    }
    let before = admin.confirm_day(day, arguments.accept_batches)?;
    match before {
        Some(before) => say(format_args!(
            "{day} is confirmed; the day known was {before}"
        )),
        None => say(format_args!("{day} is confirmed; no day was known")),
    }
}

fn withdraw(arguments: &WithdrawArguments) -> anyhow::Result<()> {
    let WithdrawArguments {
        config,
        country,
        tag,
        reason,
        free,
    } = arguments;
    let settings = config.load()?;
    let mut admin = Admin::open(&settings.database)?;
    let done = admin.withdraw(&settings.keys()?, (*country, tag), reason, *free)?;
    let (position, keys) = (done.position, done.key_count);
    let batch = match done.batch {
        Some(batch) => format!("in download batch {batch}"),
        None => "not in a download batch yet".to_owned(),
    };
    let done_before = match done.was_withdrawn {
        true => "was withdrawn before",
        false => "is withdrawn",
    };
    let freed = match free {
        true => "; its keys and its tag can be sent again",
        false => "",
    };
    say(format_args!(
        "upload {tag} of {country} {done_before}: position {position}, {keys} keys, {batch}{freed}"
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
            "without a state file it is unknown what is lost: ask all participants to send again \
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
