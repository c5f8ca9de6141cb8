//! The set of identities (`engine/src/dedup/set/`, these very files) under loom: probes beside
//! insertion, growth and forgetting, in every interleaving, with every value that the C11 memory
//! model lets a load return.
//!
//! Then each memory ordering that is stronger than `Relaxed` is replaced by `Relaxed`, one at a
//! time: some case must fail, or the ordering is not needed, or a case is missing. The orderings are
//! found while the cases run (`base.rs`), so a new one is tried without being listed.
//!
//! Not covered: `arc_swap` itself (a stand-in with the orderings that it promises takes its place),
//! more than one writer (there is none), and the sizes: two shards of a few slots.
//!
//! `cargo run` for one reader beside the writer, in seconds; `cargo run -- long` for two.

mod base;
mod cases;
#[path = "../../src/domain/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the set needs a part of it")]
mod domain;
#[path = "../../src/dedup/set/mod.rs"]
#[allow(dead_code, reason = "statistics are not under test")]
mod set;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use base::{Observed, Site};
use cases::{CASES, Case};

/// Threads that probe beside the writer, and switches between threads that are not forced: with
/// one reader all of them, with two readers up to this many.
struct Bounds {
    readers: usize,
    preemptions: Option<usize>,
}

fn main() -> ExitCode {
    let is_long = std::env::args().nth(1).is_some_and(|form| form == "long");
    let one = Bounds {
        readers: 1,
        preemptions: None,
    };
    let two = Bounds {
        readers: 2,
        preemptions: Some(3),
    };
    let mut sites = Vec::new();
    let mut is_good = true;
    for case in CASES {
        let observed = explore(case, &one, None);
        println!("{}: {observed}", case.name);
        is_good &= observed.violations == 0;
        sites.extend(observed.sites);
        if is_long {
            let observed = explore(case, &two, None);
            println!("{}, two readers: {observed}", case.name);
            is_good &= observed.violations == 0;
        }
    }
    sites.sort_unstable();
    sites.dedup();
    // What is planted makes loom panic, and that is as it should be.
    std::panic::set_hook(Box::new(|_| {}));
    for site in sites {
        let caught: Vec<String> = CASES
            .iter()
            .map(|case| (case.name, explore(case, &one, Some(site)).violations))
            .filter(|&(_, violations)| violations > 0)
            .map(|(name, violations)| format!("{violations} in \"{name}\""))
            .collect();
        is_good &= !caught.is_empty();
        let verdict = match caught.is_empty() {
            true => "NOT CAUGHT".to_owned(),
            false => format!("caught, {}", caught.join(", ")),
        };
        println!("Relaxed at {site}: {verdict}");
    }
    match is_good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs a case in all its interleavings, with one ordering weakened, if any.
fn explore(case: &'static Case, bounds: &Bounds, planted: Option<Site>) -> Observed {
    base::begin(planted);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bounds.preemptions;
    builder.max_branches = 10_000;
    let readers = bounds.readers;
    let explored = catch_unwind(AssertUnwindSafe(|| {
        builder.check(move || {
            base::count_interleaving();
            (case.run)(readers);
        });
    }));
    // Loom itself has found a slot read that is not there yet: it goes no further.
    base::check(explored.is_ok());
    base::observed()
}
