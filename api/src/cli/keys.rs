//! `efgs key`: the encryption keys.

use clap::{Args, Subcommand};
use engine::seal::Keys;

use super::config::ConfigArguments;
use super::files::{Readable, read, write};
use super::output::say;

pub(super) const GROUP_EXAMPLE: &str = "\
Example: encrypt with a new key
  efgs key rotate --config demo/efgs.toml";

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    Rotate(RotateArguments),
}

/// Encrypt with a new key from now on; stored data stays readable
///
/// Changes the key file, which gateways read when they start. When several gateways share a
/// database, all of them must know a key before one of them encrypts with it: rotate with
/// --standby, copy the file to all and restart them one by one; then rotate without it, and copy
/// and restart again.
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
        KeyCommand::Rotate(arguments) => rotate(arguments),
    }
}

fn rotate(arguments: &RotateArguments) -> anyhow::Result<()> {
    let path = arguments.config.load()?.key_file()?;
    let text = read(&path)?;
    let rotated = if arguments.standby {
        Keys::add_standby_key_text(&text)?
    } else {
        Keys::add_sealing_key_text(&text)?
    };
    let keys = Keys::parse(&rotated)?;
    write(&path, &rotated, Readable::Owner)?;
    let newest = keys.newest_sealing_key();
    if arguments.standby {
        return say(format_args!(
            "{} has a standby key; key {newest} still seals",
            path.display()
        ));
    }
    say(format_args!(
        "key {newest} of {} seals from the next start of a gateway on",
        path.display()
    ))
}
