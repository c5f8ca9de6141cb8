//! Options of a verification.

use std::time::Duration;

use engine::domain::Day;

use crate::client::Target;

/// Options of a verification.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// The gateways; participants are spread over them.
    pub targets: Vec<Target>,
    /// The first day to ask for.
    pub day: Day,
    /// Timeout of a request.
    pub timeout: Duration,
    /// How long to wait for a next batch while keys are missing.
    pub delivery_timeout: Duration,
    /// Whether to ignore keys that are in no record.
    pub ignore_unknown: bool,
}
