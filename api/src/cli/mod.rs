//! The command line. Every command explains itself with `--help` and an example; what goes wrong
//! ends with status 1 and one sentence on standard error that says what to do.

mod callbacks;
mod certificates;
mod database;
mod files;
mod import;
mod init;
mod keys;
mod pki;
mod serve;
mod stats;

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use api::settings::{AdminSettings, environment};
use clap::{Args, Parser, Subcommand};

/// Gateway for diagnosis keys: signed batches in, verified bundles out
#[derive(Debug, Parser)]
#[command(name = "efgs", version, arg_required_else_help = true, after_help = EXAMPLE)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "\
Example: a gateway for all participants, on this machine
  efgs init --dir demo
  efgs serve --config demo/efgs.toml";

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArguments),
    Serve(serve::ServeArguments),
    /// Say who may connect and sign
    #[command(subcommand)]
    Cert(certificates::CertCommand),
    /// See who is told of new download batches, and look after it
    #[command(subcommand)]
    Callback(callbacks::CallbackCommand),
    /// Look after the database
    #[command(subcommand)]
    Db(database::DbCommand),
    /// Look after the encryption keys
    #[command(subcommand)]
    Key(keys::KeyCommand),
    Stats(stats::StatsArguments),
    Import(import::ImportArguments),
}

/// Which configuration.
#[derive(Debug, Args)]
struct ConfigArguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "efgs.toml")]
    config: PathBuf,
}

impl ConfigArguments {
    fn load(&self) -> anyhow::Result<AdminSettings> {
        Ok(AdminSettings::load(&self.config, environment())?)
    }
}

/// Does what the arguments say.
///
/// # Errors
/// One sentence that says what to do.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::Init(arguments) => init::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Cert(command) => certificates::run(&command),
        Command::Callback(command) => callbacks::run(&command),
        Command::Db(command) => database::run(&command),
        Command::Key(command) => keys::run(&command),
        Command::Stats(arguments) => stats::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
    }
}

/// Writes a line to standard output.
fn say(line: impl std::fmt::Display) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.context("cannot write to standard output: is it still there?")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn has_sound_definitions() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn gives_every_command_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string);
            if command.get_subcommands().next().is_none() {
                let example = help.unwrap_or_default();
                let line = format!("efgs {}", command.get_name());
                assert!(
                    example.contains("Example") && example.contains("efgs "),
                    "{line}"
                );
                assert!(command.get_about().is_some(), "{line}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&Arguments::command());
    }
}
