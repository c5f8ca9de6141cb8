//! `efgs key`: the encryption keys.

use std::cmp::Ordering;

use anyhow::bail;
use clap::{Args, Subcommand};
use engine::admin::Admin;
use engine::seal::Keys;

use super::config::ConfigArguments;
use super::files::{LockedFile, read};
use super::output::say;

pub(super) const GROUP_EXAMPLE: &str = "\
Example: encrypt with a new key
  efgs key rotate --config demo/efgs.toml";

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Show the sealing keys of the key file by their ids, never the keys
    #[command(after_help = "Example:\n  efgs key list --config demo/efgs.toml")]
    List(ConfigArguments),
    Retire(RetireArguments),
    Rotate(RotateArguments),
}

/// Remove a key that no stored upload needs any more
///
/// Only when nothing in the database is sealed with it: stored keys are deleted in the night after they
/// are older than `[download] max_age_days`, so a key can go that long after the next one has begun to seal.
/// The key file loses the key; copy it to the
/// other gateways, which may keep the old file for as long as they like.
#[derive(Debug, Args)]
#[command(after_help = "Example: key 1, some days after a rotation\n  \
    efgs key retire --config demo/efgs.toml 1")]
pub(super) struct RetireArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Id of the key, as efgs key list shows it
    #[arg(value_name = "ID")]
    id: u32,
}

/// Encrypt with a new key from now on; stored data stays readable
///
/// Changes the key file, whose owner and mode stay, and which gateways read when they start, within 10 seconds of a change and on
/// SIGHUP. When several gateways share a database, all of them must know a key before one of them
/// encrypts with it: rotate with --standby, copy the file to all and wait until each has logged that
/// it has read it; then rotate without it, and copy again.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct RotateArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Only add a key, which the next rotation will activate
    #[arg(long)]
    standby: bool,
}

const EXAMPLE: &str = "\
Examples:
  efgs key rotate --config demo/efgs.toml
  efgs key rotate --config demo/efgs.toml --standby";

pub(super) fn run(command: &KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::List(config) => list(config),
        KeyCommand::Retire(arguments) => retire(arguments),
        KeyCommand::Rotate(arguments) => rotate(arguments),
    }
}

fn list(config: &ConfigArguments) -> anyhow::Result<()> {
    let keys = config.load()?.keys()?;
    let sealing = keys.newest_sealing_key();
    for (id, _) in keys.sealing_checks() {
        let role = match id.cmp(&sealing) {
            Ordering::Less => "opens what was sealed with it before",
            Ordering::Equal => "seals",
            Ordering::Greater => "stands by for the next rotation",
        };
        say(format_args!("key {id}  {role}"))?;
    }
    Ok(())
}

fn retire(arguments: &RetireArguments) -> anyhow::Result<()> {
    let (settings, id) = (arguments.config.load()?, arguments.id);
    let path = settings.key_file()?;
    let file = LockedFile::open(&path)?;
    let keys = Keys::parse(file.text())?;
    // First in the database, so that no gateway asks for a key that is in no file.
    Admin::open(&settings.database)?.retire_sealing_key(&keys, id)?;
    if keys.sealing_checks().iter().any(|(known, _)| *known == id) {
        file.rewrite(&Keys::remove_sealing_key_text(file.text(), id)?)?;
    }
    say(format_args!(
        "key {id} is retired and no longer in {}",
        path.display()
    ))
}

fn rotate(arguments: &RotateArguments) -> anyhow::Result<()> {
    let path = arguments.config.load()?.key_file()?;
    // Several rotations at once wait for each other.
    let file = LockedFile::open(&path)?;
    let rotated = if arguments.standby {
        Keys::add_standby_key_text(file.text())?
    } else {
        Keys::add_sealing_key_text(file.text())?
    };
    let newest = Keys::parse(&rotated)?.newest_sealing_key();
    file.rewrite(&rotated)?;
    // By the name that gateways use.
    if Keys::parse(&read(&path)?)?.newest_sealing_key() != newest {
        bail!("{} does not hold what was written to it", path.display());
    }
    if arguments.standby {
        return say(format_args!(
            "{} has a standby key; key {newest} still seals",
            path.display()
        ));
    }
    say(format_args!(
        "key {newest} of {} seals as soon as gateways have read the file again: within 10 seconds, or on \
         SIGHUP. Copy it to the other gateways, and to where its copy is kept",
        path.display()
    ))
}
