//! Programs whose output nobody reads any more, as after `| head`.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{Key, pki};
use crate::verify_command::gateway;

const CREATED: &str = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";

/// A pipe that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

async fn loadgen(folder: &Path, arguments: &[&str], stderr: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command
        .args(arguments)
        .current_dir(folder)
        .stdout(closed())
        .stderr(stderr);
    let process = command.spawn().unwrap();
    let ended = tokio::task::spawn_blocking(move || process.wait_with_output().unwrap());
    ended.await.unwrap()
}

#[track_caller]
fn check_quiet(output: &Output, arguments: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "", "{arguments:?}");
    assert_eq!(output.status.code(), Some(141), "{arguments:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_every_command_quietly_when_nobody_reads_it() {
    let pki = pki(&[("DE", Key::P256), ("FR", Key::P256)]);
    let folder = pki.folder.path();
    let target = gateway(CREATED).await;
    let scenario = "[[phases]]\nname = \"p\"\n[[phases.streams]]\nname = \"s\"\ndoes = \"upload\"\n\
        arrivals = \"closed\"\nkeys = 10\n";
    std::fs::write(folder.join("s.toml"), scenario).unwrap();
    let on_gateway = ["--pki", ".", "--target", &target];
    for arguments in [
        &["plan"][..],
        &["plan", "--json"],
        &["plan", "--html"],
        &["run", "--profile", "smoke", "--keys", "10"],
        &["run", "--scenario", "s.toml"],
        &["run", "--rate", "10", "--duration", "1s"],
        &["find-limit"],
    ] {
        let needs_gateway = arguments[0] != "plan";
        let more = if needs_gateway { &on_gateway[..] } else { &[] };
        let all: Vec<_> = arguments.iter().chain(more).copied().collect();
        let output = loadgen(folder, &all, Stdio::piped()).await;
        check_quiet(&output, arguments);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_its_exit_status_when_nobody_reads_errors_either() {
    let folder = tempfile::tempdir().unwrap();
    let unknown = ["plan", "--profile", "none"];
    let output = loadgen(folder.path(), &unknown, closed()).await;
    assert_eq!(output.status.code(), Some(2), "no panic");
}
