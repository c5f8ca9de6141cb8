//! `efgs-backend` when nobody reads its output any more, as after `| head`.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

const KEY: &str = r#"{"keyData":"ABEiM0RVZneImaq7zN3u/w==","rollingStartIntervalNumber":2668032,"rollingPeriod":144,"transmissionRiskLevel":4,"visitedCountries":["FR","IT"],"origin":"DE","reportType":"CONFIRMED_TEST","days_since_onset_of_symptoms":3}"#;

/// A pipe that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn canonical(file: &Path, stderr: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_efgs-backend"));
    command.arg("canonical").arg(file).stdout(closed());
    let process = command.stderr(stderr).spawn().unwrap();
    process.wait_with_output().unwrap()
}

#[test]
fn ends_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.jsonl");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    let output = canonical(&file, Stdio::piped());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(141));
}

#[test]
fn keeps_its_exit_status_when_nobody_reads_errors_either() {
    let output = canonical(Path::new("/nowhere/keys.jsonl"), closed());
    assert_eq!(output.status.code(), Some(1), "no panic");
}
