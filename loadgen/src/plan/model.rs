//! The arithmetic of a plan.

use engine::limits::fresh_segments_bytes_max;

use super::assumptions::Assumptions;
use super::capacity::{Load, Machines, Part, Plan, Resource, Setting, Stored, Times};
use super::costs::UnitCosts;
use crate::quantity::rounded_up;

/// Version of the JSON.
const VERSION: u32 = 1;
/// A keyed 128-bit hash, as the log stores it.
pub(super) const IDENTITY_BYTES: f64 = 16.0;
const SECONDS_PER_DAY: f64 = 86_400.0;
const GIB: f64 = (1u64 << 30) as f64;
/// Bytes that a link of 1 Gbit/s carries in a second.
const GBIT_BYTES: f64 = 1e9 / 8.0;

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
}

impl Load {
    fn of(a: &Assumptions) -> Self {
        let keys = a.keys_per_day;
        let burst_keys = keys * a.burst_share;
        let full_uploads = burst_keys / a.upload_keys;
        let some = if keys > 0.0 { 1.0 } else { 0.0 };
        let bytes = |keys: f64| keys * a.key_wire_bytes;
        let identity_days = a.identity_days;
        Self {
            keys_per_day: keys,
            keys_per_second_mean: keys / SECONDS_PER_DAY,
            burst_keys,
            burst_uploads: full_uploads.max(a.participants * some),
            burst_downloads: full_uploads.max(some) * a.participants,
            full_batches_per_day: (keys / a.download_batch_keys).floor(),
            aged_batches_per_day_max: some
                * (a.paced_batches_max + (SECONDS_PER_DAY / a.paced_interval).floor()),
            bytes_in_per_day: bytes(keys),
            bytes_out_per_day: bytes(keys) * a.fan_out,
            burst_bytes_in: bytes(burst_keys),
            burst_bytes_out: bytes(burst_keys) * a.fan_out,
            identities: keys * identity_days,
            identities_held: keys * (identity_days + a.identity_margin_days),
            keys_downloadable: keys * a.download_days,
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
        load.burst_keys * a.gateway_upload_ns_per_key / 1e9
            + load.burst_uploads * a.gateway_upload_us_per_request / 1e6
    }

    /// Processor seconds of the gateways to serve the burst to everybody.
    fn gateway_delivery_cpu_s(&self) -> f64 {
        self.load.burst_bytes_out * self.a.gateway_download_ns_per_byte / 1e9
    }

    /// Processor seconds of the database for the burst.
    fn database_cpu_s(&self) -> f64 {
        let (a, load) = (self.a, &self.load);
        load.burst_keys * a.database_ns_per_key / 1e9
            + load.burst_uploads * a.database_us_per_upload / 1e6
    }

    /// Seconds in which the log's one writer stores so many keys.
    fn writer_s(&self, keys: f64) -> f64 {
        keys * self.a.writer_ns_per_key / 1e9
    }

    /// Cores that are busy while the burst is stored and delivered within the objectives.
    fn gateway_cores_busy(&self) -> f64 {
        self.gateway_ingest_cpu_s() / self.a.ingest_within_s
            + self.gateway_delivery_cpu_s() / self.a.deliver_within_s
    }

    fn database_cores_busy(&self) -> f64 {
        self.database_cpu_s() / self.a.ingest_within_s
    }

    /// Bytes per second into and out of the gateways, in the burst.
    fn network(&self) -> (f64, f64) {
        let into = self.load.burst_bytes_in / self.a.ingest_within_s;
        (into, self.load.burst_bytes_out / self.a.deliver_within_s)
    }

    /// Bytes per second that the database writes, in the burst.
    fn disk_writes(&self) -> f64 {
        self.load.burst_keys * self.a.written_bytes_per_key / self.a.ingest_within_s
    }

    fn cache_bytes(&self) -> f64 {
        let hours = self.a.bundle_cache_hours / 24.0;
        (self.load.bytes_in_per_day * hours).max(self.a.bundle_cache_bytes_min)
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
        let days = a.identity_days + a.identity_margin_days;
        let held = load.identities_held;
        let sealed = (a.disk_bytes_per_key - IDENTITY_BYTES).max(0.0);
        let gateway_memory = vec![
            part(
                "set of identities",
                held * a.set_bytes_per_key,
                format!(
                    "{days:.0} days of keys, at the set's worst fill; every gateway holds all of them"
                ),
            ),
            part(
                "bundle cache",
                self.cache_bytes(),
                format!(
                    "the last {:.0} hours are served from memory",
                    a.bundle_cache_hours
                ),
            ),
            part(
                "fresh segments",
                self.fresh_bytes(),
                "encoded uploads that wait to be cut, bounded by a share of the cache".to_owned(),
            ),
            part(
                "uploads in flight",
                a.bytes_in_flight_max * a.in_flight_copies,
                "the bound on bytes in flight, and what is made of them".to_owned(),
            ),
            part("idle", a.gateway_base_bytes, "measured".to_owned()),
        ];
        let database_memory = vec![
            part(
                "buffer pool",
                a.database_buffer_bytes,
                "the log's end, and what cold downloads read".to_owned(),
            ),
            part("idle", a.database_base_bytes, "measured".to_owned()),
        ];
        let disk = vec![
            part(
                "sealed keys",
                load.keys_downloadable * sealed,
                format!(
                    "{:.0} days, as long as they can be downloaded",
                    a.download_days
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
            disk_growth_per_day: load.keys_per_day * a.disk_bytes_per_key,
        }
    }

    fn machines(&self, stored: &Stored) -> Machines {
        let a = self.a;
        let (network_in, network_out) = self.network();
        let link = a.network_gbit_per_s * GBIT_BYTES * a.network_used_max;
        let by_cpu = self.gateway_cores_busy() / (a.gateway_cores * a.cpu_used_max);
        let by_network = network_in.max(network_out) / link;
        let needed = by_cpu.max(by_network).ceil().max(1.0);
        let memory = |parts: &[Part]| sum(parts) / a.memory_used_max;
        let database_cores = (self.database_cores_busy() / a.cpu_used_max).ceil();
        let some = if self.embedded { 0.0 } else { 1.0 };
        Machines {
            gateways_needed: needed,
            gateways: needed + a.gateway_spares * some,
            gateway_cores: a.gateway_cores,
            gateway_memory_bytes: memory_size(memory(&stored.gateway_memory)),
            databases: some * (1.0 + a.database_spares),
            database_cores: some * database_cores.max(a.database_cores_min),
            database_memory_bytes: some * memory_size(memory(&stored.database_memory)),
            disk_bytes: rounded_up(sum(&stored.disk) / a.disk_used_max).max(10e9),
        }
    }

    /// Seconds to store the keys of `bursts` bursts, and the bottleneck.
    fn ingest(&self, buy: &Machines, bursts: f64) -> (f64, &'static str) {
        let cores = buy.gateways_needed * buy.gateway_cores;
        let link = buy.gateways_needed * self.a.network_gbit_per_s * GBIT_BYTES;
        let disk = self.load.burst_keys * self.a.written_bytes_per_key;
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
            (
                "database disk",
                bursts * disk / (self.a.disk_mb_per_s * 1e6),
            ),
            (
                "database processors",
                bursts * self.database_cpu_s() / buy.database_cores.max(1.0),
            ),
        ])
    }

    fn times(&self, buy: &Machines) -> Times {
        let a = self.a;
        let cores = buy.gateways_needed * buy.gateway_cores;
        let link = buy.gateways_needed * a.network_gbit_per_s * GBIT_BYTES;
        let (ingest_s, ingest_bound_by) = self.ingest(buy, 1.0);
        let (delivery_s, delivery_bound_by) = longest(&[
            ("gateway processors", self.gateway_delivery_cpu_s() / cores),
            ("network out", self.load.burst_bytes_out / link),
        ]);
        let rate = ratio(self.load.burst_keys, ingest_s);
        let offered = a.participants * a.connections_per_participant;
        let in_flight = offered.min(self.load.burst_uploads);
        let taken = in_flight.min(a.batches_in_flight_max * buy.gateways_needed);
        // Those in flight before it are stored at the full rate.
        let keys_per_upload = ratio(self.load.burst_keys, self.load.burst_uploads);
        let wait_ms = ratio(taken * keys_per_upload, rate) * 1000.0;
        Times {
            ingest_s,
            ingest_bound_by,
            delivery_s,
            delivery_bound_by,
            burst_drained_s: ingest_s + a.bundle_max_delay_s + delivery_s,
            whole_day_s: self.ingest(buy, 1.0 / a.burst_share).0,
            keys_per_second_max: rate,
            upload_p50_ms: a.upload_p50_ms,
            upload_p99_ms: a.upload_p99_ms,
            upload_p99_burst_ms: a.upload_p99_ms.max(a.commit_ms) + wait_ms,
            burst_in_flight: in_flight,
            start_s: self.load.identities_held * a.set_rebuild_ns_per_key / 1e9,
        }
    }

    fn resources(&self, buy: &Machines, stored: &Stored) -> Vec<Resource> {
        let a = self.a;
        let (network_in, network_out) = self.network();
        let link = buy.gateways_needed * a.network_gbit_per_s * GBIT_BYTES / 1e6;
        let writer = self.writer_s(self.load.burst_keys) / a.ingest_within_s;
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
                (self.disk_writes() / 1e6, a.disk_mb_per_s, "MB/s"),
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
                value: self.a.batches_in_flight_max,
                reason: "the gateway's default is enough unless a note says otherwise",
            },
            Setting {
                name: "[upload] bytes_in_flight_max",
                value: self.a.bytes_in_flight_max,
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
        let taken = a.batches_in_flight_max;
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
        let load = &self.load;
        let batches = load.full_batches_per_day + load.aged_batches_per_day_max;
        note(
            batches > a.slowest_reader_batches,
            format!(
                "A day has up to {batches:.0} download batches, and the slowest client reads {:.0} per day: it falls behind. Ask its operator to run more often.",
                a.slowest_reader_batches
            ),
        );
        note(
            times.ingest_s > a.ingest_within_s,
            format!(
                "The burst takes {:.1} s to store, longer than the {:.1} s planned for: {} bounds it, and no further gateway helps.",
                times.ingest_s, a.ingest_within_s, times.ingest_bound_by
            ),
        );
        note(
            times.burst_drained_s > a.ingest_within_s + a.deliver_within_s,
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

pub(super) fn sum(parts: &[Part]) -> f64 {
    parts.iter().map(|part| part.bytes).sum()
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Memory rounded up to what machines have: a power of two of GiB, at least four.
fn memory_size(bytes: f64) -> f64 {
    (bytes / GIB).max(4.0).log2().ceil().exp2() * GIB
}
