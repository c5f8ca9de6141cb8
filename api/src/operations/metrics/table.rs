//! All metrics of this process.

use engine::OverloadBound;

use crate::attention::CertificateState;
use crate::bounds::ParticipantBound;
use crate::response::catalog;
use crate::slots::Bound;
use crate::telemetry;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A metric of this process.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: Labels,
    /// A sentence without its full stop.
    pub(super) help: &'static str,
}

/// The labels of a metric.
pub(super) enum Labels {
    None,
    /// A label with all its values: each exists from the start.
    Known(&'static str, fn() -> Vec<&'static str>),
    /// Labels whose values appear with the samples.
    Open(&'static str),
}

const fn metric(kind: Kind, name: &'static str, labels: Labels, help: &'static str) -> Metric {
    Metric {
        name,
        kind,
        labels,
        help,
    }
}

fn bounds() -> Vec<&'static str> {
    OverloadBound::ALL.map(OverloadBound::name).to_vec()
}

fn connection_bounds() -> Vec<&'static str> {
    Bound::ALL.map(Bound::name).to_vec()
}

fn stored_parts() -> Vec<&'static str> {
    vec!["set", "tags", "catalog"]
}

fn certificate_states() -> Vec<&'static str> {
    CertificateState::ALL.map(CertificateState::name).to_vec()
}

fn outcomes() -> Vec<&'static str> {
    vec!["delivered", "failed", "postponed"]
}

fn subscription_states() -> Vec<&'static str> {
    vec!["active", "disabled"]
}

/// In the order of an operator's interest: requests, bounds, stages, the log, downloads, callbacks,
/// trouble.
pub(super) const METRICS: &[Metric] = &[
    metric(
        Kind::Gauge,
        "efgs_build_info",
        Labels::Open("version"),
        "Always 1",
    ),
    metric(
        Kind::Gauge,
        "efgs_ready",
        Labels::None,
        "1 while `/ready` answers 200",
    ),
    metric(
        Kind::Gauge,
        "efgs_database_up",
        Labels::None,
        "1 while the database answers, 0 while it does not, or is not known to yet",
    ),
    metric(
        Kind::Histogram,
        "efgs_request_seconds",
        Labels::Open("route and status"),
        "Time from a request to the head of its response",
    ),
    metric(
        Kind::Counter,
        "efgs_refusals_total",
        Labels::Known("code", catalog::every_code),
        "Refused requests",
    ),
    metric(
        Kind::Counter,
        "efgs_participant_refusals_total",
        Labels::Open("country and code"),
        "Refused requests that show a listed certificate of the participant, whether or not it is valid; from the \
         first of its code on",
    ),
    metric(
        Kind::Gauge,
        "efgs_connections_open",
        Labels::None,
        "Open connections over all ports",
    ),
    metric(
        Kind::Gauge,
        "efgs_connections_max",
        Labels::None,
        "Most connections that may be open",
    ),
    metric(
        Kind::Counter,
        "efgs_connections_displaced_total",
        Labels::Known("bound", connection_bounds),
        "Connections closed for others: the port, a participant or unidentified peers had too many",
    ),
    metric(
        Kind::Counter,
        "efgs_http2_floods_total",
        Labels::None,
        "HTTP/2 connections closed because their peer sent too many control frames",
    ),
    metric(
        Kind::Counter,
        "efgs_unidentified_requests_delayed_total",
        Labels::None,
        "Answers that waited because a peer that is no participant asked too fast",
    ),
    metric(
        Kind::Counter,
        "efgs_connections_stalled_total",
        Labels::None,
        "Connections closed because their peer stalled",
    ),
    metric(
        Kind::Counter,
        "efgs_streams_stalled_total",
        Labels::None,
        "HTTP/2 streams reset because their peer took nothing of the answer",
    ),
    metric(
        Kind::Counter,
        "efgs_tls_handshakes_failed_total",
        Labels::None,
        "TLS handshakes that failed",
    ),
    metric(
        Kind::Counter,
        "efgs_proxy_protocol_headers_refused_total",
        Labels::None,
        "Connections of a listed load balancer that did not begin with a PROXY protocol header of version 2",
    ),
    metric(
        Kind::Gauge,
        "efgs_admission_in_flight_batches",
        Labels::None,
        "Uploads that hold a permit",
    ),
    metric(
        Kind::Gauge,
        "efgs_admission_in_flight_batches_max",
        Labels::None,
        "Most of them",
    ),
    metric(
        Kind::Gauge,
        "efgs_admission_in_flight_bytes",
        Labels::None,
        "Body bytes of the uploads that hold a permit",
    ),
    metric(
        Kind::Gauge,
        "efgs_admission_in_flight_bytes_max",
        Labels::None,
        "Most of them",
    ),
    metric(
        Kind::Counter,
        "efgs_admission_refused_total",
        Labels::Known("bound", bounds),
        "Requests refused at a bound, with 429 or 503",
    ),
    metric(
        Kind::Gauge,
        "efgs_participant_bound",
        Labels::Known("bound", ParticipantBound::names),
        "What one participant may have at once, or per day (docs/bounds.md)",
    ),
    metric(
        Kind::Gauge,
        "efgs_participant_use_max",
        Labels::Open("bound"),
        "Highest use by any participant",
    ),
    metric(
        Kind::Gauge,
        "efgs_quota_keys_today",
        Labels::Open("country"),
        "Keys that a participant has stored today (UTC), over all gateways",
    ),
    metric(
        Kind::Gauge,
        "efgs_quota_keys_per_day_max",
        Labels::Open("country"),
        "Most keys that it may store in a day",
    ),
    metric(
        Kind::Counter,
        "efgs_uploads_total",
        Labels::Open(
            "country and outcome (stored, repeated, duplicates, rejected, refused, failed)",
        ),
        "Uploads of authenticated participants that were answered: stored, stored before under the same tag, refused for keys that were stored before, rejected as wrong, refused at a bound or for their form, or failed here",
    ),
    metric(
        Kind::Counter,
        "efgs_keys_total",
        Labels::Open("country and outcome (stored, duplicate, left_out)"),
        "Keys of uploads that were valid: stored, stored before, or new and left out because others of their upload were stored before",
    ),
    metric(
        Kind::Counter,
        "efgs_downloads_total",
        Labels::Open("country and kind (batch, audit)"),
        "Download batches and audits that were answered",
    ),
    metric(
        Kind::Counter,
        "efgs_download_bytes_total",
        Labels::Open("country and kind (batch, audit)"),
        "Bytes of the bodies of these answers, without those of large batches that are converted to JSON while they are sent",
    ),
    metric(
        Kind::Gauge,
        "efgs_download_batches_behind",
        Labels::Open("country"),
        "Download batches that a participant can download, newer than the newest that it has from any gateway",
    ),
    metric(
        Kind::Gauge,
        "efgs_stored_memory_bytes",
        Labels::Known("part", stored_parts),
        "Memory that grows with what is stored: identities of keys, upload tags, the list of \
         download batches",
    ),
    metric(
        Kind::Gauge,
        "efgs_stored_memory_bytes_max",
        Labels::None,
        "Most of it: beyond, uploads are refused with 503",
    ),
    metric(
        Kind::Gauge,
        "efgs_identities",
        Labels::None,
        "Identities of keys in memory, against which uploads are checked",
    ),
    metric(
        Kind::Histogram,
        "efgs_stage_seconds",
        Labels::Open("stage"),
        "Time of a stage: decode, validate, verify, dedup and seal an upload, persist a group of \
         uploads, bundle a cut, serve a cold bundle",
    ),
    metric(
        Kind::Histogram,
        "efgs_commit_seconds",
        Labels::None,
        "Time of a group commit",
    ),
    metric(
        Kind::Histogram,
        "efgs_commit_batches",
        Labels::None,
        "Uploads in a group commit",
    ),
    metric(
        Kind::Counter,
        "efgs_keys_stored_total",
        Labels::None,
        "Keys stored through this gateway",
    ),
    metric(
        Kind::Gauge,
        "efgs_log_position",
        Labels::None,
        "Number of uploads in the log, as far as this gateway has followed it",
    ),
    metric(
        Kind::Gauge,
        "efgs_epoch",
        Labels::None,
        "The epoch: how often operators have begun another after the database went back",
    ),
    metric(
        Kind::Counter,
        "efgs_log_conflicts_total",
        Labels::None,
        "Commits that lost the race for the next position to another gateway",
    ),
    metric(
        Kind::Counter,
        "efgs_commits_unresolved_total",
        Labels::None,
        "Attempts to commit whose outcome was lost with the connection, and was looked up afterwards",
    ),
    metric(
        Kind::Counter,
        "efgs_database_conflicts_total",
        Labels::None,
        "Statements beside commits of uploads that lost a race and were tried again: routine on a cluster",
    ),
    metric(
        Kind::Counter,
        "efgs_log_tail_locks_total",
        Labels::None,
        "Times that the log tail was locked after too many lost races",
    ),
    metric(
        Kind::Counter,
        "efgs_download_batches_total",
        Labels::None,
        "Download batches cut by this gateway",
    ),
    metric(
        Kind::Gauge,
        "efgs_uploads_waiting",
        Labels::None,
        "Uploads behind the newest download batch",
    ),
    metric(
        Kind::Gauge,
        "efgs_newest_download_batch_timestamp_seconds",
        Labels::None,
        "When the newest download batch was cut, or when this gateway has seen it; 0 without any",
    ),
    metric(
        Kind::Histogram,
        "efgs_delivery_delay_seconds",
        Labels::None,
        "Time from when an upload was accepted until it can be downloaded, of the uploads that this gateway has cut into download batches",
    ),
    metric(
        Kind::Gauge,
        "efgs_bundle_budget",
        Labels::None,
        "Download batches that may be cut before they are full, as of the last cut",
    ),
    metric(
        Kind::Gauge,
        "efgs_bundle_cache_bytes",
        Labels::None,
        "Bytes of encoded download batches in memory, cached or being sent",
    ),
    metric(
        Kind::Gauge,
        "efgs_bundle_cache_bytes_max",
        Labels::None,
        "Most of them that stay cached",
    ),
    metric(
        Kind::Gauge,
        "efgs_audit_cache_bytes",
        Labels::None,
        "Bytes of encoded audits in memory, cached or being sent",
    ),
    metric(
        Kind::Gauge,
        "efgs_audit_cache_bytes_max",
        Labels::None,
        "Most of them that stay cached",
    ),
    metric(
        Kind::Counter,
        "efgs_cold_bundles_total",
        Labels::None,
        "Download batches read back from the database",
    ),
    metric(
        Kind::Counter,
        "efgs_downloads_uncounted_total",
        Labels::None,
        "Downloads missing from the statistics because the database was unavailable for too long",
    ),
    metric(
        Kind::Gauge,
        "efgs_callback_subscriptions",
        Labels::Known("state", subscription_states),
        "Callback subscriptions over all gateways",
    ),
    metric(
        Kind::Gauge,
        "efgs_callback_batches_behind_max",
        Labels::None,
        "Download batches that the active subscription furthest behind has not been notified of",
    ),
    metric(
        Kind::Gauge,
        "efgs_callback_deliveries_in_flight",
        Labels::None,
        "Callbacks that this gateway is delivering",
    ),
    metric(
        Kind::Gauge,
        "efgs_callback_deliveries_in_flight_max",
        Labels::None,
        "Most callbacks that this gateway delivers at once",
    ),
    metric(
        Kind::Counter,
        "efgs_callback_attempts_total",
        Labels::Known("outcome", outcomes),
        "Callbacks attempted by this gateway",
    ),
    metric(
        Kind::Histogram,
        "efgs_callback_seconds",
        Labels::Open("outcome"),
        "Time of a callback, from resolving its host to the head of the response",
    ),
    metric(
        Kind::Counter,
        "efgs_log_lines_total",
        Labels::Known("level", telemetry::level_names),
        "Log lines written, without those that were suppressed, with those that were dropped",
    ),
    metric(
        Kind::Counter,
        "efgs_log_lines_suppressed_total",
        Labels::None,
        "Log lines left out because a participant or peer caused too many of the same",
    ),
    metric(
        Kind::Counter,
        "efgs_log_lines_dropped_total",
        Labels::None,
        "Log lines dropped because standard error was blocked or could not be written",
    ),
    metric(
        Kind::Gauge,
        "efgs_database_went_back",
        Labels::None,
        "1 once the database has gone back to an earlier state, or was modified outside of efgs: the gateway \
         waits for its operator",
    ),
    metric(
        Kind::Gauge,
        "efgs_damaged_uploads",
        Labels::None,
        "Uploads that were found damaged in the database and cannot be served; `/ready` names them",
    ),
    metric(
        Kind::Gauge,
        "efgs_reloads_failed",
        Labels::None,
        "Things whose last reload failed (configuration, log level, certificates): what was read before is used",
    ),
    metric(
        Kind::Gauge,
        "efgs_database_may_lose_commits",
        Labels::None,
        "1 while settings of the database server may let it lose what it has confirmed",
    ),
    metric(
        Kind::Gauge,
        "efgs_database_disk_free_bytes",
        Labels::None,
        "Free bytes of the disk with the SQLite database; NaN with a database server",
    ),
    metric(
        Kind::Gauge,
        "efgs_database_disk_bytes",
        Labels::None,
        "Size of that disk; NaN with a database server",
    ),
    metric(
        Kind::Gauge,
        "efgs_certificate_list_refused",
        Labels::None,
        "1 while the certificate list of the database does not match its digest: the former one is used",
    ),
    metric(
        Kind::Gauge,
        "efgs_certificates",
        Labels::Known("state", certificate_states),
        "Rows of the certificate list: valid now, not valid yet, expired, revoked, or not as the operator listed them",
    ),
    metric(
        Kind::Gauge,
        "efgs_certificate_not_after_timestamp_seconds",
        Labels::Open("kind and country"),
        "End of the certificate that is valid longest: of the gateway (kinds `gateway`, `gateway_callback`, no country), and by country of each participant; NaN once there is none",
    ),
    metric(
        Kind::Gauge,
        "efgs_clock_ahead_of_database_seconds",
        Labels::None,
        "How far the gateway's clock is ahead of the database's; beyond 300 either way it cuts nothing",
    ),
    metric(
        Kind::Gauge,
        "efgs_day_in_doubt",
        Labels::None,
        "1 while the clock shows a day that is not accepted yet",
    ),
    metric(
        Kind::Gauge,
        "efgs_cutting_stopped",
        Labels::None,
        "1 while the gateway cannot cut download batches: the clocks differ, or a day in the database is wrong",
    ),
    metric(
        Kind::Counter,
        "efgs_panics_total",
        Labels::None,
        "Panics: of a job, whose request gets a 500, or of a thread, after which the gateway exits",
    ),
    metric(
        Kind::Counter,
        "process_cpu_seconds_total",
        Labels::None,
        "CPU time of the process, of programs and of the system for it",
    ),
    metric(
        Kind::Gauge,
        "process_resident_memory_bytes",
        Labels::None,
        "Resident memory",
    ),
    metric(
        Kind::Gauge,
        "process_virtual_memory_bytes",
        Labels::None,
        "Virtual memory",
    ),
    metric(Kind::Gauge, "process_threads", Labels::None, "Threads"),
    metric(
        Kind::Gauge,
        "process_open_fds",
        Labels::None,
        "Open files, connections among them",
    ),
    metric(
        Kind::Gauge,
        "process_max_fds",
        Labels::None,
        "Most files that may be open",
    ),
    metric(
        Kind::Gauge,
        "process_start_time_seconds",
        Labels::None,
        "When the process was started",
    ),
];
