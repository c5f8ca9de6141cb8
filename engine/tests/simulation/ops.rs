//! What a simulation does: a list of operations, made from a seed, which can be written down,
//! shortened and run again. Choices are numbers that are taken modulo what there is to choose from,
//! so that any part of a list is a list.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::faults::{PlannedFault, Spot};

/// One operation. `by` chooses a participant, `via` a gateway, `of` an upload that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Operation {
    /// New keys under a new tag.
    Upload {
        by: u16,
        via: u16,
        keys: u16,
        fault: Option<PlannedFault>,
    },
    /// New keys among keys that are stored.
    UploadKnownKeys {
        of: u16,
        via: u16,
        keys: u16,
    },
    /// An upload that is stored, again.
    Replay {
        of: u16,
        via: u16,
    },
    /// The tag of an upload that is stored, with other keys.
    ReuseTag {
        of: u16,
        by: u16,
        via: u16,
    },
    /// Uploads at the same time that share keys and tags.
    Race {
        by: u16,
        racers: Vec<Racer>,
        fault: Option<PlannedFault>,
    },
    Restart {
        gateway: u16,
    },
    /// A new sealing key, in two steps.
    RotateKeys,
    /// At most one midnight passes.
    PassHours {
        hours: u16,
    },
    /// Everybody downloads everything; the fault hits the cutting of download batches.
    Download {
        via: u16,
        fault: Option<PlannedFault>,
    },
    /// Callbacks are delivered.
    Deliver {
        via: u16,
    },
    /// The database loses its newest rows; an operator begins an epoch.
    GoBack {
        rows: u16,
    },
}

/// One of several uploads at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Racer {
    pub(crate) via: u16,
    pub(crate) keys: u16,
    /// Has the first of the keys that are shared, or the second.
    pub(crate) shares: [bool; 2],
    /// The same as the racer before.
    pub(crate) is_twin: bool,
}

/// The operations of a seed.
pub(crate) fn generate(random: &mut ChaCha8Rng, count: u32) -> Vec<Operation> {
    (0..count).map(|_| operation(random)).collect()
}

fn operation(random: &mut ChaCha8Rng) -> Operation {
    let [of, by, via] = random.random();
    let keys = random.random_range(0..=20);
    match random.random_range(0..100) {
        0..30 => Operation::Upload {
            by,
            via,
            keys,
            fault: perhaps(random, &Spot::ALL),
        },
        30..44 => Operation::UploadKnownKeys { of, via, keys },
        44..54 => Operation::Replay { of, via },
        54..61 => Operation::ReuseTag { of, by, via },
        61..73 => Operation::Race {
            by,
            racers: racers(random),
            fault: perhaps(random, &Spot::ALL),
        },
        73..77 => Operation::Restart { gateway: via },
        77..79 => Operation::RotateKeys,
        79..84 => Operation::PassHours {
            hours: random.random_range(1..24),
        },
        84..87 => Operation::Deliver { via },
        87..89 => Operation::GoBack {
            rows: random.random_range(1..4),
        },
        _ => Operation::Download {
            via,
            fault: perhaps(random, &[Spot::Commit]),
        },
    }
}

fn racers(random: &mut ChaCha8Rng) -> Vec<Racer> {
    let racer = |random: &mut ChaCha8Rng| Racer {
        via: random.random(),
        keys: random.random_range(0..=20),
        shares: [random.random_bool(0.4), random.random_bool(0.4)],
        is_twin: random.random_bool(0.3),
    };
    (0..random.random_range(2..8))
        .map(|_| racer(random))
        .collect()
}

fn perhaps(random: &mut ChaCha8Rng, spots: &[Spot]) -> Option<PlannedFault> {
    random
        .random_bool(0.4)
        .then(|| PlannedFault::generate(random, spots))
}
