//! The performance suite: counts instructions, measures ratios within one run, compares both with
//! the committed baseline, and writes a report. `make perf` and its relatives run it.

mod baseline;
mod counts;
mod deployment;
mod download;
mod http;
mod machine;
mod ratios;
mod report;
mod run;
mod suite;
mod table;
mod visible;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::run::Run;
use crate::suite::Options;

/// Performance suite: instruction counts and ratios of one run against perf-reports/baseline
#[derive(Debug, Parser)]
#[command(name = "perf")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Instruction counts only, as CI does
    Counts {
        /// Accept the results as the baseline, for this reason
        #[arg(long, value_name = "REASON")]
        accept: Option<String>,
    },
    /// Everything: counts, ratios, figures
    Suite {
        /// Accept the results as the baseline, for this reason
        #[arg(long, value_name = "REASON")]
        accept: Option<String>,
        /// Folder for the dated report
        #[arg(long, value_name = "DIR", default_value = "target/perf-reports")]
        reports: PathBuf,
        /// Leave the instruction counts out
        #[arg(long)]
        without_counts: bool,
        /// Parts to run, of cpu, ingest, stored, visible, download, tls
        #[arg(long, value_name = "PART,…", value_delimiter = ',')]
        only: Vec<String>,
        /// Keys that are stored before ingest and start are measured
        #[arg(long, value_name = "KEYS", default_value_t = 10_000_000)]
        stored: u64,
        /// The program efgs with the system's allocator, to compare with
        #[arg(long, value_name = "FILE")]
        system_allocator: Option<PathBuf>,
    },
    /// Record the P-256 signatures that the instruction counts verify: needed when generated keys change
    RecordSignatures,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("perf: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether nothing has become worse.
fn run(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::RecordSignatures => {
            benches::record_signatures()?;
            Ok(true)
        }
        Command::Counts { accept } => {
            let mut run = Run::new();
            run.counts = Some(counts::count()?);
            conclude(&run, accept.as_deref())
        }
        Command::Suite {
            accept,
            reports,
            without_counts,
            only,
            stored,
            system_allocator,
        } => {
            let options = Options {
                only,
                stored,
                system_allocator,
            };
            let mut run = Run::new();
            if !without_counts {
                run.counts = Some(counts::count()?);
            }
            suite::measure(&options, &mut run)?;
            let written = report::write(&run, &reports)?;
            eprintln!("report: {}", written.display());
            conclude(&run, accept.as_deref())
        }
    }
}

fn conclude(run: &Run, accept: Option<&str>) -> anyhow::Result<bool> {
    let rows = baseline::compare(run)?;
    table::print(&rows, &mut std::io::stdout().lock())?;
    if let Some(reason) = accept {
        return baseline::accept(run, reason).map(|()| true);
    }
    Ok(table::conclude(&rows, run))
}
