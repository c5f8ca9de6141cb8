//! A capacity plan: its parts.

use serde::Serialize;

use super::assumptions::Assumptions;
use super::costs::CostSource;

/// What comes in and goes out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Load {
    /// Keys uploaded in a day.
    pub keys_per_day: f64,
    /// The same, spread evenly.
    pub keys_per_second_mean: f64,
    /// Keys that arrive in one burst.
    pub burst_keys: f64,
    /// Uploads of one burst: full ones, but at least one of each participant.
    pub burst_uploads: f64,
    /// Downloads that follow a burst: every participant fetches every batch.
    pub burst_downloads: f64,
    /// Full download batches of a day.
    pub full_batches_per_day: f64,
    /// Download batches that are cut for age on a day, at most (decision 25).
    pub aged_batches_per_day_max: f64,
    /// Bytes uploaded in a day.
    pub bytes_in_per_day: f64,
    /// Bytes downloaded in a day.
    pub bytes_out_per_day: f64,
    /// Bytes uploaded in one burst.
    pub burst_bytes_in: f64,
    /// Bytes downloaded after one burst.
    pub burst_bytes_out: f64,
    /// Identities of the days in which a key can come again.
    pub identities: f64,
    /// The same with the days that retention adds: what is held in memory and on disk.
    pub identities_held: f64,
    /// Keys that can be downloaded.
    pub keys_downloadable: f64,
}

/// What to buy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machines {
    /// Gateways that the load needs.
    pub gateways_needed: f64,
    /// Gateways to buy: those, and the spares.
    pub gateways: f64,
    /// Cores of each.
    pub gateway_cores: f64,
    /// Memory of each, in bytes.
    pub gateway_memory_bytes: f64,
    /// Database machines; none when the database is embedded.
    pub databases: f64,
    /// Cores of each.
    pub database_cores: f64,
    /// Memory of each, in bytes.
    pub database_memory_bytes: f64,
    /// Disk of each database machine, or of the gateway when it is embedded, in bytes.
    pub disk_bytes: f64,
}

/// A part of a sum.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// What it is.
    pub name: &'static str,
    /// How many bytes.
    pub bytes: f64,
    /// How it comes about.
    pub reason: String,
}

/// Memory and disk, by what takes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stored {
    /// Memory of each gateway.
    pub gateway_memory: Vec<Part>,
    /// Memory of the database.
    pub database_memory: Vec<Part>,
    /// The database's disk, when as many days are stored as will ever be.
    pub disk: Vec<Part>,
    /// What a day adds to the disk, until retention takes as much away.
    pub disk_growth_per_day: f64,
}

/// How long things take on the machines that the load needs, without the spares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Times {
    /// Time until the burst is stored, in seconds.
    pub ingest_s: f64,
    /// The bottleneck.
    pub ingest_bound_by: &'static str,
    /// Duration of the burst's downloads, by all participants concurrently.
    pub delivery_s: f64,
    /// The bottleneck.
    pub delivery_bound_by: &'static str,
    /// From the first upload of the burst until everything is delivered.
    pub burst_drained_s: f64,
    /// A whole day's keys at once, stored.
    pub whole_day_s: f64,
    /// Keys stored per second, at the most.
    pub keys_per_second_max: f64,
    /// An upload into an idle gateway, median.
    pub upload_p50_ms: f64,
    /// An upload into an idle gateway, 99th percentile.
    pub upload_p99_ms: f64,
    /// An upload in the burst, 99th percentile: it waits for those in flight before it.
    pub upload_p99_burst_ms: f64,
    /// Uploads in flight in the burst; those beyond the gateway's limit are answered 503.
    pub burst_in_flight: f64,
    /// Start time of a gateway with all identities.
    pub start_s: f64,
}

/// Something that can be used up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resource {
    /// What it is.
    pub name: &'static str,
    /// How much of it the burst (or the retention) needs.
    pub demand: f64,
    /// How much there is, spares not counted.
    pub capacity: f64,
    /// Of both.
    pub unit: &'static str,
    /// Demand as a part of capacity.
    pub used: f64,
    /// The multiple of the load at which it is used up; absent when the load does not use it.
    pub breaks_at: Option<f64>,
    /// What happens then.
    pub then: &'static str,
}

/// A setting of the gateway that the plan counts on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// Section and name, as in the configuration.
    pub name: &'static str,
    /// The value to set.
    pub value: f64,
    /// Why.
    pub reason: &'static str,
}

/// A capacity plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Version of this shape.
    pub version: u32,
    /// The profile's name.
    pub profile: String,
    /// Where most unit costs come from.
    pub costs: CostSource,
    /// What comes in and goes out.
    pub load: Load,
    /// What to buy.
    pub buy: Machines,
    /// Memory and disk.
    pub stored: Stored,
    /// Durations.
    pub times: Times,
    /// Resources, the first bottleneck at the top.
    pub resources: Vec<Resource>,
    /// Settings to change.
    pub settings: Vec<Setting>,
    /// What the reader must know.
    pub notes: Vec<String>,
    /// Every number that was assumed.
    pub assumptions: Assumptions,
}

impl Plan {
    /// The first bottleneck.
    pub fn first_to_give(&self) -> Option<&Resource> {
        self.resources
            .first()
            .filter(|first| first.breaks_at.is_some())
    }
}
