//! The gateway's binary, `efgs`.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use engine::output;

/// Uploads allocate and free megabytes from many threads.
#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(cli::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_closed(error.as_ref()) => ExitCode::from(output::CLOSED_STATUS),
        Err(error) => {
            api::telemetry::print_final(format!("efgs: {}", engine::chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}
