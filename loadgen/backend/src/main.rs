//! `efgs-backend`: a national backend's side of the exchange, for backends that are not written in Rust.
//! Everything that it knows of the protocol is in [`efgs_client`]; it needs nothing that only our gateway
//! has.

mod by_hand;
mod config;
mod files;
mod keygen;
mod outbox;
mod peers;
mod state;
mod status;
mod sync;
mod vectors;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use engine::output;

use crate::config::Config;

/// Exchange diagnosis keys with a gateway of the EFGS protocol
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLE)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "\
Files of keys are protobuf (NAME.pb, eu.interop.DiagnosisKeyBatch) or JSON lines (NAME.jsonl, one key per
line, with the members of the protocol).

Examples:
  efgs-backend keygen --country DE --dir pki
  efgs-backend canonical keys.jsonl
  efgs-backend upload --config backend.toml keys.jsonl
  efgs-backend sync --config backend.toml";

#[derive(Debug, Subcommand)]
enum Command {
    Keygen(keygen::Arguments),
    Canonical(by_hand::CanonicalArguments),
    Sign(by_hand::SignArguments),
    Upload(by_hand::UploadArguments),
    Download(by_hand::DownloadArguments),
    Verify(by_hand::VerifyArguments),
    Vectors(vectors::Arguments),
    Sync(SyncArguments),
    Peers(peers::Arguments),
}

/// Upload what is put into an outbox, download into an inbox, until it is stopped
///
/// In the folder of the configuration: files from outbox/ go to sent/ or, with the reason beside them, to
/// refused/; batches come to inbox/. Write a file under another name (.NAME) and rename it into the
/// outbox. May be killed at any instant: state.sqlite has what is on its way.
#[derive(Debug, clap::Args)]
struct SyncArguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "efgs-backend.toml")]
    config: PathBuf,
    /// End when the outbox is empty and nothing new is to be downloaded
    #[arg(long)]
    once: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(code) => code,
        Err(error) if output::is_closed(error.as_ref()) => ExitCode::from(output::CLOSED_STATUS),
        Err(error) => {
            output::note(format_args!("efgs-backend: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Keygen(arguments) => keygen::run(&arguments),
        Command::Canonical(arguments) => by_hand::canonical(&arguments),
        Command::Sign(arguments) => by_hand::sign(&arguments),
        Command::Upload(arguments) => by_hand::upload(&arguments).await,
        Command::Download(arguments) => by_hand::download(&arguments).await,
        Command::Verify(arguments) => by_hand::verify(&arguments),
        Command::Vectors(arguments) => vectors::run(&arguments),
        Command::Peers(arguments) => peers::run(&arguments).await,
        Command::Sync(arguments) => {
            let config = Config::read(&arguments.config)?;
            sync::run(&config, arguments.once).await
        }
    }
}
