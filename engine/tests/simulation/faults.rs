//! Faults of the database inside a simulation: before a commit, instead of it, after it; slow.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use engine::faults::{Fault, Faults, Step};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How long a slow database takes for a step.
const SLOW: Duration = Duration::from_millis(30);

/// Where it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Spot {
    /// The insertion of an upload; alone in its group it is the commit, too.
    Insert,
    Commit,
    LockLog,
    Connect,
}

impl Spot {
    pub(crate) const ALL: [Self; 4] = [Self::Insert, Self::Commit, Self::LockLog, Self::Connect];

    fn is_at(self, step: Step<'_>) -> bool {
        match step {
            Step::Insert(_) => self == Self::Insert,
            Step::Commit => self == Self::Commit,
            Step::LockLog => self == Self::LockLog,
            Step::Connect => self == Self::Connect,
        }
    }
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Conflict,
    Refused,
    /// The connection breaks before the step.
    LostBefore,
    /// The step is done, and the connection breaks before its answer.
    LostAfter,
    Slow,
}

/// A fault of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlannedFault {
    pub(crate) at: Spot,
    pub(crate) kind: Kind,
    /// How often, one after another.
    pub(crate) times: u8,
}

impl PlannedFault {
    pub(crate) fn generate(random: &mut ChaCha8Rng, spots: &[Spot]) -> Self {
        const KINDS: [Kind; 5] = [
            Kind::Conflict,
            Kind::Refused,
            Kind::LostBefore,
            Kind::LostAfter,
            Kind::Slow,
        ];
        Self {
            at: *spots.choose(random).unwrap(),
            kind: *KINDS.choose(random).unwrap(),
            times: random.random_range(1..=3),
        }
    }
}

/// The fault that is armed, shared by all connections of all gateways.
#[derive(Debug, Clone, Default)]
pub(crate) struct Injector(Arc<Mutex<Armed>>);

#[derive(Debug, Default)]
struct Armed {
    fault: Option<PlannedFault>,
    fired: u32,
}

impl Injector {
    pub(crate) fn faults(&self) -> Faults {
        let injector = self.clone();
        Faults::new(move |step| injector.at(step))
    }

    pub(crate) fn arm(&self, fault: Option<PlannedFault>) {
        *self.armed() = Armed { fault, fired: 0 };
    }

    /// Returns how often the fault has happened.
    pub(crate) fn disarm(&self) -> u32 {
        std::mem::take(&mut *self.armed()).fired
    }

    fn armed(&self) -> std::sync::MutexGuard<'_, Armed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, step: Step<'_>) -> Option<Fault> {
        let kind = {
            let mut armed = self.armed();
            let fault = armed.fault.as_mut().filter(|fault| fault.at.is_at(step))?;
            fault.times = fault.times.checked_sub(1)?;
            let kind = fault.kind;
            armed.fired += 1;
            kind
        };
        match kind {
            Kind::Conflict => Some(Fault::Conflict),
            Kind::Refused => Some(Fault::Refused),
            Kind::LostBefore => Some(Fault::Lost),
            Kind::LostAfter => Some(Fault::LostAfterwards),
            Kind::Slow => {
                thread::sleep(SLOW);
                None
            }
        }
    }
}
