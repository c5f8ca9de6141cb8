//! The protocol as clients see it, on SQLite and on MariaDB: a test for every row of the tables of
//! the protocol (wire §1 to §16) and of the checklist (clients §3; `rows`), journeys through the gateway
//! (`journeys`), and the eleven national backends that were written for the reference
//! (`personas`), each with the bytes that it sends.
//!
//! `docs/conformance.md` is generated from the rows; a test fails while it is outdated, and
//! `EFGS_WRITE_CONFORMANCE=1` generates it again. The harness is `libtest-mimic` with the usual
//! arguments; it is not the usual one so that one database server serves all tests and ends with
//! the last.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod journeys;
mod personas;
mod rows;
mod support;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use support::world::{Databases, Kind, World};

/// A test with its own gateway.
type Journey = fn(&Databases, Kind);

/// The name of a function's test, and the function.
macro_rules! named {
    ($($($name:ident)::+),* $(,)?) => {
        &[$((stringify!($($name)::+), $($name)::+ as crate::Journey)),*]
    };
}
pub(crate) use named;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let databases = Arc::new(Databases::new());
    let mut trials = rows::trials(&databases);
    trials.extend(journey_trials("journeys", journeys::JOURNEYS, &databases));
    trials.extend(journey_trials("personas", personas::JOURNEYS, &databases));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn journey_trials(
    module: &'static str,
    journeys: &'static [(&'static str, Journey)],
    databases: &Arc<Databases>,
) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, journey) in journeys {
        for kind in Kind::ALL {
            let databases = Arc::clone(databases);
            // A path in a macro comes with blanks.
            let name = name.replace(' ', "");
            let name = format!("{module}::{name} on {}", kind.name());
            trials.push(Trial::test(name, move || {
                journey(&databases, kind);
                Ok(())
            }));
        }
    }
    trials
}
