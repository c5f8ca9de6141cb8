//! Ingest and memory with either allocator.

use std::path::Path;

use crate::deployment::Deployment;

use super::rates::{ROUNDS, mebibytes, rate};
use crate::ratios::Figure;
use crate::run::Run;

/// Ingest and peak memory with mimalloc and with the system's allocator, in turn.
pub(super) fn measure(mimalloc: &Path, system: &Path, run: &mut Run) -> anyhow::Result<()> {
    let programs = [("mimalloc", mimalloc), ("system allocator", system)];
    let sites = programs.map(|(_, program)| Deployment::create(program, None));
    let [first, second] = sites;
    let sites = [first?, second?];
    let running = [sites[0].start()?, sites[1].start()?];
    let mut rates = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (at, rates) in rates.iter_mut().enumerate() {
            rates.push(rate(&sites[at], &running[at])?);
        }
    }
    for (((name, _), running), rates) in programs.into_iter().zip(&running).zip(rates) {
        let peak = mebibytes(running.peak_resident_bytes()?);
        let resident = mebibytes(running.resident_bytes()?);
        run.figures.extend([
            Figure::new(format!("ingest over HTTP, sqlite, {name}"), "keys/s", rates),
            Figure::new(format!("peak memory, {name}"), "MiB", vec![peak]),
            Figure::new(format!("memory after, {name}"), "MiB", vec![resident]),
        ]);
    }
    Ok(())
}
