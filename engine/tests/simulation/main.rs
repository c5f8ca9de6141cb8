//! Seeded operations against a model that is plain lists: uploads, repeats, replays, races, faults
//! of the database before, at and after a commit, restarts, new keys, days that pass with retention,
//! downloads, callbacks, a database that goes back; on both databases, with one gateway or several.
//!
//! A run prints its seed, `EFGS_SEED=N` replays it. When one fails, its list of operations is made
//! short and printed: saved as a file of `simulation/corpus`, it is run before all others from then
//! on. Each test takes seconds; `EFGS_SIM_SECONDS=N` lets each continue with new seeds, and with lists
//! that take three weeks of the simulation's time.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests; the seed is printed"
)]

mod downloads;
mod faults;
mod gateways;
mod model;
mod ops;
mod races;
mod shrink;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use support::Installation;
use testkit::local::MariaDb;

use ops::Operation;
use world::World;

/// Operations of a list when there is time for it: three weeks on average.
const LONG: u32 = 700;

/// Where a simulation runs.
struct Place<'a> {
    gateways: usize,
    /// Makes an empty installation.
    make: &'a dyn Fn() -> Installation,
}

impl Place<'_> {
    /// Runs a list; what it fails with is printed by the panic itself.
    fn run(&self, operations: &[Operation]) -> std::thread::Result<()> {
        let run = || World::new((self.make)(), self.gateways).run(operations);
        catch_unwind(AssertUnwindSafe(run))
    }

    /// Runs a list; one that fails is made short, printed, and fails.
    fn check(&self, operations: Vec<Operation>) {
        let Err(panic) = self.run(&operations) else {
            return;
        };
        println!("simulation: it fails; making the list short");
        let short = shrink::shrink(operations, |list| self.run(list).is_err());
        let lines: Vec<_> = short
            .iter()
            .map(|operation| serde_json::to_string(operation).unwrap())
            .collect();
        println!(
            "simulation: with {} gateways this fails; as a file of engine/tests/simulation/corpus \
             it is run again:\n[\n  {}\n]",
            self.gateways,
            lines.join(",\n  ")
        );
        resume_unwind(panic);
    }

    /// The lists that are kept, then that of a seed; with time, those of many seeds.
    fn simulate(&self, name: &str, count: u32) {
        for (file, operations) in corpus() {
            println!("simulation: {name}, {file}");
            self.check(operations);
        }
        let until = number("EFGS_SIM_SECONDS").map(|s| Instant::now() + Duration::from_secs(s));
        let count = until.map_or(count, |_| LONG);
        let mut seeds = 0;
        loop {
            let seed = number("EFGS_SEED").unwrap_or_else(|| rand::random::<u32>().into());
            println!("simulation: {name}, {count} operations, EFGS_SEED={seed}");
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            self.check(ops::generate(&mut random, count));
            seeds += 1;
            if number("EFGS_SEED").is_some() || until.is_none_or(|until| Instant::now() > until) {
                break;
            }
        }
        println!("simulation: {name}: {seeds} seeds");
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number")),
    )
}

/// The lists that have failed once, by file.
fn corpus() -> Vec<(String, Vec<Operation>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/corpus");
    let files = std::fs::read_dir(folder).unwrap();
    let mut lists: Vec<_> = files
        .map(|file| {
            let path = file.unwrap().path();
            let text = std::fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, serde_json::from_slice(&text).unwrap())
        })
        .collect();
    lists.sort_by(|(one, _), (other, _): &(String, _)| one.cmp(other));
    lists
}

#[test]
fn one_gateway_on_sqlite_agrees_with_the_model() {
    let make = Installation::on_sqlite;
    let place = Place {
        gateways: 1,
        make: &make,
    };
    place.simulate("one gateway on SQLite", 60);
}

#[test]
fn gateways_on_mariadb_agree_with_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    let made = std::cell::Cell::new(0);
    let make = || {
        made.set(made.get() + 1);
        Installation::on_mysql(&server, &format!("simulation_{}", made.get()))
    };
    for (gateways, name, count) in [
        (1, "one gateway on MariaDB", 30),
        (3, "three gateways on MariaDB", 50),
    ] {
        let place = Place {
            gateways,
            make: &make,
        };
        place.simulate(name, count);
    }
}
