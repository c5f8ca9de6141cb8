//! What a run measures: ratios, which are compared with the baseline, and figures, which the report
//! lists beside their targets.

use loadgen::quantity::scaled;
use serde::{Deserialize, Serialize};

/// Which direction is an improvement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// A ratio that the baseline holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RatioKind {
    pub(crate) name: &'static str,
    pub(crate) better: Better,
    /// Tolerance for runs on a shared machine: twice the spread observed between runs.
    pub(crate) tolerance_percent: f64,
    /// The target that the ratio protects.
    pub(crate) protects: &'static str,
}

/// All ratios. The measured ones are named after these.
pub(crate) const RATIOS: [RatioKind; 20] = [
    lower("walk_rsa_2048/sha256", 12.0, "CPU stages per key"),
    lower("walk_ecdsa_p256/sha256", 12.0, "CPU stages per key"),
    lower("walk_json/walk", 12.0, "CPU stages per key, JSON"),
    higher("ingest_sqlite/walk", 25.0, "ingest, embedded database"),
    higher("ingest_mariadb/walk", 25.0, "ingest, MySQL-compatible"),
    higher(
        "ingest_sqlite_stored/empty",
        15.0,
        "ingest is flat over stored keys",
    ),
    higher(
        "ingest_mariadb_stored/empty",
        15.0,
        "ingest is flat over stored keys",
    ),
    lower("set_rebuild/sha256", 30.0, "set rebuilt at start"),
    lower("set_bytes_per_key", 5.0, "memory"),
    lower("disk_bytes_per_key_sqlite", 5.0, "disk"),
    higher("download_5000_c1/nginx", 25.0, "warm download"),
    higher("download_5000_c8/nginx", 25.0, "warm download"),
    higher("download_5000_c64/nginx", 25.0, "warm download"),
    higher("download_100_c1/nginx", 25.0, "warm download"),
    higher("download_100_c8/nginx", 25.0, "warm download"),
    higher("download_100_c64/nginx", 25.0, "warm download"),
    higher("download_cpu_plain/mtls", 25.0, "mutual TLS"),
    higher("download_mtls/plain", 25.0, "mutual TLS"),
    higher("ingest_mtls/plain", 35.0, "mutual TLS"),
    lower("peak_memory_mib", 20.0, "memory under full load"),
];

const fn higher(name: &'static str, tolerance_percent: f64, protects: &'static str) -> RatioKind {
    RatioKind {
        name,
        better: Better::Higher,
        tolerance_percent,
        protects,
    }
}

const fn lower(name: &'static str, tolerance_percent: f64, protects: &'static str) -> RatioKind {
    RatioKind {
        name,
        better: Better::Lower,
        tolerance_percent,
        protects,
    }
}

/// A measured ratio: one value per round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ratio {
    pub(crate) name: &'static str,
    pub(crate) rounds: Vec<f64>,
}

impl Ratio {
    /// # Panics
    /// When [`RATIOS`] does not have the name.
    pub(crate) fn new(name: &'static str, rounds: Vec<f64>) -> Self {
        assert!(kind(name).is_some(), "{name} is not in the list");
        Self { name, rounds }
    }

    pub(crate) fn median(&self) -> f64 {
        median(&self.rounds)
    }
}

pub(crate) fn kind(name: &str) -> Option<&'static RatioKind> {
    RATIOS.iter().find(|kind| kind.name == name)
}

/// A figure: an absolute value, valid for this machine and this run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) rounds: Vec<f64>,
    /// The required value and the goal, if it has a target.
    pub(crate) target: Option<Target>,
}

/// A target.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Target {
    pub(crate) must: f64,
    pub(crate) goal: f64,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, rounds: Vec<f64>) -> Self {
        Self {
            name: name.into(),
            unit,
            rounds,
            target: None,
        }
    }

    pub(crate) fn against(mut self, must: f64, goal: f64) -> Self {
        self.target = Some(Target { must, goal });
        self
    }

    pub(crate) fn median(&self) -> f64 {
        median(&self.rounds)
    }

    /// One line for the terminal.
    pub(crate) fn summary(&self) -> String {
        let (least, most) = spread(&self.rounds);
        let target = self.target.map_or_else(String::new, |target| {
            format!(
                ", must {}, goal {}",
                scaled(target.must),
                scaled(target.goal)
            )
        });
        format!(
            "  {:44} {:>10} {} ({} to {}){target}",
            self.name,
            scaled(self.median()),
            self.unit,
            scaled(least),
            scaled(most)
        )
    }
}

/// The median; the upper of two middle values.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Minimum and maximum.
pub(crate) fn spread(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (least, greatest)
}
