//! The protocol as clients see it, on SQLite and on MariaDB: a test for every row of the tables of
//! the protocol (wire §1 to §16) and of the checklist (clients §3; `rows`), scenarios through the
//! gateway (`scenarios`), and the eleven national backends that were written for the reference
//! (`clients`), each with the bytes that it sends.
//!
//! `docs/conformance.md` is generated from the rows; a test fails while it is outdated, and
//! `EFGS_WRITE_CONFORMANCE=1` generates it again. The harness is `libtest-mimic` with the usual
//! arguments; it is not the usual one so that one database server serves all tests and ends with
//! the last.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod clients;
mod rows;
mod scenarios;
mod support;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use support::world::{Databases, Kind, World};

/// A test with its own gateway.
type Scenario = fn(&Databases, Kind);

/// The name of a function's test, and the function.
macro_rules! named {
    ($($($name:ident)::+),* $(,)?) => {
        &[$((stringify!($($name)::+), $($name)::+ as crate::Scenario)),*]
    };
}
pub(crate) use named;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let databases = Arc::new(Databases::new());
    let mut trials = rows::trials(&databases);
    trials.extend(scenario_trials(
        "scenarios",
        scenarios::SCENARIOS,
        &databases,
    ));
    trials.extend(scenario_trials("clients", clients::SCENARIOS, &databases));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn scenario_trials(
    module: &'static str,
    scenarios: &'static [(&'static str, Scenario)],
    databases: &Arc<Databases>,
) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, scenario) in scenarios {
        for kind in Kind::ALL {
            let databases = Arc::clone(databases);
            // A path in a macro comes with blanks.
            let name = name.replace(' ', "");
            let name = format!("{module}::{name} on {}", kind.name());
            trials.push(Trial::test(name, move || {
                scenario(&databases, kind);
                Ok(())
            }));
        }
    }
    trials
}
