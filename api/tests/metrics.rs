//! The metrics at `/metrics`. One test, since a process has one recorder.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use engine::{Overload, OverloadBound};
use support::{Gateway, Raw, signed_upload};

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

#[tokio::test]
async fn counts_each_stage_once_per_upload_and_each_refusal_from_the_start() {
    let gateway = Gateway::start().await;
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
    for bound in OverloadBound::ALL {
        assert_eq!(Overload::at(bound), Overload::of(bound));
    }
    let after = metrics(&mut operations).await;
    for bound in OverloadBound::ALL {
        let counter = format!("efgs_admission_refused_total{{bound=\"{}\"}}", bound.name());
        assert_eq!(value(&after, &counter), Some(1.0), "{counter}");
    }
    for line in after.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        let help = format!("# HELP {name} ");
        assert!(after.contains(&help), "{name} says nothing of itself");
    }
}
