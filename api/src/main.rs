//! The gateway's binary, `efgs`.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

/// Uploads allocate and free megabytes from many threads.
#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(cli::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            api::telemetry::print_final(format!("efgs: {}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes; one whose text ends with its cause's has said it.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn prints_every_cause_once() {
        let failed = || Err::<(), _>(anyhow!("refused"));
        let error = failed().context("connecting: refused").context("starting");
        assert_eq!(chain(&error.unwrap_err()), "starting: connecting: refused");
    }
}
