//! The protocol of the log with several gateways, as a model that is checked exhaustively.
//!
//! Modelled: appending at S+1 with the primary key as arbiter, lost races and catching up, the
//! lock on the tail of the log, a commit whose outcome is unknown (also one that is executed long
//! after its connection is gone), replays and refusals from memory, the lease with its fence,
//! cutting download batches as ranges and serving them, following; gateways that crash at any
//! instant; a database that goes back at any instant to any earlier rows, download batches and
//! lease, with connections kept or ended; the check of the row at our position and of the newest
//! download batch, the stop, the state file that is compared at start, and the new epoch that an
//! operator begins.
//!
//! The model identifies a row by all rows up to it, as a chain of digests would. The code has no
//! chain yet: it compares the row's own columns (`store/log_mark.rs`), its time and content among
//! them. Two logs that differ before a row and agree in it do not come about by going back, since
//! what is stored again is stored at another time. The rules are implemented in
//! `engine/src/continuity/`, `persist/writer/`, `store/log.rs`, `store/download_batches.rs` and
//! `admin/recovery.rs`.
//!
//! Not modelled: groups (one upload stands for a group: both are stored whole or not at all); keys,
//! days, retention, and so tags older than the index; bounds of time (any step may take as long as
//! it likes: a cut may come at once or never, a timeout is modelled as a crash); the seals; an
//! operator who loses a state file; a database that goes back behind a new epoch. An answer
//! from memory and the check before it are one step: between them the database can always go back.
//!
//! What no protocol can promise is not promised: a gateway that had not yet followed what the
//! database lost cannot know that it was there. It continues, and may give the number of a lost
//! download batch again. The promise is that no gateway does so that knows, or could from its
//! file; and that a gateway that knows stops and reports it.
//!
//! Bounds: two gateways (in the long form three race), two to three requests, a fault of each kind;
//! see [`scenarios`]. Every reachable state within them is visited, 300,000 in the short form. Each
//! rule is then taken out, and the checker must find a run that breaks a promise.
//!
//! Progress: when only faults are left to happen, everything is resolved; and no run has a cycle,
//! so every run reaches such a state. (`eventually` of the checker is not used: it does not find
//! counterexamples where runs meet.)
//!
//! `EFGS_MODEL=long` checks larger bounds, optimised in six minutes on two cores.
//!
//! Weighed against TLA+ with TLC: a second language, and a Java runtime in CI.

mod cycles;
mod gateway;
mod model;
mod properties;
mod rules;
mod scenarios;
mod state;

use std::collections::BTreeSet;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use rules::{Rule, Rules};
use scenarios::Scenario;

#[test]
fn keeps_every_promise_in_every_state() {
    let mut seen = BTreeSet::new();
    for scenario in scenarios::all() {
        let started = Instant::now();
        let checker = scenario
            .protocol(Rules::default())
            .checker()
            .threads(2)
            .spawn_bfs()
            .join();
        eprintln!(
            "{}: {} states, {} steps deep, {:?}",
            scenario.name,
            checker.unique_state_count(),
            checker.max_depth(),
            started.elapsed()
        );
        for (name, path) in checker.discoveries() {
            let is_sight = properties::SIGHTS.iter().any(|sight| sight.0 == name);
            assert!(is_sight, "{}: \"{name}\" breaks:\n{path}", scenario.name);
            seen.insert(name);
        }
    }
    for (name, _) in properties::SIGHTS {
        assert!(seen.contains(name), "never seen: {name}");
    }
}

#[test]
fn every_run_becomes_quiescent() {
    for scenario in scenarios::all() {
        if scenarios::is_small(&scenario) {
            let protocol = scenario.protocol(Rules::default());
            assert!(!cycles::has_cycle(&protocol), "{}", scenario.name);
        }
    }
}

#[test]
fn needs_every_rule() {
    for rule in Rule::ALL {
        let scenarios = scenarios::short();
        let shows = |scenario: &&Scenario| scenario.name == rule.scenario();
        let scenario = scenarios.iter().find(shows).expect("one of the short ones");
        let broken = breaks(scenario, rule);
        let broken = broken.unwrap_or_else(|| panic!("nothing breaks without {rule:?}"));
        eprintln!("without {rule:?}: {broken}");
    }
}

/// The promise that a scenario breaks without a rule, if any, and after how many states.
fn breaks(scenario: &Scenario, rule: Rule) -> Option<String> {
    let rules = Rules {
        without: Some(rule),
    };
    let checker = scenario
        .protocol(rules)
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let is_promise = |name| properties::SIGHTS.iter().all(|sight| sight.0 != name);
    let mut discoveries = checker.discoveries().into_iter();
    let (broken, path) = discoveries.find(|&(name, _)| is_promise(name))?;
    let steps = path.into_actions().len();
    let states = checker.unique_state_count();
    Some(format!(
        "\"{broken}\" breaks in {} after {steps} steps ({states} states)",
        scenario.name
    ))
}
