//! The command line `loadgen`: reads arguments, calls the library, prints.

mod cli;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 0: everything is correct. 1: the gateway is at fault. 2: the command itself failed.
fn main() -> ExitCode {
    let command = cli::Cli::parse();
    match run(command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("loadgen: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: cli::Cli) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(command.run());
    // After an interruption, other threads may still be working: they are not waited for.
    runtime.shutdown_background();
    outcome
}
