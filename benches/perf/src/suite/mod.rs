//! The order of measurements. Rounds of compared measurements alternate, so that a disturbance of the
//! machine affects both.

mod allocators;
mod cpu;
mod downloads;
mod ingest;
mod rates;
mod tls;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use loadgen::local::MariaDb;

use self::cpu::Yardstick;
use self::ingest::Ingest;
use crate::run::Run;

/// What to run.
#[derive(Debug)]
pub(crate) struct Options {
    /// Parts; empty means all.
    pub(crate) only: Vec<String>,
    /// Keys stored before ingest and start are measured.
    pub(crate) stored: u64,
    /// The program with the system's allocator.
    pub(crate) system_allocator: Option<PathBuf>,
}

/// Measures everything but the instruction counts.
///
/// # Errors
/// When a server does not run or gives an unexpected response.
pub(crate) fn measure(options: &Options, run: &mut Run) -> anyhow::Result<()> {
    let wanted = |part: &str| options.only.is_empty() || options.only.iter().any(|o| o == part);
    let yardstick = Yardstick::new();
    if wanted("cpu") {
        part(run, "cpu", |run| cpu::measure(&yardstick, run))?;
    }
    let program = efgs()?;
    if ["ingest", "stored", "visible"].into_iter().any(wanted) {
        let server = MariaDb::start(&std::env::temp_dir())?;
        for (name, database) in [("sqlite", None), ("mariadb", Some(&server))] {
            let bench = Ingest {
                name,
                program: &program,
                server: database,
                yardstick: &yardstick,
            };
            if wanted("ingest") {
                part(run, &format!("ingest on {name}"), |run| bench.empty(run))?;
            }
            if wanted("stored") {
                let stored = options.stored;
                part(run, &format!("stored on {name}"), |run| {
                    bench.stored(stored, run)
                })?;
            }
            if wanted("visible") {
                part(run, &format!("visible on {name}"), |run| bench.visible(run))?;
            }
        }
    }
    if wanted("download") {
        part(run, "download", |run| downloads::measure(&program, run))?;
    }
    if wanted("tls") {
        part(run, "tls", |run| tls::measure(&program, run))?;
    }
    if let Some(other) = &options.system_allocator {
        part(run, "allocators", |run| {
            allocators::measure(&program, other, run)
        })?;
    }
    Ok(())
}

/// Runs a part and prints its figures.
fn part(
    run: &mut Run,
    name: &str,
    measure: impl FnOnce(&mut Run) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (figures, started) = (run.figures.len(), Instant::now());
    measure(run).with_context(|| format!("measuring {name}"))?;
    run.note_load(name);
    eprintln!("{name}, {:.0} s", started.elapsed().as_secs_f64());
    for figure in &run.figures[figures..] {
        eprintln!("{}", figure.summary());
    }
    Ok(())
}

/// The program beside this one.
fn efgs() -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("efgs");
    ensure!(
        beside.is_file(),
        "{} is missing: run make build",
        beside.display()
    );
    Ok(beside)
}
