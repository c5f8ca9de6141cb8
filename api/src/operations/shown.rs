//! What the operations port shows: where it is looked up.

use std::net::SocketAddr;
use std::sync::Arc;

use ::metrics::gauge;

use super::metrics::Metrics;
use super::status::{ShownCallbacks, ShownStatus};
use crate::attention::{self, Attention};
use crate::lifecycle::Lifecycle;
use crate::participant_counters;

/// The name of a gateway that was given none: that of the machine, and one of its ports, by which gateways of
/// one machine are told apart.
pub(crate) fn gateway_name(address: Option<SocketAddr>) -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let machine = machine.unwrap_or_else(|_| "gateway".to_owned());
    let machine = machine.trim();
    match address.map(|address| address.port()) {
        Some(port) => format!("{machine}:{port}"),
        None => machine.to_owned(),
    }
}

/// What the port shows.
pub(crate) struct Shown {
    /// The gateway's name.
    pub(crate) gateway: String,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) metrics: Metrics,
    pub(crate) attention: Arc<Attention>,
    /// Whether this gateway delivers callbacks.
    pub(crate) delivers: bool,
    /// Whether participants are shown the API description on their ports.
    pub(crate) describes_api: bool,
    /// Whether this is a practice gateway.
    pub(crate) practice: bool,
    /// What an operator should see to, as of the start.
    pub(crate) warnings: Vec<String>,
}

impl Shown {
    /// Sets the metrics that are looked up.
    pub(super) fn measure(&self) {
        let shown = self.status();
        gauge!("efgs_ready").set(u32::from(shown.ready));
        gauge!("efgs_database_up").set(u32::from(shown.database_available));
        let Some(running) = self.lifecycle.running() else {
            return;
        };
        let engine = &running.engine;
        engine.measure();
        running.bounds.measure(engine);
        self.attention.measure(engine, &*running.clock);
        let participants = engine.participants().into_iter();
        participants.for_each(participant_counters::register);
    }

    /// The state of the gateway.
    pub(super) fn status(&self) -> ShownStatus {
        let mut warnings = self.warnings.clone();
        let (stopping, delivers) = (self.lifecycle.is_stopping(), self.delivers);
        let Some(running) = self.lifecycle.running() else {
            return ShownStatus {
                gateway: self.gateway.clone(),
                warnings,
                practice: self.practice,
                ..ShownStatus::starting(self.lifecycle.progress(), stopping, delivers)
            };
        };
        let engine = &running.engine;
        let findings = self.attention.findings(engine, &*running.clock);
        warnings.extend(attention::sentences(findings));
        let summary = engine.callbacks().summary();
        let callbacks = ShownCallbacks::new(&summary, delivers);
        ShownStatus {
            gateway: self.gateway.clone(),
            warnings,
            practice: self.practice,
            ..ShownStatus::new(&engine.status(), stopping, callbacks)
        }
    }
}
