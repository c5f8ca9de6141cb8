//! The page that lists the bounds: `docs/bounds.md`.

use std::path::Path;

use engine::limits;

use crate::bounds::{
    CONTROL_FRAMES_MAX, ParticipantBound, SLOT_TIME_MIN, TIME_SLICE_BYTES,
    UNIDENTIFIED_REQUEST_INTERVAL, UNIDENTIFIED_REQUESTS,
};
use crate::settings::{CallbackSettings, ConnectionSettings};

/// A row of the page.
struct Row {
    what: &'static str,
    setting: &'static str,
    beyond: &'static str,
    reason: &'static str,
}

impl ParticipantBound {
    const fn row(self) -> Row {
        match self {
            Self::Connections => Row {
                what: "open connections on the public port",
                setting: "`[connections] per_participant_max`; less where the limit on open files does not suffice",
                beyond: "the one that has been idle longest is closed for the new one",
                reason: "a quarter of the port: four participants with a leak leave others none, so \
                         the port displaces the largest holder's, too",
            },
            Self::Streams => Row {
                what: "concurrent requests on one HTTP/2 connection",
                setting: "",
                beyond: "the peer has to wait (HTTP/2 flow)",
                reason: "a window of 1 MiB each way bounds what a connection buffers",
            },
            Self::Uploads => Row {
                what: "uploads in flight",
                setting: "a quarter of `[upload] batches_in_flight_max`",
                beyond: "429 `participant_share`",
                reason: "an hour's burst of the largest participant on the worst day is 25 full uploads",
            },
            Self::UploadBytes => Row {
                what: "bytes of bodies of uploads in flight",
                setting: "a quarter of `[upload] bytes_in_flight_max`",
                beyond: "429 `participant_share`",
                reason: "holds two of the largest bodies, or 40 full uploads as protobuf",
            },
            Self::BundleBytes => Row {
                what: "bytes of download batches being sent, until their last byte is written",
                setting: "a quarter of seven eighths of `[bundle] cache_bytes_max`",
                beyond: "429 `participant_share`",
                reason: "holds 125 usual full batches, or 33 as JSON; one alone always, however large",
            },
            Self::AuditBytes => Row {
                what: "bytes of audits being sent, until their last byte is written",
                setting: "a quarter of an eighth of `[bundle] cache_bytes_max`, at least the largest audit",
                beyond: "429 `participant_share`",
                reason: "holds hundreds of usual audits; one alone always, however large",
            },
            Self::KeysPerDay => Row {
                what: "keys stored per day (UTC), over all gateways",
                setting: "`[quota] keys_per_day`, `keys_per_day_of`",
                beyond: "429 `quota_keys_per_day` until the next day; a WARN at 80 %",
                reason: "four times what the largest participant brings on the worst day that is planned for; \
                         may be exceeded by the uploads in flight",
            },
            Self::ColdReads => Row {
                what: "downloads and audits that wait for the database",
                setting: "",
                beyond: "503 `overloaded_reads`",
                reason: "participants are served in rotation, so no one waits longer for what others have waiting; when \
                         all 256 places are taken, the newest of the participant with most gives way",
            },
            Self::CallbackRequests => Row {
                what: "requests about subscriptions that wait for the database",
                setting: "",
                beyond: "503 `overloaded_callbacks`",
                reason: "as for downloads: in rotation, 256 places in all",
            },
            Self::Subscriptions => Row {
                what: "callback subscriptions",
                setting: "",
                beyond: "the longest disabled one is replaced, else 403 `too_many_callbacks`",
                reason: "clients use one; a few more leave room for moves",
            },
            Self::CheckLookups => Row {
                what: "lookups of the host names of new subscriptions",
                setting: "",
                beyond: "503 `overloaded_callbacks`",
                reason: "each occupies a thread until the resolver's time-out, perhaps half a minute after the \
                         request was answered; 16 in all, and each participant's first always",
            },
            Self::Deliveries => Row {
                what: "callbacks being delivered",
                setting: "a quarter of `[callback] deliveries_max`",
                beyond: "they wait in the database",
                reason: "a slow receiver holds its place for 20 s; each participant's first is always delivered",
            },
            Self::DeliveryLookups => Row {
                what: "lookups of the host names of receivers",
                setting: "",
                beyond: "the delivery is put off for 5 s, and does not count as failed",
                reason: "apart from those of new subscriptions; 32 in all, and each participant's first always",
            },
            Self::WorkLines => Row {
                what: "log lines of one cause at once for completed work; then 200 per second",
                setting: "",
                beyond: "suppressed; the next one has their count",
                reason: "one per upload or download even on the busiest day",
            },
            Self::OtherLines => Row {
                what: "log lines of any other cause at once; then one per second",
                setting: "",
                beyond: "suppressed; the next one has their count",
                reason: "ten show an operator what is wrong",
            },
        }
    }

    /// The bound, where nothing is set.
    fn default_value(self) -> u64 {
        let share = |all: usize| (all / limits::PARTICIPANT_SHARE_DIVISOR) as u64;
        match self {
            Self::Uploads => share(limits::BATCHES_IN_FLIGHT_MAX),
            Self::UploadBytes => share(limits::BYTES_IN_FLIGHT_MAX),
            Self::BundleBytes => {
                limits::bundle_share_bytes_max(limits::BUNDLE_CACHE_BYTES_MAX) as u64
            }
            Self::AuditBytes => {
                limits::audit_share_bytes_max(limits::BUNDLE_CACHE_BYTES_MAX) as u64
            }
            Self::KeysPerDay => limits::PARTICIPANT_KEYS_PER_DAY,
            Self::Connections => ConnectionSettings::default().per_participant_max as u64,
            Self::Deliveries => share(CallbackSettings::default().deliveries_max),
            _ => self.fixed_value(),
        }
    }
}

const HEAD: &str = "\
# Bounds of one participant

What one participant can take, whatever it does: a fault, a leak or a stolen certificate costs its owner, and \
leaves\nthe others what they need. Peers without a listed certificate share a small number of connections \
(`[connections]\nunidentified_max`), and get nothing else: see below.

`efgs_participant_bound` and `efgs_participant_use_max` of [the metrics](metrics.md) show each bound beside what the \
participant\nuses that uses most, where that is a number at a time; `efgs_quota_keys_today` shows it for the quota of each \
participant.\nRefusals are counted by code in `efgs_refusals_total`, suppressed log lines in `efgs_log_lines_suppressed_total`.

Generated from `api/src/bounds.rs`: `EFGS_WRITE_BOUNDS=1 cargo test -p efgs-api --lib bounds`.

| bound | default | of what | setting | beyond it | why |
| --- | --- | --- | --- | --- | --- |
";

const CONNECTIONS: &str = "
# Bounds of one connection, no matter whose

| bound | value | of what | beyond it | why |
| --- | --- | --- | --- | --- |
";

/// A row of the bounds of one connection.
fn connection_rows() -> String {
    let kib = TIME_SLICE_BYTES >> 10;
    let interval_ms = UNIDENTIFIED_REQUEST_INTERVAL.as_millis();
    format!(
        "| time slice | {kib} KiB, and one request of HTTP/1 | what it reads and answers before others of its thread \
         are served | it continues after them | a megabyte of pings, or a row of pipelined requests, holds up no one |\n\
         | control frames | {CONTROL_FRAMES_MAX} at once; then 100 per second, and one per 512 bytes written | HTTP/2 \
         frames that are no part of a request: pings, settings, resets, window updates, empty data | it is \
         closed; `efgs_http2_floods_total` | far more than a client needs; each costs as much as 16 KiB of an upload |\n\
         | unidentified requests | {UNIDENTIFIED_REQUESTS} at once; then one per {interval_ms} ms | requests that no \
         participant is authenticated for, except on a trusted proxy's connection | the answer waits; \
         `efgs_unidentified_requests_delayed_total` | enough for whoever sets up a client; a proxy has to limit its own |\n\
         | place | {SLOT_MILLIS} ms | how long a connection keeps its place on a full port at the least | the next one \
         waits for it in the system's queue | a probe's request arrives in that time, however fast others open connections |\n",
        SLOT_MILLIS = SLOT_TIME_MIN.as_millis(),
    )
}

const TAIL: &str = "
# Memory for what is stored

Identities of keys, upload tags and the list of download batches are in memory, and grow with the log until \
retention\nforgets them. `[memory] stored_bytes_max` bounds them all together; by default it is half of what the machine, or \
the\ncontrol group of the process, has. From 80 % on, a WARN per hour says how many days are left at the present \
rate. When\nit is used up, uploads with new keys get 503 `overloaded_memory`, and `/ready` says so in `uploadsRefused`, \
with 200:\nrepeats of stored uploads, downloads, audits and callbacks are answered as always. A start reads all that is \
stored,\nwhatever the bound, and then refuses uploads, too. `efgs_stored_memory_bytes` shows what is used, beside \
`efgs_stored_memory_bytes_max`.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    for bound in ParticipantBound::ALL {
        let name = bound.name();
        let Row {
            what,
            setting,
            beyond,
            reason,
        } = bound.row();
        let value = bound.default_value();
        page += &format!("| `{name}` | {value} | {what} | {setting} | {beyond} | {reason} |\n");
    }
    page + CONNECTIONS + &connection_rows() + TAIL
}

#[test]
fn match_the_document() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/bounds.md");
    if std::env::var_os("EFGS_WRITE_BOUNDS").is_some() {
        std::fs::write(&path, page()).expect("the page can be written");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/bounds.md is outdated: generate it again, as it says"
    );
}

#[test]
fn have_a_value_and_a_name_each() {
    let mut names = ParticipantBound::names();
    assert!(
        ParticipantBound::ALL
            .iter()
            .all(|bound| bound.default_value() > 0)
    );
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ParticipantBound::ALL.len());
}
