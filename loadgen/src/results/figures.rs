//! What the counts of a stream, a phase or a whole run come to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::latency::Percentiles;
use super::status::statuses;

/// A latency both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencySummary {
    /// From the intended arrival: what a participant that kept its timetable saw.
    pub corrected: Percentiles,
    /// From sending.
    pub service: Percentiles,
}

/// What a phase, a stream or a whole run came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// The time it was meant to last, or from its beginning to its last success, if that is longer.
    /// Of a whole run, the time that its clock ran.
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
    /// Requests answered with another status than 200 and 201, by status.
    #[serde(
        default,
        deserialize_with = "statuses",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub refused: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub failed: u64,
    /// Requests with an answer other than the scenario expects, or without any.
    pub unexpected: u64,
    /// Most requests that were due and not yet sent, at the end of a second.
    pub behind_max: u64,
    /// Latency of uploads answered with 201.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<LatencySummary>,
    /// Latency of downloads answered with 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download: Option<LatencySummary>,
}

/// What a phase came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseSummary {
    /// Its name.
    pub name: String,
    /// When it began.
    pub begins_at: f64,
    /// Uploads per second that its timetable asks for; absent when it has none (closed).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_uploads_per_second: Option<f64>,
    /// Keys per second that its timetable asks for; absent when it has none (closed).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_keys_per_second: Option<f64>,
    /// All streams together.
    pub all: Figures,
    /// Each stream, when the phase has several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub streams: BTreeMap<String, Figures>,
    /// Keys that the run had stored at its end.
    pub stored_keys: u64,
    /// Processor time that each watched process used in it, in seconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cpu_seconds: BTreeMap<String, f64>,
    /// Resident set of each watched process at its end.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rss_bytes: BTreeMap<String, u64>,
    /// Bytes of the database's files at its end, when they are at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// How long the gateway took from its start until it was ready, when it was started again at
    /// the end of the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_seconds: Option<f64>,
}

/// What the load itself cost, in processor time of loadgen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnCost {
    /// Making and signing, nanoseconds per key.
    pub signing_ns_per_key: f64,
    /// Sending and receiving, nanoseconds per key (uploaded or delivered).
    pub sending_ns_per_key: f64,
    /// Time that making and signing ahead of the clock took, in seconds.
    pub ahead_seconds: f64,
}

/// The highest rate at which an objective held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knee {
    /// The objective, as it was given.
    pub objective: String,
    /// The highest offered rate at which it held; 0 when it held at none.
    pub uploads_per_second: f64,
    /// The same in keys.
    pub keys_per_second: f64,
    /// The lowest offered rate at which it broke; absent when it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broke_at_uploads_per_second: Option<f64>,
    /// How it broke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The last line: what it all came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The whole run.
    pub total: Figures,
    /// Phase by phase.
    pub phases: Vec<PhaseSummary>,
    /// Processor time that each watched process used, in seconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cpu_seconds: BTreeMap<String, f64>,
    /// Largest resident set that was seen of each watched process.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rss_bytes_max: BTreeMap<String, u64>,
    /// What the load itself cost.
    pub loadgen: OwnCost,
    /// What `loadgen find-limit` found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knee: Option<Knee>,
}
