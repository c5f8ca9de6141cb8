//! The bounds of the exhaustive search.

use crate::model::{Action, Protocol};
use crate::rules::Rules;
use crate::state::{A, B, C, D, Faults, Upload};

#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    gateways: u8,
    requests: &'static [Upload],
    cuts: bool,
    is_pinned: bool,
    begun: &'static [Action],
    faults: Faults,
}

impl Scenario {
    pub(crate) fn protocol(&self, rules: Rules) -> Protocol {
        Protocol {
            gateways: self.gateways,
            requests: self.requests.to_vec(),
            cuts: self.cuts,
            is_pinned: self.is_pinned,
            begun: self.begun,
            faults: self.faults,
            rules,
        }
    }
}

/// How many crashes, lost connections, expired leases and database rollbacks may occur.
const fn faults(counts: [u8; 4]) -> Faults {
    let [crashes, lost_connections, expired_leases, going_back] = counts;
    Faults {
        crashes,
        lost_connections,
        expired_leases,
        going_back,
    }
}

/// Whether the long form is asked for.
fn is_long() -> bool {
    std::env::var("EFGS_MODEL").is_ok_and(|form| form == "long")
}

/// Whether a scenario is searched for cycles: with two gateways and a database rollback that takes
/// too long for every day.
pub(crate) fn is_small(scenario: &Scenario) -> bool {
    is_long() || scenario.gateways == 1 || scenario.faults.going_back == 0
}

/// The short ones, or with `EFGS_MODEL=long` the long ones, too.
pub(crate) fn all() -> Vec<Scenario> {
    let mut scenarios = short();
    if is_long() {
        scenarios.extend(long());
    }
    scenarios
}

const fn scenario(
    name: &'static str,
    gateways: u8,
    requests: &'static [Upload],
    cuts: bool,
    counts: [u8; 4],
) -> Scenario {
    Scenario {
        name,
        gateways,
        requests,
        cuts,
        is_pinned: false,
        begun: &[],
        faults: faults(counts),
    }
}

/// The same with each request sent to a gateway of its own.
const fn pinned(scenario: Scenario) -> Scenario {
    Scenario {
        is_pinned: true,
        ..scenario
    }
}

/// An upload is stored, and a download batch is cut but not served yet.
const CUT: &[Action] = &[
    Action::Send(0, 0),
    Action::Check(0),
    Action::Execute(0),
    Action::Receive(0),
    Action::TakeLease(0),
    Action::Cut(0),
];

/// Two uploads are stored, the second not answered yet, and a download batch of both is served: by
/// a gateway that then crashes.
const SERVED: &[Action] = &[
    Action::Send(1, 1),
    Action::Check(1),
    Action::Execute(1),
    Action::Follow(0),
    Action::Send(0, 0),
    Action::Check(0),
    Action::Execute(0),
    Action::Receive(1),
    Action::Follow(1),
    Action::TakeLease(1),
    Action::Cut(1),
    Action::Serve(1),
    Action::Crash(1),
];

/// The same, but with a part of it behind it.
const fn begun(scenario: Scenario, begun: &'static [Action]) -> Scenario {
    Scenario { begun, ..scenario }
}

pub(crate) fn short() -> Vec<Scenario> {
    vec![
        scenario("retries", 2, &[A, A, B], false, [0, 1, 0, 0]),
        scenario("races", 2, &[A, C, D], false, [0, 0, 0, 0]),
        scenario("crashes", 2, &[A, C], true, [1, 0, 0, 0]),
        scenario("leases", 2, &[A, C], true, [0, 0, 1, 0]),
        scenario("alone and back", 1, &[A, C], true, [1, 0, 0, 1]),
        scenario("the log is rolled back", 2, &[A, C], false, [1, 0, 0, 1]),
        begun(
            pinned(scenario("numbers go back", 2, &[A, C], true, [0, 0, 0, 1])),
            CUT,
        ),
        begun(
            pinned(scenario(
                "a batch is rolled back",
                2,
                &[A, C],
                true,
                [1, 0, 0, 1],
            )),
            SERVED,
        ),
    ]
}

fn long() -> Vec<Scenario> {
    vec![
        scenario("retries, long", 2, &[A, A, B], true, [1, 1, 1, 0]),
        scenario("races of three", 3, &[A, C, D], false, [0, 0, 0, 0]),
        scenario(
            "the log is rolled back, long",
            2,
            &[A, B, C],
            false,
            [1, 1, 0, 1],
        ),
        scenario("numbers go back, long", 2, &[A, C], true, [0, 0, 0, 1]),
        pinned(scenario(
            "numbers go back, and a crash",
            2,
            &[A, C],
            true,
            [1, 0, 0, 1],
        )),
    ]
}
