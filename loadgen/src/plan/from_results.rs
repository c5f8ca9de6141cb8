//! Unit costs out of the results of a run: as far as its phases distinguish them.

use std::path::Path;

use super::costs::{CostSource, CostsError, DatabaseKind, UnitCosts};
use super::definitions::Costs;
use crate::results::{PhaseSummary, Results, Second, StageSample, Summary};

/// With fewer keys, a database grows by its allocation steps rather than by the keys.
const KEYS_FOR_DISK: u64 = 500_000;

/// Reads unit costs: what [`UnitCosts::save`] wrote, or the results of a run. What the file does
/// not say is taken from the shipped costs, and says so.
///
/// # Errors
/// When it is neither, or names what is not a cost.
pub fn read_costs(path: &Path) -> Result<UnitCosts, CostsError> {
    let text = std::fs::read_to_string(path).map_err(|source| CostsError::Io {
        path: path.to_owned(),
        source,
    })?;
    if !text.trim_start().starts_with('{') {
        return UnitCosts::parse(&text);
    }
    let results = Results::read(path).map_err(|error| CostsError::Io {
        path: path.to_owned(),
        source: std::io::Error::other(error),
    })?;
    costs(path, &results)
}

/// The costs that a run yields; the others are the shipped ones.
pub(super) fn costs(path: &Path, results: &Results) -> Result<UnitCosts, CostsError> {
    let summary = results.summary.as_ref();
    let measured = summary.filter(|summary| summary.cpu_seconds.contains_key("gateway"));
    let summary = measured.ok_or_else(|| CostsError::NoSummary(path.to_owned()))?;
    let source = source(path, results);
    let shipped = UnitCosts::shipped(source.kind)?;
    let mut measured = Costs::default();
    let divided = gateway(&mut measured, &shipped, summary);
    database(&mut measured, &shipped, results, summary);
    let said = format!("measured: {}", source.label);
    let as_shipped = format!("{said}; divided between uploads and downloads as shipped");
    UnitCosts::layered(source, vec![(measured, said), (divided, as_shipped)]).or_shipped()
}

fn source(path: &Path, results: &Results) -> CostSource {
    let run = &results.run;
    let database = run.database.clone().unwrap_or_default();
    CostSource {
        label: format!("{} ({}, {})", path.display(), run.name, run.started),
        machine: run.machine.clone(),
        database,
        kind: DatabaseKind::of(run).unwrap_or(DatabaseKind::Server),
        commit: run.commit.clone(),
        measured: run.started.clone(),
        command: run.command.join(" "),
        note: match &run.database {
            Some(_) => String::new(),
            None => "The results do not name the database; it is taken for a database server."
                .to_owned(),
        },
    }
}

/// What uploads and downloads cost, where phases distinguish them; otherwise gives what they cost when
/// their sum is divided as the shipped costs do.
#[allow(
    clippy::cast_precision_loss,
    reason = "counts of a run are far below 2^53"
)]
fn gateway(measured: &mut Costs, shipped: &UnitCosts, summary: &Summary) -> Costs {
    let cpu_of = |phase: &PhaseSummary| phase.cpu_seconds.get("gateway").copied().unwrap_or(0.0);
    let per_upload = shipped.value(|costs| costs.gateway_upload_us_per_request).0 / 1e6;
    let uploading = |phase: &&PhaseSummary| phase.all.downloads == 0 && phase.all.upload_keys > 0;
    let (mut cpu, mut keys) = (0.0, 0.0);
    for phase in summary.phases.iter().filter(uploading) {
        cpu += cpu_of(phase) - phase.all.uploads as f64 * per_upload;
        keys += phase.all.upload_keys as f64;
    }
    let total = &summary.total;
    let shipped_key = shipped.value(|costs| costs.gateway_upload_ns_per_key).0 / 1e9;
    let shipped_byte = shipped.value(|costs| costs.gateway_download_ns_per_byte).0 / 1e9;
    if keys > 0.0 && cpu > 0.0 {
        let per_key = cpu / keys;
        measured.gateway_upload_ns_per_key = Some(per_key * 1e9);
        let mixed = summary
            .phases
            .iter()
            .filter(|phase| phase.all.downloads > 0);
        let (mut cpu, mut bytes) = (0.0, 0.0);
        for phase in mixed {
            let uploads = phase.all.uploads as f64 * per_upload;
            cpu += cpu_of(phase) - uploads - phase.all.upload_keys as f64 * per_key;
            bytes += phase.all.bytes_received as f64;
        }
        if cpu > 0.0 && bytes > 0.0 {
            measured.gateway_download_ns_per_byte = Some(cpu / bytes * 1e9);
        }
        return Costs::default();
    }
    // Uploads and downloads together in every phase: what they cost together is known, and how it
    // divides is taken from the shipped costs.
    let expected = total.upload_keys as f64 * shipped_key
        + total.uploads as f64 * per_upload
        + total.bytes_received as f64 * shipped_byte;
    let found = summary.cpu_seconds.get("gateway").copied().unwrap_or(0.0);
    let mut divided = Costs::default();
    if expected > 0.0 && found > 0.0 {
        divided.gateway_upload_ns_per_key = Some(shipped_key * found / expected * 1e9);
        divided.gateway_upload_us_per_request = Some(per_upload * found / expected * 1e6);
        divided.gateway_download_ns_per_byte = Some(shipped_byte * found / expected * 1e9);
    }
    divided
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts of a run are far below 2^53"
)]
fn database(measured: &mut Costs, shipped: &UnitCosts, results: &Results, summary: &Summary) {
    let keys = summary.total.upload_keys as f64;
    if keys == 0.0 {
        return;
    }
    if let Some(cpu) = summary.cpu_seconds.get("database") {
        let uploads = summary.total.uploads as f64
            * shipped.value(|costs| costs.database_us_per_upload).0
            / 1e6;
        if *cpu > uploads {
            measured.database_ns_per_key = Some((cpu - uploads) / keys * 1e9);
        }
    }
    if let Some((commits, keys)) = commits(&results.seconds) {
        measured.writer_ns_per_key = Some(commits.seconds_total / keys * 1e9);
        let each = commits.seconds_total / commits.count as f64;
        measured.commit_ms = Some(each * 1e3);
    }
    if summary.total.upload_keys >= KEYS_FOR_DISK
        && let Some((grown, keys)) = disk_growth(&results.seconds)
    {
        measured.disk_bytes_per_key = Some(grown / keys);
    }
}

/// What the log's writer did between the first and the last second that tell, and for how many
/// keys.
#[allow(
    clippy::cast_precision_loss,
    reason = "counts of a run are far below 2^53"
)]
fn commits(seconds: &[Second]) -> Option<(StageSample, f64)> {
    let of = |second: &Second| Some((*second.stages.get("commit")?, second.stored_keys));
    let samples: Vec<_> = seconds.iter().filter_map(of).collect();
    let (first, last) = (samples.first()?, samples.last()?);
    let commits = StageSample {
        seconds_total: last.0.seconds_total - first.0.seconds_total,
        // A restarted gateway counts from zero: then nothing is known.
        count: last.0.count.checked_sub(first.0.count)?,
    };
    let keys = last.1.saturating_sub(first.1);
    (commits.count > 0 && commits.seconds_total > 0.0 && keys > 0).then_some((commits, keys as f64))
}

/// Bytes and keys by which the database grew between the first and the last second that say so.
#[allow(
    clippy::cast_precision_loss,
    reason = "disks are smaller than 2^53 bytes"
)]
pub(super) fn disk_growth(seconds: &[Second]) -> Option<(f64, f64)> {
    let known: Vec<_> = seconds
        .iter()
        .filter(|second| second.disk_bytes.is_some())
        .collect();
    let (first, last) = (known.first()?, known.last()?);
    let keys = last
        .stored_keys
        .checked_sub(first.stored_keys)
        .filter(|keys| *keys > 0)?;
    let grown = last.disk_bytes?.checked_sub(first.disk_bytes?)?;
    Some((grown as f64, keys as f64))
}
