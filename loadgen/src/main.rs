//! The command line `loadgen`: reads arguments, calls the library, prints.

mod cli;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 0: all is well. 1: something is wrong with the gateway. 2: nothing could be found out.
fn main() -> ExitCode {
    let command = cli::Cli::parse();
    match run(command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(command: cli::Cli) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(command.run());
    // After an interruption, work may still be on its way on other threads: it is not waited for.
    runtime.shutdown_background();
    outcome
}
