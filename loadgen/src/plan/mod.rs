//! Capacity plans: from a day's volume and unit costs to what to buy, how long the hourly burst
//! takes, and what gives first.
//!
//! The model is arithmetic that an operator can check by hand. Work is demand divided into
//! resources; a resource saturates when demand reaches capacity. Costs are linear: so much a key,
//! so much an upload, so much a byte. What that leaves out: several gateways lose some work to
//! races for the end of the log, and processors of machines that were not measured. `--measure` on
//! the machines to be bought, and `--check` with the results of a run on them, answer both.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`assumptions`] | every number that a plan assumes, by name |
//! | [`costs`] | unit costs: shipped, from a file, from the results of a run |
//! | [`measure`] | unit costs measured now, with a private gateway |
//! | [`fetch`] | downloads for it |
//! | [`check`] | what the unit costs predict of a run, against what it measured |
//! | [`text`], [`html`] | a plan for a terminal, and for a browser or a printer |

pub mod assumptions;
pub mod check;
pub mod costs;
pub mod definitions;
pub mod fetch;
mod from_results;
pub mod html;
pub mod measure;
#[cfg(test)]
mod tests;
pub mod text;
mod usage;

use engine::limits::fresh_segments_bytes_max;
use serde::Serialize;

pub use from_results::read_costs;

use crate::quantity::rounded_up;
use assumptions::Assumptions;
use costs::{CostSource, UnitCosts};
use definitions::{
    BATCHES_IN_FLIGHT, BUNDLE_DELAY_S, BURST_SHARE, BYTES_IN_FLIGHT, CACHE_BYTES_MIN, CACHE_HOURS,
    COMMIT_MS, CONNECTIONS, CPU_USED_MAX, DATABASE_BASE, DATABASE_BUFFER, DATABASE_CORES_MIN,
    DATABASE_NS_KEY, DATABASE_SPARES, DATABASE_US_UPLOAD, DELIVER_WITHIN_S, DISK_BYTES_KEY,
    DISK_MB, DISK_USED_MAX, DOWNLOAD_DAYS, FAN_OUT, GATEWAY_BASE, GATEWAY_CORES, GATEWAY_NS_BYTE,
    GATEWAY_NS_KEY, GATEWAY_SPARES, GATEWAY_US_UPLOAD, IDENTITY_DAYS, IDENTITY_MARGIN_DAYS,
    IN_FLIGHT_COPIES, INGEST_WITHIN_S, KEY_WIRE_BYTES, KEYS_PER_DAY, MEMORY_USED_MAX, NETWORK_GBIT,
    NETWORK_USED_MAX, PARTICIPANTS, REBUILD_NS_KEY, SET_BYTES_KEY, UPLOAD_KEYS, UPLOAD_P50_MS,
    UPLOAD_P99_MS, WRITER_NS_KEY, WRITTEN_BYTES_KEY,
};

/// Version of the JSON.
const VERSION: u32 = 1;
/// A keyed 128-bit hash, as the log stores it.
const IDENTITY_BYTES: f64 = 16.0;
const SECONDS_PER_DAY: f64 = 86_400.0;
const GIB: f64 = (1u64 << 30) as f64;
/// Bytes that a link of 1 Gbit/s carries in a second.
const GBIT_BYTES: f64 = 1e9 / 8.0;

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
    /// The burst is stored after so many seconds.
    pub ingest_s: f64,
    /// What that is bound by.
    pub ingest_bound_by: &'static str,
    /// Downloads of the burst take so long, all participants at once.
    pub delivery_s: f64,
    /// What that is bound by.
    pub delivery_bound_by: &'static str,
    /// From the first upload of the burst until everybody has everything.
    pub burst_drained_s: f64,
    /// A whole day's keys at once, stored.
    pub whole_day_s: f64,
    /// Keys stored a second, at the most.
    pub keys_per_second_max: f64,
    /// An upload into an idle gateway, median.
    pub upload_p50_ms: f64,
    /// An upload into an idle gateway, 99 in 100.
    pub upload_p99_ms: f64,
    /// An upload in the burst, 99 in 100: it waits for those in flight before it.
    pub upload_p99_burst_ms: f64,
    /// Uploads in flight in the burst; more than the gateway takes are answered "not now".
    pub burst_in_flight: f64,
    /// A gateway starts with all identities after.
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
    /// It is used up at so many times the load; absent when the load does not use it.
    pub breaks_at: Option<f64>,
    /// What happens then.
    pub then: &'static str,
}

/// A setting of the gateway that the plan counts on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// Section and name, as in the configuration.
    pub name: &'static str,
    /// What to set it to.
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
    /// What can be used up, what gives first at the top.
    pub resources: Vec<Resource>,
    /// Settings to change.
    pub settings: Vec<Setting>,
    /// What the reader must know.
    pub notes: Vec<String>,
    /// Every number that was assumed.
    pub assumptions: Assumptions,
}

impl Plan {
    /// Works out a plan.
    pub fn make(profile: &str, costs: &UnitCosts, assumptions: Assumptions) -> Self {
        let model = Model {
            a: &assumptions,
            embedded: costs.is_embedded(),
            load: Load::of(&assumptions),
        };
        let stored = model.stored();
        let buy = model.machines(&stored);
        let times = model.times(&buy);
        let resources = model.resources(&buy, &stored);
        let settings = model.settings();
        let notes = model.notes(&times);
        Self {
            version: VERSION,
            profile: profile.to_owned(),
            costs: costs.source.clone(),
            load: model.load,
            buy,
            stored,
            times,
            resources,
            settings,
            notes,
            assumptions,
        }
    }

    /// What to buy, a line each.
    pub fn answer(&self) -> Vec<String> {
        text::answer(self)
    }

    /// A sentence about what gives first, when, and what happens then.
    pub fn gives_first(&self) -> String {
        text::first_to_give(self)
    }

    /// What gives first.
    pub fn first_to_give(&self) -> Option<&Resource> {
        self.resources
            .first()
            .filter(|first| first.breaks_at.is_some())
    }
}

impl Load {
    fn of(a: &Assumptions) -> Self {
        let keys = a.get(KEYS_PER_DAY);
        let burst_keys = keys * a.get(BURST_SHARE);
        let full_uploads = burst_keys / a.get(UPLOAD_KEYS);
        let some = if keys > 0.0 { 1.0 } else { 0.0 };
        let bytes = |keys: f64| keys * a.get(KEY_WIRE_BYTES);
        let identity_days = a.get(IDENTITY_DAYS);
        Self {
            keys_per_day: keys,
            keys_per_second_mean: keys / SECONDS_PER_DAY,
            burst_keys,
            burst_uploads: full_uploads.max(a.get(PARTICIPANTS) * some),
            burst_downloads: full_uploads.max(some) * a.get(PARTICIPANTS),
            bytes_in_per_day: bytes(keys),
            bytes_out_per_day: bytes(keys) * a.get(FAN_OUT),
            burst_bytes_in: bytes(burst_keys),
            burst_bytes_out: bytes(burst_keys) * a.get(FAN_OUT),
            identities: keys * identity_days,
            identities_held: keys * (identity_days + a.get(IDENTITY_MARGIN_DAYS)),
            keys_downloadable: keys * a.get(DOWNLOAD_DAYS),
        }
    }
}

/// The arithmetic.
struct Model<'a> {
    a: &'a Assumptions,
    embedded: bool,
    load: Load,
}

impl Model<'_> {
    /// Processor seconds of the gateways to store the burst.
    fn gateway_ingest_cpu_s(&self) -> f64 {
        let (a, load) = (self.a, &self.load);
        load.burst_keys * a.get(GATEWAY_NS_KEY) / 1e9
            + load.burst_uploads * a.get(GATEWAY_US_UPLOAD) / 1e6
    }

    /// Processor seconds of the gateways to serve the burst to everybody.
    fn gateway_delivery_cpu_s(&self) -> f64 {
        self.load.burst_bytes_out * self.a.get(GATEWAY_NS_BYTE) / 1e9
    }

    /// Processor seconds of the database for the burst.
    fn database_cpu_s(&self) -> f64 {
        let (a, load) = (self.a, &self.load);
        load.burst_keys * a.get(DATABASE_NS_KEY) / 1e9
            + load.burst_uploads * a.get(DATABASE_US_UPLOAD) / 1e6
    }

    /// Seconds in which the log's one writer stores so many keys.
    fn writer_s(&self, keys: f64) -> f64 {
        keys * self.a.get(WRITER_NS_KEY) / 1e9
    }

    /// Cores that are busy while the burst is stored and delivered within the objectives.
    fn gateway_cores_busy(&self) -> f64 {
        self.gateway_ingest_cpu_s() / self.a.get(INGEST_WITHIN_S)
            + self.gateway_delivery_cpu_s() / self.a.get(DELIVER_WITHIN_S)
    }

    fn database_cores_busy(&self) -> f64 {
        self.database_cpu_s() / self.a.get(INGEST_WITHIN_S)
    }

    /// Bytes a second into and out of the gateways, in the burst.
    fn network(&self) -> (f64, f64) {
        let into = self.load.burst_bytes_in / self.a.get(INGEST_WITHIN_S);
        (
            into,
            self.load.burst_bytes_out / self.a.get(DELIVER_WITHIN_S),
        )
    }

    /// Bytes a second that the database writes, in the burst.
    fn disk_writes(&self) -> f64 {
        self.load.burst_keys * self.a.get(WRITTEN_BYTES_KEY) / self.a.get(INGEST_WITHIN_S)
    }

    fn cache_bytes(&self) -> f64 {
        let hours = self.a.get(CACHE_HOURS) / 24.0;
        (self.load.bytes_in_per_day * hours).max(self.a.get(CACHE_BYTES_MIN))
    }

    /// Beside the cache, as the gateway makes it out from its setting.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "no cache is negative, or larger than an address space"
    )]
    fn fresh_bytes(&self) -> f64 {
        fresh_segments_bytes_max(self.cache_bytes().ceil() as usize) as f64
    }

    fn stored(&self) -> Stored {
        let (a, load) = (self.a, &self.load);
        let part = |name, bytes, reason: String| Part {
            name,
            bytes,
            reason,
        };
        let days = a.get(IDENTITY_DAYS) + a.get(IDENTITY_MARGIN_DAYS);
        let held = load.identities_held;
        let sealed = (a.get(DISK_BYTES_KEY) - IDENTITY_BYTES).max(0.0);
        let gateway_memory = vec![
            part(
                "set of identities",
                held * a.get(SET_BYTES_KEY),
                format!(
                    "{days:.0} days of keys, at the set's worst fill; every gateway holds all of them"
                ),
            ),
            part(
                "bundle cache",
                self.cache_bytes(),
                format!(
                    "the last {:.0} hours are served from memory",
                    a.get(CACHE_HOURS)
                ),
            ),
            part(
                "fresh segments",
                self.fresh_bytes(),
                "encoded uploads that wait to be cut, bounded by a share of the cache".to_owned(),
            ),
            part(
                "uploads in flight",
                a.get(BYTES_IN_FLIGHT) * a.get(IN_FLIGHT_COPIES),
                "the bound on bytes in flight, and what is made of them".to_owned(),
            ),
            part("idle", a.get(GATEWAY_BASE), "measured".to_owned()),
        ];
        let database_memory = vec![
            part(
                "buffer pool",
                a.get(DATABASE_BUFFER),
                "the log's end, and what cold downloads read".to_owned(),
            ),
            part("idle", a.get(DATABASE_BASE), "measured".to_owned()),
        ];
        let disk = vec![
            part(
                "sealed keys",
                load.keys_downloadable * sealed,
                format!(
                    "{:.0} days, as long as they can be downloaded",
                    a.get(DOWNLOAD_DAYS)
                ),
            ),
            part(
                "identities",
                held * IDENTITY_BYTES,
                format!("{days:.0} days, as long as a key could come again"),
            ),
        ];
        Stored {
            gateway_memory,
            database_memory: if self.embedded {
                Vec::new()
            } else {
                database_memory
            },
            disk,
            disk_growth_per_day: load.keys_per_day * a.get(DISK_BYTES_KEY),
        }
    }

    fn machines(&self, stored: &Stored) -> Machines {
        let a = self.a;
        let (network_in, network_out) = self.network();
        let link = a.get(NETWORK_GBIT) * GBIT_BYTES * a.get(NETWORK_USED_MAX);
        let by_cpu = self.gateway_cores_busy() / (a.get(GATEWAY_CORES) * a.get(CPU_USED_MAX));
        let by_network = network_in.max(network_out) / link;
        let needed = by_cpu.max(by_network).ceil().max(1.0);
        let memory = |parts: &[Part]| sum(parts) / a.get(MEMORY_USED_MAX);
        let database_cores = (self.database_cores_busy() / a.get(CPU_USED_MAX)).ceil();
        let some = if self.embedded { 0.0 } else { 1.0 };
        Machines {
            gateways_needed: needed,
            gateways: needed + a.get(GATEWAY_SPARES) * some,
            gateway_cores: a.get(GATEWAY_CORES),
            gateway_memory_bytes: memory_size(memory(&stored.gateway_memory)),
            databases: some * (1.0 + a.get(DATABASE_SPARES)),
            database_cores: some * database_cores.max(a.get(DATABASE_CORES_MIN)),
            database_memory_bytes: some * memory_size(memory(&stored.database_memory)),
            disk_bytes: rounded_up(sum(&stored.disk) / a.get(DISK_USED_MAX)).max(10e9),
        }
    }

    /// Seconds to store `part` bursts' keys, and what bounds it.
    fn ingest(&self, buy: &Machines, bursts: f64) -> (f64, &'static str) {
        let cores = buy.gateways_needed * buy.gateway_cores;
        let link = buy.gateways_needed * self.a.get(NETWORK_GBIT) * GBIT_BYTES;
        let disk = self.load.burst_keys * self.a.get(WRITTEN_BYTES_KEY);
        longest(&[
            (
                "gateway processors",
                bursts * self.gateway_ingest_cpu_s() / cores,
            ),
            (
                "the log's writer",
                bursts * self.writer_s(self.load.burst_keys),
            ),
            ("network in", bursts * self.load.burst_bytes_in / link),
            ("database disk", bursts * disk / (self.a.get(DISK_MB) * 1e6)),
            (
                "database processors",
                bursts * self.database_cpu_s() / buy.database_cores.max(1.0),
            ),
        ])
    }

    fn times(&self, buy: &Machines) -> Times {
        let a = self.a;
        let cores = buy.gateways_needed * buy.gateway_cores;
        let link = buy.gateways_needed * a.get(NETWORK_GBIT) * GBIT_BYTES;
        let (ingest_s, ingest_bound_by) = self.ingest(buy, 1.0);
        let (delivery_s, delivery_bound_by) = longest(&[
            ("gateway processors", self.gateway_delivery_cpu_s() / cores),
            ("network out", self.load.burst_bytes_out / link),
        ]);
        let rate = ratio(self.load.burst_keys, ingest_s);
        let offered = a.get(PARTICIPANTS) * a.get(CONNECTIONS);
        let in_flight = offered.min(self.load.burst_uploads);
        let taken = in_flight.min(a.get(BATCHES_IN_FLIGHT) * buy.gateways_needed);
        // Those in flight before it are stored at the full rate.
        let keys_an_upload = ratio(self.load.burst_keys, self.load.burst_uploads);
        let wait_ms = ratio(taken * keys_an_upload, rate) * 1000.0;
        Times {
            ingest_s,
            ingest_bound_by,
            delivery_s,
            delivery_bound_by,
            burst_drained_s: ingest_s + a.get(BUNDLE_DELAY_S) + delivery_s,
            whole_day_s: self.ingest(buy, 1.0 / a.get(BURST_SHARE)).0,
            keys_per_second_max: rate,
            upload_p50_ms: a.get(UPLOAD_P50_MS),
            upload_p99_ms: a.get(UPLOAD_P99_MS),
            upload_p99_burst_ms: a.get(UPLOAD_P99_MS).max(a.get(COMMIT_MS)) + wait_ms,
            burst_in_flight: in_flight,
            start_s: self.load.identities_held * a.get(REBUILD_NS_KEY) / 1e9,
        }
    }

    fn resources(&self, buy: &Machines, stored: &Stored) -> Vec<Resource> {
        let a = self.a;
        let (network_in, network_out) = self.network();
        let link = buy.gateways_needed * a.get(NETWORK_GBIT) * GBIT_BYTES / 1e6;
        let writer = self.writer_s(self.load.burst_keys) / a.get(INGEST_WITHIN_S);
        let mut resources = vec![
            resource(
                "gateway processors",
                (
                    self.gateway_cores_busy(),
                    buy.gateways_needed * buy.gateway_cores,
                    "cores",
                ),
                "the burst takes longer than planned; uploads beyond the bound are told when to come back; add a gateway",
            ),
            resource(
                "the log's writer",
                (writer, 1.0, "writers"),
                "the burst takes longer than planned; only a faster database or disk helps",
            ),
            resource(
                "network in",
                (network_in / 1e6, link, "MB/s"),
                "uploads take longer; add a gateway or a faster link",
            ),
            resource(
                "network out",
                (network_out / 1e6, link, "MB/s"),
                "downloads take longer; add a gateway or a faster link",
            ),
            resource(
                "database disk, writing",
                (self.disk_writes() / 1e6, a.get(DISK_MB), "MB/s"),
                "the burst takes longer than planned; a faster disk helps",
            ),
            resource(
                "database disk, space",
                (sum(&stored.disk) / 1e9, buy.disk_bytes / 1e9, "GB"),
                "uploads are refused until there is room; nothing stored is lost",
            ),
        ];
        if !self.embedded {
            resources.push(resource(
                "database processors",
                (self.database_cores_busy(), buy.database_cores, "cores"),
                "the burst takes longer than planned; more or faster cores help",
            ));
        }
        resources.push(self.memory(buy, stored));
        resources.sort_by(|one, other| {
            let breaks = |resource: &Resource| resource.breaks_at.unwrap_or(f64::INFINITY);
            breaks(one).total_cmp(&breaks(other))
        });
        resources
    }

    /// Only a part of the memory grows with the load.
    fn memory(&self, buy: &Machines, stored: &Stored) -> Resource {
        let needed = sum(&stored.gateway_memory);
        let grows = stored.gateway_memory[0].bytes;
        let left = buy.gateway_memory_bytes - (needed - grows);
        Resource {
            breaks_at: (grows > 0.0).then(|| left / grows),
            ..resource(
                "gateway memory",
                (needed / GIB, buy.gateway_memory_bytes / GIB, "GiB"),
                "the set of identities no longer fits; buy more before the days add up",
            )
        }
    }

    fn settings(&self) -> Vec<Setting> {
        vec![
            Setting {
                name: "[bundle] cache_bytes_max",
                value: self.cache_bytes().ceil(),
                reason: "bundles of the hours planned for are served from memory",
            },
            Setting {
                name: "[upload] batches_in_flight_max",
                value: self.a.get(BATCHES_IN_FLIGHT),
                reason: "the gateway's default is enough unless a note says otherwise",
            },
            Setting {
                name: "[upload] bytes_in_flight_max",
                value: self.a.get(BYTES_IN_FLIGHT),
                reason: "bounds memory, whatever comes in",
            },
        ]
    }

    fn notes(&self, times: &Times) -> Vec<String> {
        let mut notes = Vec::new();
        let mut note = |holds: bool, text: String| {
            if holds {
                notes.push(text);
            }
        };
        let a = self.a;
        let taken = a.get(BATCHES_IN_FLIGHT);
        note(
            self.embedded,
            "The database is embedded: there is one gateway, and no spare. Plan with MySQL or MariaDB for redundancy.".to_owned(),
        );
        note(
            times.burst_in_flight > taken,
            format!(
                "In the burst {:.0} uploads come at once, and a gateway takes {taken:.0}: the others are answered 503 with Retry-After, come back, and lose nothing.",
                times.burst_in_flight
            ),
        );
        note(
            times.ingest_s > a.get(INGEST_WITHIN_S),
            format!(
                "The burst takes {:.1} s to store, longer than the {:.1} s planned for: {} bounds it, and no further gateway helps.",
                times.ingest_s,
                a.get(INGEST_WITHIN_S),
                times.ingest_bound_by
            ),
        );
        note(
            times.burst_drained_s > a.get(INGEST_WITHIN_S) + a.get(DELIVER_WITHIN_S),
            format!(
                "The burst takes {:.1} s to reach everybody, longer than planned.",
                times.burst_drained_s
            ),
        );
        notes
    }
}

fn resource(
    name: &'static str,
    (demand, capacity, unit): (f64, f64, &'static str),
    then: &'static str,
) -> Resource {
    Resource {
        name,
        demand,
        capacity,
        unit,
        used: ratio(demand, capacity),
        breaks_at: (demand > 0.0).then(|| capacity / demand),
        then,
    }
}

/// The step that takes longest.
fn longest(steps: &[(&'static str, f64)]) -> (f64, &'static str) {
    let longest = steps.iter().max_by(|one, other| one.1.total_cmp(&other.1));
    longest.map_or((0.0, "nothing"), |&(name, seconds)| (seconds, name))
}

fn sum(parts: &[Part]) -> f64 {
    parts.iter().map(|part| part.bytes).sum()
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Memory as machines have it: a power of two of GiB, at least four.
fn memory_size(bytes: f64) -> f64 {
    (bytes / GIB).max(4.0).log2().ceil().exp2() * GIB
}
