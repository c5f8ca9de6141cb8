//! Everything that a plan assumes, as named numbers: what each means, in which unit, how much, and
//! who says so. Nothing that decides about a plan is hidden in a formula.

use engine::limits;

use crate::profiles::Profile;

/// Name of an assumption, as `--set` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name(pub(super) &'static str);

/// A day's diagnosis keys.
pub const KEYS_PER_DAY: Name = Name("keys_per_day");
/// Participants that upload, and download.
pub const PARTICIPANTS: Name = Name("participants");
/// Keys in a full upload.
pub const UPLOAD_KEYS: Name = Name("upload_keys");
pub(super) const FAN_OUT: Name = Name("fan_out");
pub(super) const BURST_SHARE: Name = Name("burst_share");
pub(super) const CONNECTIONS: Name = Name("connections_per_participant");
pub(super) const KEY_WIRE_BYTES: Name = Name("key_wire_bytes");
pub(super) const DOWNLOAD_DAYS: Name = Name("download_days");
pub(super) const IDENTITY_DAYS: Name = Name("identity_days");
pub(super) const IDENTITY_MARGIN_DAYS: Name = Name("identity_margin_days");
pub(super) const INGEST_WITHIN_S: Name = Name("ingest_within_s");
pub(super) const DELIVER_WITHIN_S: Name = Name("deliver_within_s");
pub(super) const CPU_USED_MAX: Name = Name("cpu_used_max");
pub(super) const NETWORK_USED_MAX: Name = Name("network_used_max");
pub(super) const MEMORY_USED_MAX: Name = Name("memory_used_max");
pub(super) const DISK_USED_MAX: Name = Name("disk_used_max");
pub(super) const GATEWAY_CORES: Name = Name("gateway_cores");
pub(super) const DATABASE_CORES_MIN: Name = Name("database_cores_min");
pub(super) const NETWORK_GBIT: Name = Name("network_gbit_per_s");
pub(super) const DISK_MB: Name = Name("disk_mb_per_s");
pub(super) const GATEWAY_SPARES: Name = Name("gateway_spares");
pub(super) const DATABASE_SPARES: Name = Name("database_spares");
pub(super) const BATCHES_IN_FLIGHT: Name = Name("batches_in_flight_max");
pub(super) const BYTES_IN_FLIGHT: Name = Name("bytes_in_flight_max");
pub(super) const IN_FLIGHT_COPIES: Name = Name("in_flight_copies");
pub(super) const BUNDLE_DELAY_S: Name = Name("bundle_max_delay_s");
pub(super) const CACHE_HOURS: Name = Name("bundle_cache_hours");
pub(super) const CACHE_BYTES_MIN: Name = Name("bundle_cache_bytes_min");
pub(super) const DATABASE_BUFFER: Name = Name("database_buffer_bytes");
pub(super) const GATEWAY_NS_KEY: Name = Name("gateway_upload_ns_per_key");
pub(super) const GATEWAY_US_UPLOAD: Name = Name("gateway_upload_us_per_request");
pub(super) const GATEWAY_NS_BYTE: Name = Name("gateway_download_ns_per_byte");
pub(super) const DATABASE_NS_KEY: Name = Name("database_ns_per_key");
pub(super) const DATABASE_US_UPLOAD: Name = Name("database_us_per_upload");
pub(super) const WRITER_NS_KEY: Name = Name("writer_ns_per_key");
pub(super) const COMMIT_MS: Name = Name("commit_ms");
pub(super) const DISK_BYTES_KEY: Name = Name("disk_bytes_per_key");
pub(super) const WRITTEN_BYTES_KEY: Name = Name("written_bytes_per_key");
pub(super) const SET_BYTES_KEY: Name = Name("set_bytes_per_key");
pub(super) const REBUILD_NS_KEY: Name = Name("set_rebuild_ns_per_key");
pub(super) const GATEWAY_BASE: Name = Name("gateway_base_bytes");
pub(super) const DATABASE_BASE: Name = Name("database_base_bytes");
pub(super) const UPLOAD_P50_MS: Name = Name("upload_p50_ms");
pub(super) const UPLOAD_P99_MS: Name = Name("upload_p99_ms");

/// Where a number comes from when nobody gives another one.
pub(super) enum Origin {
    /// The profile, or what follows from it.
    Profile(fn(&Profile) -> f64),
    /// The fan-out: participants − 1.
    FanOut,
    /// A fixed number, and who says so.
    Fixed(f64, &'static str),
    /// The unit costs.
    Measured,
}

pub(super) struct Definition {
    pub(super) name: Name,
    pub(super) unit: &'static str,
    /// Smallest and largest value that makes sense.
    pub(super) range: (f64, f64),
    pub(super) origin: Origin,
    pub(super) meaning: &'static str,
}

const ANY: (f64, f64) = (0.0, 1e15);
const POSITIVE: (f64, f64) = (1e-9, 1e15);
const SOME: (f64, f64) = (1.0, 1e15);
const SHARE: (f64, f64) = (0.001, 1.0);

const THIS_PLAN: &str = "chosen for this plan; change it to your own";

const fn row(
    name: Name,
    unit: &'static str,
    range: (f64, f64),
    origin: Origin,
    meaning: &'static str,
) -> Definition {
    Definition {
        name,
        unit,
        range,
        origin,
        meaning,
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "volumes and bounds are far below 2^53"
)]
pub(super) static DEFINITIONS: &[Definition] = &[
    row(
        KEYS_PER_DAY,
        "keys",
        ANY,
        Origin::Profile(|profile| profile.keys as f64),
        "diagnosis keys that all participants upload together in a day",
    ),
    row(
        PARTICIPANTS,
        "countries",
        SOME,
        Origin::Profile(|profile| profile.participants as f64),
        "participants; each uploads, and downloads what the others uploaded",
    ),
    row(
        UPLOAD_KEYS,
        "keys",
        SOME,
        Origin::Profile(|profile| f64::from(profile.upload_keys)),
        "keys in a full upload",
    ),
    row(
        FAN_OUT,
        "copies",
        ANY,
        Origin::FanOut,
        "how often each key is downloaded",
    ),
    row(
        BURST_SHARE,
        "of a day",
        SHARE,
        Origin::Fixed(
            1.0 / 24.0,
            "sizing §3: backends upload on the full hour; one hour's keys arrive at once",
        ),
        "share of a day's keys that arrives in one burst",
    ),
    row(
        CONNECTIONS,
        "connections",
        SOME,
        Origin::Fixed(1.0, "the known backends send one upload after the other"),
        "uploads that a participant has in flight at once",
    ),
    row(
        KEY_WIRE_BYTES,
        "bytes",
        POSITIVE,
        Origin::Fixed(
            60.0,
            "sizing §1: 40 to 100 bytes by the number of visited countries",
        ),
        "a key in protobuf, on the wire and in a bundle",
    ),
    row(
        DOWNLOAD_DAYS,
        "days",
        SOME,
        Origin::Fixed(
            (limits::DOWNLOAD_MAX_AGE_DAYS + 1) as f64,
            "the reference's max-age-in-days 2, and today",
        ),
        "days for which key data is stored and can be downloaded",
    ),
    row(
        IDENTITY_DAYS,
        "days",
        SOME,
        Origin::Fixed(
            limits::KEY_AGE_DAYS_MAX as f64,
            "the reference: a key can be uploaded until 15 days after its rolling start",
        ),
        "days in which a key can come again",
    ),
    row(
        IDENTITY_MARGIN_DAYS,
        "days",
        ANY,
        Origin::Fixed(
            (limits::IDENTITY_AGE_DAYS - limits::KEY_AGE_DAYS_MAX) as f64,
            "the gateway: retention works on whole days in UTC",
        ),
        "further days for which identities are kept",
    ),
    row(
        INGEST_WITHIN_S,
        "s",
        POSITIVE,
        Origin::Fixed(10.0, "sizing §3: a burst is absorbed in seconds"),
        "the burst is to be stored within",
    ),
    row(
        DELIVER_WITHIN_S,
        "s",
        POSITIVE,
        Origin::Fixed(60.0, "design: delivered to all within 60 s"),
        "the burst is to be downloaded by everybody within",
    ),
    row(
        CPU_USED_MAX,
        "of a core",
        SHARE,
        Origin::Fixed(0.7, THIS_PLAN),
        "processors are planned to be so busy in the burst, at most",
    ),
    row(
        NETWORK_USED_MAX,
        "of a link",
        SHARE,
        Origin::Fixed(0.7, THIS_PLAN),
        "links are planned to be so busy in the burst, at most",
    ),
    row(
        MEMORY_USED_MAX,
        "of memory",
        SHARE,
        Origin::Fixed(0.8, THIS_PLAN),
        "memory is planned to be so full, at most",
    ),
    row(
        DISK_USED_MAX,
        "of a disk",
        SHARE,
        Origin::Fixed(
            0.5,
            "chosen for this plan: room for a backup and a migration",
        ),
        "the database's disk is planned to be so full, at most",
    ),
    row(
        GATEWAY_CORES,
        "cores",
        SOME,
        Origin::Fixed(2.0, "the size of machine that was measured"),
        "cores of one gateway machine",
    ),
    row(
        DATABASE_CORES_MIN,
        "cores",
        SOME,
        Origin::Fixed(
            2.0,
            "one for the log's writer, one for reading and housekeeping",
        ),
        "cores that a database machine has at least",
    ),
    row(
        NETWORK_GBIT,
        "Gbit/s",
        POSITIVE,
        Origin::Fixed(1.0, THIS_PLAN),
        "link of one gateway machine, each way",
    ),
    row(
        DISK_MB,
        "MB/s",
        POSITIVE,
        Origin::Fixed(100.0, THIS_PLAN),
        "what the database's disk writes durably",
    ),
    row(
        GATEWAY_SPARES,
        "machines",
        ANY,
        Origin::Fixed(1.0, "N+1: one may fail in the burst"),
        "gateways beyond those that the load needs",
    ),
    row(
        DATABASE_SPARES,
        "machines",
        ANY,
        Origin::Fixed(1.0, "N+1: a replica, or another node of the cluster"),
        "databases beyond the one that is written to",
    ),
    row(
        BATCHES_IN_FLIGHT,
        "uploads",
        SOME,
        Origin::Fixed(
            limits::BATCHES_IN_FLIGHT_MAX as f64,
            "the gateway's default; beyond it the answer is 503 with Retry-After",
        ),
        "[upload] batches_in_flight_max",
    ),
    row(
        BYTES_IN_FLIGHT,
        "bytes",
        SOME,
        Origin::Fixed(limits::BYTES_IN_FLIGHT_MAX as f64, "the gateway's default"),
        "[upload] bytes_in_flight_max",
    ),
    row(
        IN_FLIGHT_COPIES,
        "times",
        SOME,
        Origin::Fixed(
            5.0,
            "the gateway's limits.rs: an upload takes about five times its size",
        ),
        "memory of an upload that is worked on, by its size",
    ),
    row(
        BUNDLE_DELAY_S,
        "s",
        ANY,
        Origin::Fixed(
            limits::BUNDLE_MAX_DELAY.as_millis() as f64 / 1000.0,
            "the gateway's default [bundle] max_delay_ms",
        ),
        "longest wait of an upload until it can be downloaded",
    ),
    row(
        CACHE_HOURS,
        "hours",
        ANY,
        Origin::Fixed(24.0, "sizing §3: some backends download once a day"),
        "how old a bundle may be and still come from memory",
    ),
    row(
        CACHE_BYTES_MIN,
        "bytes",
        ANY,
        Origin::Fixed(
            limits::BUNDLE_CACHE_BYTES_MAX as f64,
            "the gateway's default [bundle] cache_bytes_max",
        ),
        "smallest bundle cache",
    ),
    row(
        DATABASE_BUFFER,
        "bytes",
        ANY,
        Origin::Fixed(
            (1u64 << 30) as f64,
            "chosen for this plan: the log is appended to, so a day need not fit",
        ),
        "buffer pool of the database",
    ),
    row(
        GATEWAY_NS_KEY,
        "ns/key",
        POSITIVE,
        Origin::Measured,
        "processor time of the gateway to store a key",
    ),
    row(
        GATEWAY_US_UPLOAD,
        "µs/upload",
        ANY,
        Origin::Measured,
        "processor time of the gateway for an upload, however small",
    ),
    row(
        GATEWAY_NS_BYTE,
        "ns/byte",
        POSITIVE,
        Origin::Measured,
        "processor time of the gateway to serve a byte",
    ),
    row(
        DATABASE_NS_KEY,
        "ns/key",
        ANY,
        Origin::Measured,
        "processor time of the database to store a key; 0 when it is embedded",
    ),
    row(
        DATABASE_US_UPLOAD,
        "µs/upload",
        ANY,
        Origin::Measured,
        "processor time of the database for an upload, however small",
    ),
    row(
        WRITER_NS_KEY,
        "ns/key",
        ANY,
        Origin::Measured,
        "time of the log's one writer, to append and commit; no further machine shortens it",
    ),
    row(
        COMMIT_MS,
        "ms",
        ANY,
        Origin::Measured,
        "one commit of one full upload",
    ),
    row(
        DISK_BYTES_KEY,
        "bytes",
        POSITIVE,
        Origin::Measured,
        "a stored key on the database's disk, with its identity",
    ),
    row(
        WRITTEN_BYTES_KEY,
        "bytes",
        ANY,
        Origin::Measured,
        "what the database writes to store a key: log, pages, double writes",
    ),
    row(
        SET_BYTES_KEY,
        "bytes",
        POSITIVE,
        Origin::Measured,
        "a key in a gateway's set of identities; not less than at its worst fill",
    ),
    row(
        REBUILD_NS_KEY,
        "ns/key",
        ANY,
        Origin::Measured,
        "time to read an identity into the set when a gateway starts",
    ),
    row(
        GATEWAY_BASE,
        "bytes",
        ANY,
        Origin::Measured,
        "memory of a gateway that has nothing to do",
    ),
    row(
        DATABASE_BASE,
        "bytes",
        ANY,
        Origin::Measured,
        "memory of the database without its buffer pool",
    ),
    row(
        UPLOAD_P50_MS,
        "ms",
        ANY,
        Origin::Measured,
        "a full upload into an idle gateway, request to answer, median",
    ),
    row(
        UPLOAD_P99_MS,
        "ms",
        ANY,
        Origin::Measured,
        "the same, 99 in 100",
    ),
];

/// Why an assumption cannot be changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AssumptionError {
    /// Not `name=value`.
    #[error("{0:?} is no assumption; write NAME=NUMBER, as in participants=28")]
    Syntax(String),
    /// There is none of that name.
    #[error("no assumption is called {name}; there are {}", known_names())]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// A number that makes no sense.
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
    let names: Vec<_> = DEFINITIONS.iter().map(|known| known.name.0).collect();
    names.join(", ")
}

/// The names of all unit costs.
pub(super) fn cost_names() -> impl Iterator<Item = &'static str> {
    let measured = |known: &&Definition| matches!(known.origin, Origin::Measured);
    DEFINITIONS
        .iter()
        .filter(measured)
        .map(|known| known.name.0)
}

/// Refuses a number that makes no sense for an assumption.
pub(super) fn check(name: &str, value: f64) -> Result<(), AssumptionError> {
    let known = DEFINITIONS.iter().find(|known| known.name.0 == name);
    let known = known.ok_or_else(|| AssumptionError::Unknown {
        name: name.to_owned(),
    })?;
    let (least, most) = known.range;
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(AssumptionError::Range {
        name: known.name.0,
        least,
        most,
        unit: known.unit,
    })
}
