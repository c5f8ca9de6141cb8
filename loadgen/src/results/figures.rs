//! Figures computed from the counts of a stream, a phase or a whole run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::delay::Delay;
use super::latency::Percentiles;
use super::status::statuses;

/// A latency, measured both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencySummary {
    /// From the scheduled arrival: what a participant that kept to its timetable saw.
    pub corrected: Percentiles,
    /// From sending.
    pub service: Percentiles,
}

/// The figures of a phase, a stream or a whole run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// The planned duration, or from the start to the last success if that is longer. Of a whole
    /// run, the sum of its phases.
    pub seconds: f64,
    /// Requests that became due.
    pub due: u64,
    /// Uploads answered with 201.
    pub uploads: u64,
    /// Their keys.
    pub upload_keys: u64,
    /// Keys stored per second.
    pub upload_keys_per_second: f64,
    /// Downloads answered with 200, one per batch.
    pub downloads: u64,
    /// Their keys.
    pub download_keys: u64,
    /// Keys delivered per second.
    pub download_keys_per_second: f64,
    /// Bytes of the bodies sent.
    pub bytes_sent: u64,
    /// Bytes of the bodies received.
    pub bytes_received: u64,
    /// Requests answered with a status other than 200 and 201, by status.
    #[serde(
        default,
        deserialize_with = "statuses",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub refused: BTreeMap<u16, u64>,
    /// Requests without a response.
    pub failed: u64,
    /// Requests with a response that the scenario does not expect, or without any.
    pub unexpected: u64,
    /// Requests that were due and never sent: they still waited for a connection long after the end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
    /// Most requests that were due and not yet sent, at the end of a second.
    pub behind_max: u64,
    /// Latency of uploads answered with 201.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<LatencySummary>,
    /// Latency of downloads answered with 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download: Option<LatencySummary>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Figures {
    /// Share of the requests that became due and were answered otherwise than expected, not at all,
    /// or never sent; `None` when none became due.
    #[allow(clippy::cast_precision_loss, reason = "a share for people to read")]
    pub fn errors_share(&self) -> Option<f64> {
        let errors = (self.unexpected + self.dropped).min(self.due);
        (self.due > 0).then(|| errors as f64 / self.due as f64)
    }

    /// Uploads stored per second; 0 when no time has passed.
    #[allow(clippy::cast_precision_loss, reason = "a rate for people to read")]
    pub fn uploads_per_second(&self) -> f64 {
        match self.seconds > 0.0 {
            true => self.uploads as f64 / self.seconds,
            false => 0.0,
        }
    }
}

/// The figures of a phase.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseSummary {
    /// Its name.
    pub name: String,
    /// When it began.
    pub begins_at: f64,
    /// Uploads per second by its timetable; absent without one (closed loop).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_uploads_per_second: Option<f64>,
    /// Keys per second by its timetable; absent without one (closed loop).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_keys_per_second: Option<f64>,
    /// All streams together.
    pub all: Figures,
    /// Each stream, when the phase has several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub streams: BTreeMap<String, Figures>,
    /// Keys that the run had stored at its end.
    pub stored_keys: u64,
    /// CPU time that each watched process used in it, in seconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cpu_seconds: BTreeMap<String, f64>,
    /// Resident set of each watched process at its end.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rss_bytes: BTreeMap<String, u64>,
    /// Bytes of the database's files at its end, if they are accessible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// How long the gateway took to become ready, if it was restarted at the end of the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_seconds: Option<f64>,
}

/// The CPU time of loadgen itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnCost {
    /// Making and signing, nanoseconds per key.
    pub signing_ns_per_key: f64,
    /// Sending and receiving, nanoseconds per key (uploaded or delivered).
    pub sending_ns_per_key: f64,
    /// Time spent on making and signing before the clock started, in seconds.
    pub ahead_seconds: f64,
}

/// The highest rate at which an objective held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// The objective, as given.
    pub objective: String,
    /// The highest offered rate at which it held; 0 if it never did.
    pub uploads_per_second: f64,
    /// The same in keys.
    pub keys_per_second: f64,
    /// The lowest offered rate at which it failed; absent if it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broke_at_uploads_per_second: Option<f64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a run has reached an objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveOutcome {
    /// The objective, as given.
    pub objective: String,
    /// What was compared, with its unit: `upload_p99_seconds`, `errors_share`,
    /// `uploads_stored_per_second`.
    pub measure: String,
    /// With what, in that unit.
    pub limit: f64,
    /// What was measured, in that unit; absent when there was nothing to measure.
    #[serde(default)]
    pub measured: Option<f64>,
    /// Whether it was reached.
    pub ok: bool,
    /// Share of the requests that were due and never sent, where that alone misses the objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted_share: Option<f64>,
}

/// The last line: the summary.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The whole run.
    pub total: Figures,
    /// Phase by phase.
    pub phases: Vec<PhaseSummary>,
    /// CPU time that each watched process used, in seconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cpu_seconds: BTreeMap<String, f64>,
    /// Largest observed resident set of each watched process.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rss_bytes_max: BTreeMap<String, u64>,
    /// CPU time of loadgen itself.
    pub loadgen: OwnCost,
    /// The result of `loadgen find-limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// How long uploads took to become downloadable, if the gateway's operations port was polled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// The objectives of the run, and whether it has reached them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<ObjectiveOutcome>,
}
