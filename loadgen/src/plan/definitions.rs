//! Everything that a plan assumes: each number's meaning, unit, value and source. No input of a
//! plan is hidden in a formula.

use engine::limits;
use serde::{Deserialize, Serialize};

use crate::profiles::Profile;

/// Where a number's default comes from.
pub(super) enum Origin {
    /// The profile, or what follows from it.
    Profile(fn(&Profile) -> f64),
    /// The fan-out: participants − 1.
    FanOut,
    /// A fixed number and its source.
    Fixed(f64, &'static str),
    /// The unit costs.
    Cost(CostOf),
}

/// Picks one of the unit costs.
pub(super) type CostOf = fn(&Costs) -> Option<f64>;

/// The metadata of a number.
pub(super) struct Definition {
    /// Its name, as `--set` spells it.
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    /// Smallest and largest valid value.
    range: (f64, f64),
    pub(super) origin: Origin,
    pub(super) meaning: &'static str,
    pub(super) of: fn(&Numbers) -> f64,
    pub(super) set: fn(&mut Numbers, f64),
}

const ANY: (f64, f64) = (0.0, 1e15);
const POSITIVE: (f64, f64) = (1e-9, 1e15);
const SOME: (f64, f64) = (1.0, 1e15);
const SHARE: (f64, f64) = (0.001, 1.0);

const THIS_PLAN: &str = "chosen for this plan; change it to your own";

/// Declares every number once: as a field of [`Numbers`], and as a row of [`DEFINITIONS`].
macro_rules! numbers {
    ($($name:ident: $unit:literal, $range:ident, $origin:expr, $meaning:literal;)*) => {
        /// The numbers that a plan is worked out from.
        #[allow(clippy::doc_markdown, reason = "a plan prints these texts as they are")]
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        pub struct Numbers {
            $(#[doc = $meaning] pub $name: f64,)*
        }

        #[allow(
            clippy::cast_precision_loss,
            reason = "volumes and bounds are far below 2^53"
        )]
        pub(super) static DEFINITIONS: &[Definition] = &[$(Definition {
            name: stringify!($name),
            unit: $unit,
            range: $range,
            origin: $origin,
            meaning: $meaning,
            of: |numbers| numbers.$name,
            set: |numbers, value| numbers.$name = value,
        },)*];
    };
}

numbers! {
    keys_per_day: "keys", ANY,
        Origin::Profile(|profile| profile.keys as f64),
        "diagnosis keys that all participants upload together in a day";
    participants: "countries", SOME,
        Origin::Profile(|profile| profile.participants as f64),
        "participants; each uploads, and downloads what the others uploaded";
    upload_keys: "keys", SOME,
        Origin::Profile(|profile| f64::from(profile.upload_keys)),
        "keys in a full upload";
    fan_out: "copies", ANY,
        Origin::FanOut,
        "how often each key is downloaded";
    burst_share: "of a day", SHARE,
        Origin::Fixed(
            1.0 / 24.0,
            "sizing §3: backends upload on the full hour; one hour's keys arrive at once",
        ),
        "share of a day's keys that arrives in one burst";
    connections_per_participant: "connections", SOME,
        Origin::Fixed(1.0, "the known backends send one upload after the other"),
        "uploads that a participant has in flight at once";
    key_wire_bytes: "bytes", POSITIVE,
        Origin::Fixed(60.0, "sizing §1: 40 to 100 bytes by the number of visited countries"),
        "a key in protobuf, on the wire and in a bundle";
    download_days: "days", SOME,
        Origin::Fixed(
            (limits::DOWNLOAD_MAX_AGE_DAYS + 1) as f64,
            "the reference's max-age-in-days 2, and today",
        ),
        "days for which key data is stored and can be downloaded";
    download_batch_keys: "keys", SOME,
        Origin::Fixed(
            limits::BUNDLE_KEYS_MAX as f64,
            "the reference's limit",
        ),
        "keys in a full download batch, which is cut at once";
    paced_batches_max: "batches", ANY,
        Origin::Fixed(
            limits::PACING_BATCHES_MAX as f64,
            "the default of [bundle] paced_batches_max",
        ),
        "download batches that may be cut for age at once, when it was quiet before";
    paced_interval: "s", POSITIVE,
        Origin::Fixed(
            limits::PACING_INTERVAL.as_secs() as f64,
            "the default of [bundle] paced_interval_ms; the reference cuts as often",
        ),
        "time after which one more may be cut for age";
    slowest_reader_batches: "batches", SOME,
        Origin::Fixed(
            500.0,
            "clients §1.3: ES reads at most 500 download batches per run, one run per day",
        ),
        "download batches that the slowest client reads in a day";
    identity_days: "days", SOME,
        Origin::Fixed(
            limits::KEY_AGE_DAYS_MAX as f64,
            "the reference: a key can be uploaded until 15 days after its rolling start",
        ),
        "days in which a key can come again";
    identity_margin_days: "days", ANY,
        Origin::Fixed(
            (limits::IDENTITY_AGE_DAYS - limits::KEY_AGE_DAYS_MAX) as f64,
            "the gateway: retention works on whole days in UTC",
        ),
        "further days for which identities are kept";
    ingest_within_s: "s", POSITIVE,
        Origin::Fixed(10.0, "sizing §3: a burst is absorbed in seconds"),
        "the burst is to be stored within";
    deliver_within_s: "s", POSITIVE,
        Origin::Fixed(60.0, "chosen for this plan: delivered to everybody within a minute"),
        "the burst is to be downloaded by everybody within";
    cpu_used_max: "of a core", SHARE,
        Origin::Fixed(0.7, THIS_PLAN),
        "processors are planned to be so busy in the burst, at most";
    network_used_max: "of a link", SHARE,
        Origin::Fixed(0.7, THIS_PLAN),
        "links are planned to be so busy in the burst, at most";
    memory_used_max: "of memory", SHARE,
        Origin::Fixed(0.8, THIS_PLAN),
        "memory is planned to be so full, at most";
    disk_used_max: "of a disk", SHARE,
        Origin::Fixed(0.5, "chosen for this plan: room for a backup and a migration"),
        "the database's disk is planned to be so full, at most";
    gateway_cores: "cores", SOME,
        Origin::Fixed(2.0, "the size of machine that was measured"),
        "cores of one gateway machine";
    database_cores_min: "cores", SOME,
        Origin::Fixed(2.0, "one for the log's writer, one for reading and housekeeping"),
        "cores that a database machine has at least";
    network_gbit_per_s: "Gbit/s", POSITIVE,
        Origin::Fixed(1.0, THIS_PLAN),
        "link of one gateway machine, each way";
    disk_mb_per_s: "MB/s", POSITIVE,
        Origin::Fixed(100.0, THIS_PLAN),
        "what the database's disk writes durably";
    gateway_spares: "machines", ANY,
        Origin::Fixed(1.0, "N+1: one may fail in the burst"),
        "gateways beyond those that the load needs";
    database_spares: "machines", ANY,
        Origin::Fixed(1.0, "N+1: a replica, or another node of the cluster"),
        "databases beyond the one that is written to";
    batches_in_flight_max: "uploads", SOME,
        Origin::Fixed(
            limits::BATCHES_IN_FLIGHT_MAX as f64,
            "the gateway's default; beyond it the answer is 503 with Retry-After",
        ),
        "the setting batches_in_flight_max of uploads";
    bytes_in_flight_max: "bytes", SOME,
        Origin::Fixed(limits::BYTES_IN_FLIGHT_MAX as f64, "the gateway's default"),
        "the setting bytes_in_flight_max of uploads";
    in_flight_copies: "times", SOME,
        Origin::Fixed(
            5.0,
            "the gateway's limits.rs: an upload takes about five times its size",
        ),
        "memory of an upload that is worked on, by its size";
    bundle_max_delay_s: "s", ANY,
        Origin::Fixed(
            limits::BUNDLE_MAX_DELAY.as_millis() as f64 / 1000.0,
            "the gateway's default [bundle] max_delay_ms",
        ),
        "longest wait of an upload until it can be downloaded";
    bundle_cache_hours: "hours", ANY,
        Origin::Fixed(24.0, "sizing §3: some backends download once a day"),
        "how old a bundle may be and still come from memory";
    bundle_cache_bytes_min: "bytes", ANY,
        Origin::Fixed(
            limits::BUNDLE_CACHE_BYTES_MAX as f64,
            "the gateway's default [bundle] cache_bytes_max",
        ),
        "smallest bundle cache";
    database_buffer_bytes: "bytes", ANY,
        Origin::Fixed(
            (1u64 << 30) as f64,
            "chosen for this plan: the log is appended to, so a day need not fit",
        ),
        "buffer pool of the database";
    gateway_upload_ns_per_key: "ns/key", POSITIVE,
        Origin::Cost(|costs| costs.gateway_upload_ns_per_key),
        "processor time of the gateway to store a key";
    gateway_upload_us_per_request: "µs/upload", ANY,
        Origin::Cost(|costs| costs.gateway_upload_us_per_request),
        "processor time of the gateway for an upload, however small";
    gateway_download_ns_per_byte: "ns/byte", POSITIVE,
        Origin::Cost(|costs| costs.gateway_download_ns_per_byte),
        "processor time of the gateway to serve a byte";
    database_ns_per_key: "ns/key", ANY,
        Origin::Cost(|costs| costs.database_ns_per_key),
        "processor time of the database to store a key; 0 when it is embedded";
    database_us_per_upload: "µs/upload", ANY,
        Origin::Cost(|costs| costs.database_us_per_upload),
        "processor time of the database for an upload, however small";
    writer_ns_per_key: "ns/key", ANY,
        Origin::Cost(|costs| costs.writer_ns_per_key),
        "time of the log's one writer, to append and commit; no further machine shortens it";
    commit_ms: "ms", ANY,
        Origin::Cost(|costs| costs.commit_ms),
        "one commit of one full upload";
    disk_bytes_per_key: "bytes", POSITIVE,
        Origin::Cost(|costs| costs.disk_bytes_per_key),
        "a stored key on the database's disk, with its identity";
    written_bytes_per_key: "bytes", ANY,
        Origin::Cost(|costs| costs.written_bytes_per_key),
        "what the database writes to store a key: log, pages, double writes";
    set_bytes_per_key: "bytes", POSITIVE,
        Origin::Cost(|costs| costs.set_bytes_per_key),
        "a key in a gateway's set of identities; not less than at its worst fill";
    set_rebuild_ns_per_key: "ns/key", ANY,
        Origin::Cost(|costs| costs.set_rebuild_ns_per_key),
        "time to read an identity into the set when a gateway starts";
    gateway_base_bytes: "bytes", ANY,
        Origin::Cost(|costs| costs.gateway_base_bytes),
        "memory of a gateway that has nothing to do";
    database_base_bytes: "bytes", ANY,
        Origin::Cost(|costs| costs.database_base_bytes),
        "memory of the database without its buffer pool";
    upload_p50_ms: "ms", ANY,
        Origin::Cost(|costs| costs.upload_p50_ms),
        "a full upload into an idle gateway, request to answer, median";
    upload_p99_ms: "ms", ANY,
        Origin::Cost(|costs| costs.upload_p99_ms),
        "the same, 99 in 100";
}

/// Unit costs, as far as they are known; each is also a number of a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Costs {
    /// CPU time of the gateway to store a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_upload_ns_per_key: Option<f64>,
    /// CPU time of the gateway for an upload, however small.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_upload_us_per_request: Option<f64>,
    /// CPU time of the gateway to serve a byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_download_ns_per_byte: Option<f64>,
    /// CPU time of the database to store a key; 0 when it is embedded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_ns_per_key: Option<f64>,
    /// CPU time of the database for an upload, however small.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_us_per_upload: Option<f64>,
    /// Time of the log's single writer, to append and commit; more machines do not shorten it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer_ns_per_key: Option<f64>,
    /// One commit of one full upload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_ms: Option<f64>,
    /// A stored key on the database's disk, with its identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes_per_key: Option<f64>,
    /// Bytes that the database writes to store a key: log, pages, double writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_bytes_per_key: Option<f64>,
    /// A key in a gateway's set of identities; not less than at its worst fill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_bytes_per_key: Option<f64>,
    /// Time to read an identity into the set when a gateway starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_rebuild_ns_per_key: Option<f64>,
    /// Memory of an idle gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_base_bytes: Option<f64>,
    /// Memory of the database without its buffer pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_base_bytes: Option<f64>,
    /// A full upload into an idle gateway, from request to response, median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_p50_ms: Option<f64>,
    /// The same, 99th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_p99_ms: Option<f64>,
}

impl Costs {
    /// These, and where they are unknown the others.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            gateway_upload_ns_per_key: self
                .gateway_upload_ns_per_key
                .or(other.gateway_upload_ns_per_key),
            gateway_upload_us_per_request: self
                .gateway_upload_us_per_request
                .or(other.gateway_upload_us_per_request),
            gateway_download_ns_per_byte: self
                .gateway_download_ns_per_byte
                .or(other.gateway_download_ns_per_byte),
            database_ns_per_key: self.database_ns_per_key.or(other.database_ns_per_key),
            database_us_per_upload: self.database_us_per_upload.or(other.database_us_per_upload),
            writer_ns_per_key: self.writer_ns_per_key.or(other.writer_ns_per_key),
            commit_ms: self.commit_ms.or(other.commit_ms),
            disk_bytes_per_key: self.disk_bytes_per_key.or(other.disk_bytes_per_key),
            written_bytes_per_key: self.written_bytes_per_key.or(other.written_bytes_per_key),
            set_bytes_per_key: self.set_bytes_per_key.or(other.set_bytes_per_key),
            set_rebuild_ns_per_key: self.set_rebuild_ns_per_key.or(other.set_rebuild_ns_per_key),
            gateway_base_bytes: self.gateway_base_bytes.or(other.gateway_base_bytes),
            database_base_bytes: self.database_base_bytes.or(other.database_base_bytes),
            upload_p50_ms: self.upload_p50_ms.or(other.upload_p50_ms),
            upload_p99_ms: self.upload_p99_ms.or(other.upload_p99_ms),
        }
    }
}

/// Why an assumption cannot be changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AssumptionError {
    /// Not `name=value`.
    #[error("{0:?} is not an assumption; write NAME=NUMBER, as in participants=28")]
    Syntax(String),
    /// There is no such assumption.
    #[error("no assumption is called {name}; there are {}", known_names())]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// A number out of range.
    #[error("{name} must be between {least} and {most} {unit}")]
    Range {
        /// Which.
        name: &'static str,
        /// Smallest value.
        least: f64,
        /// Largest value.
        most: f64,
        /// Its unit.
        unit: &'static str,
    },
}

fn known_names() -> String {
    let names: Vec<_> = DEFINITIONS.iter().map(|known| known.name).collect();
    names.join(", ")
}

/// All unit costs, by name.
pub(super) fn costs() -> impl Iterator<Item = (&'static Definition, CostOf)> {
    DEFINITIONS.iter().filter_map(|known| match known.origin {
        Origin::Cost(of) => Some((known, of)),
        Origin::Profile(_) | Origin::FanOut | Origin::Fixed(..) => None,
    })
}

/// The assumption of that name.
pub(super) fn find(name: &str) -> Result<&'static Definition, AssumptionError> {
    let known = DEFINITIONS.iter().find(|known| known.name == name);
    known.ok_or_else(|| AssumptionError::Unknown {
        name: name.to_owned(),
    })
}

impl Definition {
    /// Refuses a number that is out of range.
    pub(super) fn check(&self, value: f64) -> Result<(), AssumptionError> {
        let (least, most) = self.range;
        if (least..=most).contains(&value) {
            return Ok(());
        }
        Err(AssumptionError::Range {
            name: self.name,
            least,
            most,
            unit: self.unit,
        })
    }
}
