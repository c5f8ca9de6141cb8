//! The raw results of a run, as JSON lines: one `run`, one `second` for every second, one
//! `summary`. Plans and reports are made from these files alone, so that a figure can be made again
//! years after the machine that it was measured on is gone.
//!
//! Rules of the format: every line has its `kind`; the first line has the version; a member that is
//! unknown is an error, so that a misspelt one is not read as absent; what was not measured is
//! absent. Times are seconds since the start of the run, latencies microseconds.

mod file;
mod latency;
mod machine;
mod show;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de};

pub use self::file::{Results, ResultsError, ResultsWriter};
pub use self::latency::{Latency, LatencyError, Percentiles};
pub use self::machine::Machine;

/// Version of the format.
pub const VERSION: u32 = 1;

/// How participants prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authentication {
    /// Mutual TLS with the gateway.
    Mtls,
    /// Identity headers of a proxy that ends TLS.
    Proxy,
}

/// Version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Http {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// How requests travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transport {
    /// How participants prove who they are.
    pub authentication: Authentication,
    /// Version of HTTP.
    pub http: Http,
}

/// The first line: what was run, on what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Version of the format, [`VERSION`].
    pub version: u32,
    /// Name of the scenario, or of the profile.
    pub name: String,
    /// The scenario as it was run, in TOML.
    pub scenario: String,
    /// Decides about every key and every arrival.
    pub seed: u64,
    /// When the run began, RFC 3339 in UTC.
    pub started: String,
    /// What loadgen ran on. Gateway and database ran there, too, when `processes` lists them.
    pub machine: Machine,
    /// The gateways.
    pub targets: Vec<String>,
    /// How requests travelled.
    pub transport: Transport,
    /// The gateway's database with its version, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The command line, argument by argument.
    pub command: Vec<String>,
    /// Version of loadgen.
    pub program_version: String,
    /// Commit that loadgen was built from, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSample {
    /// Processor time of all its threads since it started, in seconds.
    pub cpu_seconds: f64,
    /// Resident set.
    pub rss_bytes: u64,
}

/// What a stage of the gateway has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSample {
    /// Time spent in it since the gateway started, in seconds.
    pub seconds_total: f64,
    /// How often it ran since the gateway started.
    pub count: u64,
}

/// What was answered within one second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Counts {
    /// Requests that became due: the offered load. In a closed phase, requests that were sent.
    pub due: u64,
    /// Uploads answered with 201.
    pub uploads: u64,
    /// Their keys.
    pub upload_keys: u64,
    /// Downloads answered with 200, one a batch.
    pub downloads: u64,
    /// Their keys.
    pub download_keys: u64,
    /// Bytes of the bodies sent.
    pub bytes_sent: u64,
    /// Bytes of the bodies received.
    pub bytes_received: u64,
    /// Requests answered with another status than 200 and 201, by status.
    #[serde(
        deserialize_with = "statuses",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub refused: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub failed: u64,
    /// Requests with an answer other than the scenario expects, or without any.
    pub unexpected: u64,
    /// From the intended arrival of an upload to its 201, corrected for coordinated omission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_latency: Option<Latency>,
    /// From sending an upload to its 201.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_service: Option<Latency>,
    /// From the intended arrival of a download to the last byte of its 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_latency: Option<Latency>,
    /// From asking for a download to the last byte of its 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_service: Option<Latency>,
}

impl Counts {
    /// Adds what another second, or another stream, counted.
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

    /// What they come to over so many seconds.
    pub fn figures(&self, seconds: f64, behind_max: u64) -> Figures {
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
    /// Requests that were due at the end of this second and not yet sent.
    pub behind: u64,
    /// Keys that this run has stored so far.
    pub stored_keys: u64,
    /// Bytes of the database's files, when they are at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// The processes watched, by name: `loadgen`, `gateway`, `database`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub processes: BTreeMap<String, ProcessSample>,
    /// The gateway's stages, by name, when its operations port was asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stages: BTreeMap<String, StageSample>,
}

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
    /// Keys stored a second.
    pub upload_keys_per_second: f64,
    /// Downloads answered with 200, one a batch.
    pub downloads: u64,
    /// Their keys.
    pub download_keys: u64,
    /// Keys delivered a second.
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
    /// Uploads a second that its timetable asks for; absent when it has none (closed).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_uploads_per_second: Option<f64>,
    /// Keys a second that its timetable asks for; absent when it has none (closed).
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
    /// Making and signing, nanoseconds a key.
    pub signing_ns_per_key: f64,
    /// Sending and receiving, nanoseconds a key (uploaded or delivered).
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

/// JSON's names are texts, and serde leaves them so within a tagged line.
fn statuses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u16, u64>, D::Error> {
    let texts = BTreeMap::<String, u64>::deserialize(deserializer)?;
    let numbers = texts.into_iter().map(|(text, count)| {
        let status = text.parse().map_err(|_| {
            de::Error::invalid_value(de::Unexpected::Str(&text), &"the number of a status")
        })?;
        Ok((status, count))
    });
    numbers.collect()
}
