//! The metrics at `/metrics`. One test, since a process has one recorder.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use engine::{Overload, OverloadBound};
use support::{Gateway, Raw, TODAY, get, signed_upload};

async fn metrics(raw: &mut Raw) -> String {
    let request = "GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n";
    String::from_utf8(raw.get(request).await.body).unwrap()
}

/// The value of a sample.
fn value(text: &str, sample: &str) -> Option<f64> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.map(|value| value.parse().unwrap())
}

fn stage_count(text: &str, stage: &str) -> Option<f64> {
    value(
        text,
        &format!("efgs_stage_seconds_count{{stage=\"{stage}\"}}"),
    )
}

/// What promtool says to the metrics, which is nothing if names, units and types are as Prometheus'
/// conventions want them.
fn promtool_check(text: &str) -> String {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin/promtool");
    let program = if installed.exists() {
        installed
    } else {
        "promtool".into()
    };
    let mut process = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed by `make packages`");
    let mut pipe = process.stdin.take().unwrap();
    pipe.write_all(text.as_bytes()).unwrap();
    drop(pipe);
    let output = process.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8(said).unwrap()
}

/// Metrics of one participant's uploads and downloads, and what is looked up.
#[track_caller]
fn shows_participants_and_state(text: &str) {
    for (sample, expected) in [
        ("efgs_ready", 1.0),
        ("efgs_database_up", 1.0),
        ("efgs_log_position", 2.0),
        ("efgs_uploads_waiting", 0.0),
        ("efgs_identities", 6.0),
        ("efgs_epoch", 0.0),
        ("efgs_uploads_total{country=\"DE\",outcome=\"stored\"}", 2.0),
        (
            "efgs_uploads_total{country=\"DE\",outcome=\"rejected\"}",
            1.0,
        ),
        (
            "efgs_uploads_total{country=\"DE\",outcome=\"repeated\"}",
            1.0,
        ),
        (
            "efgs_uploads_total{country=\"DE\",outcome=\"duplicates\"}",
            1.0,
        ),
        ("efgs_keys_total{country=\"DE\",outcome=\"stored\"}", 6.0),
        ("efgs_keys_total{country=\"DE\",outcome=\"duplicate\"}", 1.0),
        ("efgs_keys_total{country=\"DE\",outcome=\"left_out\"}", 2.0),
        ("efgs_keys_total{country=\"ES\",outcome=\"stored\"}", 0.0),
        ("efgs_downloads_total{country=\"IT\",kind=\"batch\"}", 1.0),
        ("efgs_certificates{state=\"not_trusted\"}", 0.0),
        ("efgs_certificates{state=\"revoked\"}", 0.0),
        ("efgs_database_may_lose_commits", 0.0),
        ("efgs_delivery_delay_seconds_bucket{le=\"2\"}", 2.0),
        ("efgs_delivery_delay_seconds_count", 2.0),
        ("efgs_commit_batches_bucket{le=\"1\"}", 2.0),
        (
            "efgs_newest_download_batch_timestamp_seconds",
            1_622_548_800.0,
        ),
    ] {
        assert_eq!(value(text, sample), Some(expected), "{sample}\n{text}");
    }
    for positive in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
        "efgs_download_bytes_total{country=\"IT\",kind=\"batch\"}",
        "efgs_admission_in_flight_batches_max",
        "efgs_admission_in_flight_bytes_max",
        "efgs_bundle_cache_bytes_max",
        "efgs_audit_cache_bytes_max",
        "efgs_connections_max",
        "efgs_callback_deliveries_in_flight_max",
        "efgs_certificates{state=\"valid\"}",
        "efgs_certificate_not_after_timestamp_seconds{kind=\"gateway\"}",
        "efgs_certificate_not_after_timestamp_seconds{kind=\"signing\",country=\"DE\"}",
    ] {
        let found = value(text, positive);
        assert!(
            found.is_some_and(|found| found > 0.0),
            "{positive}: {found:?}\n{text}"
        );
    }
}

/// Asks until a metric has a value; returns all metrics of then.
async fn await_value(operations: &mut Raw, name: &str, expected: f64) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let all = metrics(operations).await;
        if value(&all, name) == Some(expected) {
            return all;
        }
        assert!(Instant::now() < deadline, "{name} is not {expected}: {all}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn counts_each_stage_once_per_upload_and_each_refusal_from_the_start() {
    let gateway = Gateway::start_with(|settings, _| settings.quota.keys_per_day = 8).await;
    let mut operations = gateway.operations().await;
    let before = metrics(&mut operations).await;
    for counter in [
        "efgs_panics_total",
        "efgs_keys_stored_total",
        "efgs_admission_refused_total{bound=\"cold_reads\"}",
        "efgs_refusals_total{code=\"database_unavailable\"}",
        "efgs_callback_attempts_total{outcome=\"failed\"}",
    ] {
        assert_eq!(value(&before, counter), Some(0.0), "{counter}\n{before}");
    }
    let mut raw = gateway.proxy().await;
    for index in 0..2 {
        let upload = signed_upload("DE", index * 3..index * 3 + 3);
        let head = upload.head("DE", &format!("t-{index}"));
        assert_eq!(raw.ask(&head, &upload.body).await.status(), 201);
    }
    let mut broken = signed_upload("DE", 6..9);
    broken.body = b"{\"keys\":[".to_vec();
    let head = broken.head("DE", "t-2").replace("protobuf", "json");
    assert_eq!(raw.ask(&head, &broken.body).await.status(), 400);
    let after = metrics(&mut operations).await;
    assert_eq!(stage_count(&after, "decode"), Some(3.0), "{after}");
    for stage in ["validate", "verify", "dedup", "seal", "persist"] {
        assert_eq!(stage_count(&after, stage), Some(2.0), "{stage}\n{after}");
    }
    assert_eq!(value(&after, "efgs_keys_stored_total"), Some(6.0));
    let beyond_quota = signed_upload("DE", 9..12);
    let head = beyond_quota.head("DE", "t-4");
    assert_eq!(raw.ask(&head, &beyond_quota.body).await.status(), 429);
    let after = metrics(&mut operations).await;
    for (stage, count) in [("dedup", 3.0), ("seal", 2.0)] {
        let counted = stage_count(&after, stage);
        assert_eq!(
            counted,
            Some(count),
            "an upload is refused before it is sealed: {stage}"
        );
    }
    let again = signed_upload("DE", 0..3);
    let head = again.head("DE", "t-0");
    assert_eq!(raw.ask(&head, &again.body).await.status(), 201);
    // The first of these is stored.
    let overlapping = signed_upload("DE", 5..8);
    let head = overlapping.head("DE", "t-3");
    assert_eq!(raw.ask(&head, &overlapping.body).await.status(), 207);
    // Nothing waits before there is any batch, either.
    let deadline = Instant::now() + Duration::from_secs(30);
    while gateway.engine.status().newest_batch.is_none() {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    await_value(&mut operations, "efgs_uploads_waiting", 0.0).await;
    let newest = gateway.engine.status().newest_batch.unwrap();
    let header = format!("batchTag: {newest}\r\n");
    let download = get(&format!("/diagnosiskeys/download/{TODAY}"), "IT", &header);
    assert_eq!(raw.get(&download).await.status(), 200);
    // Of all batches, as of the last look at the catalog.
    let behind = |country: &str| format!("efgs_download_batches_behind{{country=\"{country}\"}}");
    await_value(&mut operations, &behind("ES"), newest.number.into()).await;
    // Seen when the statistics are written, within seconds.
    let after = await_value(&mut operations, &behind("IT"), 0.0).await;
    shows_participants_and_state(&after);
    assert_eq!(promtool_check(&after), "", "{after}");
    for bound in OverloadBound::ALL {
        assert_eq!(Overload::at(bound), Overload::of(bound));
    }
    let after = metrics(&mut operations).await;
    for bound in OverloadBound::ALL {
        let counter = format!("efgs_admission_refused_total{{bound=\"{}\"}}", bound.name());
        let refused = if bound == OverloadBound::KeysPerDay {
            2.0
        } else {
            1.0
        };
        assert_eq!(value(&after, &counter), Some(refused), "{counter}");
    }
    for line in after.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        let help = format!("# HELP {name} ");
        assert!(after.contains(&help), "{name} says nothing of itself");
    }
}
