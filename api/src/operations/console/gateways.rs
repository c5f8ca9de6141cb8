//! The gateways of the installation, and what is wrong between them.

use std::collections::BTreeSet;

use engine::domain::UnixMillis;
use schemars::JsonSchema;
use serde::Serialize;

use super::figures::{Figures, Gauges};
use super::sampling::Other;
use super::sentence::Sentence;

/// A gateway that has not been seen for so long is not shown any more.
const SHOWN_FOR_SECONDS: u64 = 3600;

/// How a gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum GatewayState {
    Ready,
    NotReady,
    /// It was stopped.
    Stopped,
    /// It has not announced itself for too long, and did not say that it stops.
    Lost,
}

/// A gateway.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Gateway {
    name: String,
    /// It is the one that shows the console.
    is_this: bool,
    version: String,
    state: GatewayState,
    /// In milliseconds.
    started_at: u64,
    /// Since it announced itself last.
    seen_seconds_ago: u64,
    address: Option<String>,
    /// It cuts download batches.
    cuts: bool,
    database_available: bool,
    clock_ahead_of_database_ms: i64,
    epoch: u64,
    log_position: u64,
    keys_per_second: f64,
    downloads_per_second: f64,
    gauges: Gauges,
}

impl Gateway {
    /// This gateway.
    pub(super) fn this(name: &str, started_at: UnixMillis, figures: &Figures) -> Self {
        let state = match figures.is_ready {
            true => GatewayState::Ready,
            false => GatewayState::NotReady,
        };
        let mut this = Self::new(name, env!("CARGO_PKG_VERSION"), figures, state);
        this.is_this = true;
        this.started_at = started_at.0;
        this
    }

    /// Another one.
    pub(super) fn other(other: &Other) -> Self {
        let (name, version) = (&other.name, &other.version);
        let mut gateway = Self::new(name, version, &other.figures, state_of(other));
        gateway.started_at = other.started_at.0;
        gateway.seen_seconds_ago = other.age.as_secs();
        gateway
    }

    fn new(name: &str, version: &str, figures: &Figures, state: GatewayState) -> Self {
        Self {
            name: name.to_owned(),
            is_this: false,
            version: version.to_owned(),
            state,
            started_at: 0,
            seen_seconds_ago: 0,
            address: figures.address.clone(),
            cuts: figures.cuts,
            database_available: figures.database_available,
            clock_ahead_of_database_ms: figures.clock_ahead_of_database_ms,
            epoch: figures.epoch,
            log_position: figures.log_position,
            keys_per_second: figures.rates.keys,
            downloads_per_second: figures.rates.downloads,
            gauges: figures.gauges,
        }
    }

    /// Whether it takes part in the installation now.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.state, GatewayState::Ready | GatewayState::NotReady)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == GatewayState::Ready
    }
}

fn state_of(other: &Other) -> GatewayState {
    if other.figures.has_stopped {
        GatewayState::Stopped
    } else if !other.is_alive() {
        GatewayState::Lost
    } else if other.figures.is_ready {
        GatewayState::Ready
    } else {
        GatewayState::NotReady
    }
}

/// Those of others that are worth a line.
pub(super) fn shown(others: &[Other]) -> impl Iterator<Item = &Other> {
    others
        .iter()
        .filter(|other| other.age.as_secs() <= SHOWN_FOR_SECONDS)
}

/// Two gateways have the same name.
pub(super) fn shared_name(name: &str) -> Sentence {
    Sentence::error(format!(
        "another gateway of this installation is named {name}, too, so that consoles show only one of them: give \
         each a name of its own ([operations] gateway_name), and restart it"
    ))
}

/// What is wrong between gateways.
pub(super) fn sentences(gateways: &[Gateway]) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    for gateway in gateways
        .iter()
        .filter(|gateway| gateway.state == GatewayState::Lost)
    {
        let (name, minutes) = (&gateway.name, gateway.seen_seconds_ago / 60);
        let text = format!(
            "gateway {name} has not been seen for {minutes} min and did not say that it stops: see whether \
             its process runs and reaches the database"
        );
        sentences.push(Sentence::error(text));
    }
    let alive = || gateways.iter().filter(|gateway| gateway.is_alive());
    let versions: BTreeSet<_> = alive().map(|gateway| &*gateway.version).collect();
    if versions.len() > 1 {
        let versions: Vec<_> = versions.into_iter().collect();
        let text = format!(
            "the gateways run different versions ({}): complete the upgrade",
            versions.join(", ")
        );
        sentences.push(Sentence::warning(text));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn other(age_seconds: u64, has_stopped: bool, version: &str) -> Other {
        Other {
            name: "b".to_owned(),
            version: version.to_owned(),
            started_at: UnixMillis(0),
            age: Duration::from_secs(age_seconds),
            figures: Figures {
                is_ready: true,
                has_stopped,
                ..Figures::default()
            },
        }
    }

    fn this() -> Gateway {
        let figures = Figures {
            is_ready: true,
            cuts: true,
            ..Figures::default()
        };
        Gateway::this("a", UnixMillis(0), &figures)
    }

    #[track_caller]
    fn check(other: &Other, state: GatewayState, expected: Option<&str>) {
        let gateway = Gateway::other(other);
        assert_eq!(gateway.state, state);
        let found = sentences(&[this(), gateway]);
        assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
        if let (Some(found), Some(expected)) = (found.first(), expected) {
            assert!(found.text.contains(expected), "{found:?}");
        }
    }

    #[test]
    fn tells_a_gateway_that_was_stopped_from_one_that_is_lost() {
        let ours = env!("CARGO_PKG_VERSION");
        check(&other(9, false, ours), GatewayState::Ready, None);
        check(&other(100, true, ours), GatewayState::Stopped, None);
        let lost = "Gateway b has not been seen for 2 min";
        check(&other(125, false, ours), GatewayState::Lost, Some(lost));
        let differ = "different versions";
        check(&other(9, false, "0.0.1"), GatewayState::Ready, Some(differ));
    }
}
