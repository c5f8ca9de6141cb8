//! How participants download.

use std::time::Duration;

use engine::domain::Day;

use crate::client::Target;

/// How to download.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// The gateways; participants are spread over them.
    pub targets: Vec<Target>,
    /// The first day to ask for.
    pub day: Day,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// How long to wait for a next batch while keys are missing.
    pub patience: Duration,
    /// Whether keys that are in no record are somebody else's business.
    pub ignore_unknown: bool,
}
