//! The summary of a run as one JSON object for other programs (`--summary-json`).
//!
//! Names carry units, what was not measured is `null` or absent, and members may be added: a name that is
//! there keeps its meaning as long as `version` is the same.

use std::collections::BTreeMap;

use serde::Serialize;

use super::delay::Delay;
use super::figures::{Figures, LatencySummary, Limit, ObjectiveOutcome, PhaseSummary, Summary};
use super::latency::Percentiles;
use super::machine::Machine;
use super::run::Run;

/// Version of [`Export`].
pub const EXPORT_VERSION: u32 = 1;

/// A run and what became of it.
#[derive(Debug, Serialize)]
pub struct Export<'a> {
    version: u32,
    name: &'a str,
    seed: u64,
    /// RFC 3339, UTC.
    started: &'a str,
    command: &'a [String],
    program_version: &'a str,
    commit: Option<&'a str>,
    targets: &'a [String],
    database: Option<&'a str>,
    machine: &'a Machine,
    /// Whether all objectives were reached; `null` without any.
    met: Option<bool>,
    /// The same as a sentence.
    verdict: String,
    objectives: &'a [ObjectiveOutcome],
    limit: Option<&'a Limit>,
    /// From accepting an upload until it can be downloaded, in buckets.
    delay: Option<&'a Delay>,
    total: Volume<'a>,
    phases: Vec<Part<'a>>,
}

#[derive(Debug, Serialize)]
struct Part<'a> {
    name: &'a str,
    begins_at_seconds: f64,
    offered_uploads_per_second: Option<f64>,
    offered_keys_per_second: Option<f64>,
    #[serde(flatten)]
    volume: Volume<'a>,
    cpu_seconds: &'a BTreeMap<String, f64>,
    rss_bytes: &'a BTreeMap<String, u64>,
    disk_bytes: Option<u64>,
    restart_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Volume<'a> {
    seconds: f64,
    requests_due: u64,
    requests_never_sent: u64,
    requests_unanswered: u64,
    requests_unexpected: u64,
    errors_share: Option<f64>,
    uploads_stored: u64,
    uploads_stored_per_second: f64,
    keys_stored: u64,
    keys_stored_per_second: f64,
    batches_delivered: u64,
    keys_delivered: u64,
    keys_delivered_per_second: f64,
    bytes_sent: u64,
    bytes_received: u64,
    refused_by_status: &'a BTreeMap<u16, u64>,
    upload: Option<Latencies>,
    download: Option<Latencies>,
}

/// Both ways of counting.
#[derive(Debug, Serialize)]
struct Latencies {
    /// From the scheduled arrival.
    latency_seconds: Seconds,
    /// From sending.
    service_seconds: Seconds,
}

#[derive(Debug, Serialize)]
struct Seconds {
    count: u64,
    p50: f64,
    p90: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p999: f64,
    max: f64,
}

impl<'a> Export<'a> {
    /// Of a run that ended, with its verdict as a sentence.
    pub fn new(run: &'a Run, summary: &'a Summary, met: Option<bool>, verdict: String) -> Self {
        Self {
            version: EXPORT_VERSION,
            name: &run.name,
            seed: run.seed,
            started: &run.started,
            command: &run.command,
            program_version: &run.program_version,
            commit: run.commit.as_deref(),
            targets: &run.targets,
            database: run.database.as_deref(),
            machine: &run.machine,
            met,
            verdict,
            objectives: &summary.objectives,
            limit: summary.limit.as_ref(),
            delay: summary.delay.as_ref(),
            total: Volume::of(&summary.total),
            phases: summary.phases.iter().map(Part::of).collect(),
        }
    }
}

impl<'a> Part<'a> {
    fn of(phase: &'a PhaseSummary) -> Self {
        Self {
            name: &phase.name,
            begins_at_seconds: phase.begins_at,
            offered_uploads_per_second: phase.offered_uploads_per_second,
            offered_keys_per_second: phase.offered_keys_per_second,
            volume: Volume::of(&phase.all),
            cpu_seconds: &phase.cpu_seconds,
            rss_bytes: &phase.rss_bytes,
            disk_bytes: phase.disk_bytes,
            restart_seconds: phase.restart_seconds,
        }
    }
}

impl<'a> Volume<'a> {
    fn of(figures: &'a Figures) -> Self {
        Self {
            seconds: figures.seconds,
            requests_due: figures.due,
            requests_never_sent: figures.dropped,
            requests_unanswered: figures.failed,
            requests_unexpected: figures.unexpected,
            errors_share: figures.errors_share(),
            uploads_stored: figures.uploads,
            uploads_stored_per_second: figures.uploads_per_second(),
            keys_stored: figures.upload_keys,
            keys_stored_per_second: figures.upload_keys_per_second,
            batches_delivered: figures.downloads,
            keys_delivered: figures.download_keys,
            keys_delivered_per_second: figures.download_keys_per_second,
            bytes_sent: figures.bytes_sent,
            bytes_received: figures.bytes_received,
            refused_by_status: &figures.refused,
            upload: figures.upload.map(Latencies::of),
            download: figures.download.map(Latencies::of),
        }
    }
}

impl Latencies {
    fn of(latency: LatencySummary) -> Self {
        Self {
            latency_seconds: Seconds::of(latency.corrected),
            service_seconds: Seconds::of(latency.service),
        }
    }
}

impl Seconds {
    #[allow(
        clippy::cast_precision_loss,
        reason = "latencies are far below 2^53 µs"
    )]
    fn of(percentiles: Percentiles) -> Self {
        let Percentiles {
            count,
            p50,
            p90,
            p99,
            p999,
            max,
        } = percentiles;
        let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(|us| us as f64 / 1e6);
        Self {
            count,
            p50,
            p90,
            p99,
            p999,
            max,
        }
    }
}
