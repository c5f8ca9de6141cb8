//! `loadgen run` as an operator types it: constant rates, objectives, exit statuses, summaries.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{Key, Pki, pki};
use crate::verify_command::gateway;

const CREATED: &str = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
const BUSY: &str =
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n";

fn two() -> Pki {
    pki(&[("DE", Key::P256), ("FR", Key::P256)])
}

async fn run(pki: &Path, target: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command
        .args(["run", "--profile", "smoke", "--pki", "."])
        .args(["--target", target])
        .args(arguments)
        .current_dir(pki);
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    running.await.unwrap()
}

/// The exit status and the last line.
fn verdict(output: &Output) -> (i32, String) {
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    (output.status.code().unwrap(), format!("{last}{errors}"))
}

fn json(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("s.json")).unwrap()).unwrap()
}

const RATE: [&str; 6] = [
    "--rate",
    "20",
    "--duration",
    "1s",
    "--summary-json",
    "s.json",
];

#[tokio::test(flavor = "multi_thread")]
async fn uploads_at_a_constant_rate_and_says_that_objectives_are_met() {
    let pki = two();
    let target = gateway(CREATED).await;
    let objectives = [
        "--objective",
        "upload_max=10min,errors=0",
        "--objective",
        "key_rate=1",
    ];
    let arguments = [&RATE[..], &objectives[..]].concat();
    let output = run(pki.folder.path(), &target, &arguments).await;
    let (status, said) = verdict(&output);
    assert_eq!(status, 0, "{said}");
    assert!(said.starts_with("Met: upload max "), "{said}");
    let shown = json(pki.folder.path());
    assert_eq!(shown["total"]["requests_due"], 20);
    assert_eq!(shown["total"]["uploads_stored"], 20);
    assert_eq!(shown["phases"][0]["offered_uploads_per_second"], 20.0);
    assert_eq!(
        (&shown["met"], &shown["version"]),
        (&true.into(), &1.into())
    );
    let names: Vec<_> = shown["objectives"].as_array().unwrap().iter().collect();
    assert_eq!(names[1]["objective"], "errors=0");
    assert!(
        names.iter().all(|outcome| outcome["ok"] == true),
        "{names:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_a_missed_objective_from_a_refusal_and_from_a_failure_to_run() {
    let pki = two();
    let busy = gateway(BUSY).await;
    // Refused, and no objective says how much of that is allowed.
    let (status, said) = verdict(&run(pki.folder.path(), &busy, &RATE).await);
    assert_eq!(status, 1, "{said}");
    let errors = [&RATE[..], &["--objective", "errors=50%"]].concat();
    let (status, said) = verdict(&run(pki.folder.path(), &busy, &errors).await);
    assert_eq!(status, 99, "{said}");
    assert_eq!(
        said,
        "NOT met: errors 100 %, 100 % above the limit of 50 %."
    );
    let shown = json(pki.folder.path());
    assert_eq!(
        (&shown["met"], &shown["objectives"][0]["ok"]),
        (&false.into(), &false.into())
    );
    assert_eq!(shown["total"]["refused_by_status"]["503"], 20);
    let tolerated = [&RATE[..], &["--objective", "errors=100%"]].concat();
    let (status, said) = verdict(&run(pki.folder.path(), &busy, &tolerated).await);
    assert_eq!(status, 0, "{said}");
    // Nobody listens there any more.
    let (status, said) = verdict(&run(pki.folder.path(), "http://127.0.0.1:1", &RATE).await);
    assert_eq!(status, 2, "{said}");
    let left = std::fs::read(pki.folder.path().join("s.json")).unwrap();
    assert_eq!(left, b"", "not the summary of the run before");
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_a_profiles_day_against_objectives_as_well() {
    let pki = two();
    let target = gateway(CREATED).await;
    let day = [
        "--keys",
        "30",
        "--objective",
        "key_rate=1G",
        "--summary-json",
        "s.json",
    ];
    let output = run(pki.folder.path(), &target, &day).await;
    let (status, said) = verdict(&output);
    assert_eq!(status, 99, "{said}");
    assert!(said.starts_with("NOT met: keys stored "), "{said}");
    assert_eq!(json(pki.folder.path())["total"]["keys_stored"], 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn says_what_to_do_when_options_do_not_go_together() {
    let pki = two();
    for (arguments, expected) in [
        (&["--duration", "5m"][..], "--duration needs --rate"),
        (&["--rate", "5", "--keys", "9"], "leave one of them out"),
        (
            &["--local", "sqlite"],
            "--results and --local need --rate, or --scenario: one of",
        ),
        (&["--rate", "0"], "write uploads per second, from 0.001"),
        (
            &["--rate", "5", "--duration", "60"],
            "write a number and a unit",
        ),
        (
            &["--objective", "p98=1s"],
            "no objective is called p98; there are upload_p99",
        ),
        (
            &["--objective", "download_p99=1s"],
            "nothing downloads in this run",
        ),
        (
            &["--rate", "5", "--objective", "day/errors=0"],
            "there is no phase day; there are constant-rate",
        ),
        (
            &["--objective", "delay_p99=5s"],
            "give --metrics http://HOST:PORT",
        ),
        (&["--summary-json", "no/s.json"], "cannot write no/s.json"),
    ] {
        let output = run(pki.folder.path(), "http://127.0.0.1:1", arguments).await;
        let (status, said) = verdict(&output);
        assert_eq!(status, 2, "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["run", "--scenario", "steady", "--rate", "5"]);
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(said.contains("write them into its file"), "{said}");
}
