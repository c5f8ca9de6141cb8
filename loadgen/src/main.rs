//! The command line `loadgen`: reads arguments, calls the library, prints.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use engine::output;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 0: everything is correct. 1: the gateway is at fault. 2: the command itself failed. 99: an objective
/// was missed. 141: nobody reads the output any more.
fn main() -> ExitCode {
    let command = cli::Cli::parse();
    match run(command) {
        Ok(status) => ExitCode::from(status.code()),
        Err(error) if output::is_closed(error.as_ref()) => ExitCode::from(output::CLOSED_STATUS),
        Err(error) => {
            output::note(format_args!("loadgen: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn run(command: cli::Cli) -> anyhow::Result<cli::Status> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(command.run());
    // After an interruption, other threads may still be working: they are not waited for.
    runtime.shutdown_background();
    outcome
}
