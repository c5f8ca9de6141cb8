//! Counts of one second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::figures::{Figures, LatencySummary};
use super::latency::Latency;
use super::status::statuses;

/// Resources that a process has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSample {
    /// CPU time of all its threads since it started, in seconds.
    pub cpu_seconds: f64,
    /// Resident set.
    pub rss_bytes: u64,
}

/// Totals of a stage of the gateway so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSample {
    /// Time spent in it since the gateway started, in seconds.
    pub seconds_total: f64,
    /// How often it ran since the gateway started.
    pub count: u64,
}

/// The responses of one second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Counts {
    /// Requests that became due: the offered load. In a closed loop, requests that were sent.
    pub due: u64,
    /// Uploads answered with 201.
    pub uploads: u64,
    /// Their keys.
    pub upload_keys: u64,
    /// Downloads answered with 200, one per batch.
    pub downloads: u64,
    /// Their keys.
    pub download_keys: u64,
    /// Bytes of the bodies sent.
    pub bytes_sent: u64,
    /// Bytes of the bodies received.
    pub bytes_received: u64,
    /// Requests answered with a status other than 200 and 201, by status.
    #[serde(
        deserialize_with = "statuses",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub refused: BTreeMap<u16, u64>,
    /// Requests without a response.
    pub failed: u64,
    /// Requests with a response that the scenario does not expect, or without any.
    pub unexpected: u64,
    /// From the scheduled arrival of an upload to its 201, corrected for coordinated omission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_latency: Option<Latency>,
    /// From sending an upload to its 201.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_service: Option<Latency>,
    /// From the scheduled arrival of a download to the last byte of its 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_latency: Option<Latency>,
    /// From asking for a download to the last byte of its 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_service: Option<Latency>,
}

impl Counts {
    /// Adds the counts of another second or stream.
    pub fn add(&mut self, other: &Self) {
        self.due += other.due;
        self.uploads += other.uploads;
        self.upload_keys += other.upload_keys;
        self.downloads += other.downloads;
        self.download_keys += other.download_keys;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        for (status, count) in &other.refused {
            *self.refused.entry(*status).or_default() += count;
        }
        self.failed += other.failed;
        self.unexpected += other.unexpected;
        add_latency(&mut self.upload_latency, other.upload_latency.as_ref());
        add_latency(&mut self.upload_service, other.upload_service.as_ref());
        add_latency(&mut self.download_latency, other.download_latency.as_ref());
        add_latency(&mut self.download_service, other.download_service.as_ref());
    }

    /// The figures for these counts over that many seconds, with the requests that waited at most and
    /// those that were never sent.
    pub fn figures(&self, seconds: f64, behind_max: u64, dropped: u64) -> Figures {
        let latency = |corrected: &Option<Latency>, service: &Option<Latency>| {
            Some(LatencySummary {
                corrected: corrected.as_ref()?.percentiles(),
                service: service.as_ref()?.percentiles(),
            })
        };
        Figures {
            seconds,
            due: self.due,
            uploads: self.uploads,
            upload_keys: self.upload_keys,
            upload_keys_per_second: per_second(self.upload_keys, seconds),
            downloads: self.downloads,
            download_keys: self.download_keys,
            download_keys_per_second: per_second(self.download_keys, seconds),
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            refused: self.refused.clone(),
            failed: self.failed,
            unexpected: self.unexpected,
            dropped,
            behind_max,
            upload: latency(&self.upload_latency, &self.upload_service),
            download: latency(&self.download_latency, &self.download_service),
        }
    }
}

fn add_latency(sum: &mut Option<Latency>, other: Option<&Latency>) {
    if let Some(other) = other {
        sum.get_or_insert_default().add(other);
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people to read")]
fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

/// One second of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Second {
    /// End of this second, in seconds since the start of the run; phases end between full seconds.
    pub at: f64,
    /// Name of the phase.
    pub phase: String,
    /// All streams together.
    pub all: Counts,
    /// Each stream, when the phase has several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub streams: BTreeMap<String, Counts>,
    /// Requests that were due but not yet sent at the end of this second.
    pub behind: u64,
    /// Keys that this run has stored so far.
    pub stored_keys: u64,
    /// Bytes of the database's files, if they are accessible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// The processes watched, by name: `loadgen`, `gateway`, `database`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub processes: BTreeMap<String, ProcessSample>,
    /// The gateway's stages by name, if its operations port was polled.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stages: BTreeMap<String, StageSample>,
}
