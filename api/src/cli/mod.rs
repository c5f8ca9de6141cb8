//! The command line. Every command has `--help` with an example; a failure ends with status 1 and
//! one line on standard error that says what to do.

mod callbacks;
mod certificates;
mod check;
mod config;
mod database;
mod files;
mod generate;
mod import;
mod init;
mod keys;
mod output;
mod participants;
mod peers;
mod pki;
mod reload;
mod serve;
mod service_manager;
mod stats;
mod verification;

use clap::{CommandFactory as _, Parser, Subcommand};

/// Federation gateway for diagnosis keys: verifies signed uploads, serves download batches
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
    Check(check::CheckArguments),
    /// Manage the participants' certificates
    #[command(subcommand, after_help = certificates::GROUP_EXAMPLE)]
    Cert(certificates::CertCommand),
    /// Manage participants as a whole: add, list, show and remove countries
    #[command(subcommand, after_help = participants::GROUP_EXAMPLE)]
    Participant(participants::ParticipantCommand),
    /// Manage callback subscriptions
    #[command(subcommand, after_help = callbacks::GROUP_EXAMPLE)]
    Callback(callbacks::CallbackCommand),
    /// Manage the database: its schema, and what to do after a restore
    #[command(subcommand, after_help = database::GROUP_EXAMPLE)]
    Db(database::DbCommand),
    /// Manage the encryption keys
    #[command(subcommand, after_help = keys::GROUP_EXAMPLE)]
    Key(keys::KeyCommand),
    Stats(stats::StatsArguments),
    Import(import::ImportArguments),
    Generate(generate::GenerateArguments),
}

/// Runs the command.
///
/// # Errors
/// What went wrong, and what to do.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::Init(arguments) => init::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Cert(command) => certificates::run(&command),
        Command::Participant(command) => participants::run(&command),
        Command::Callback(command) => callbacks::run(&command),
        Command::Db(command) => database::run(&command),
        Command::Key(command) => keys::run(&command),
        Command::Stats(arguments) => stats::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments, Arguments::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_sound_definitions() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn gives_every_command_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string);
            let example = help.unwrap_or_default();
            let line = format!("efgs {}", command.get_name());
            assert!(
                example.contains("Example") && example.contains("efgs "),
                "{line}"
            );
            assert!(command.get_about().is_some(), "{line}");
            command.get_subcommands().for_each(check);
        }
        check(&Arguments::command());
    }
}
