//! `loadgen verify` as an operator types it, where there is nothing to verify.

use std::path::Path;
use std::process::{Command, Output};

use testkit::ports::free_port;
use tokio::io::AsyncWriteExt;

use crate::client::read_request;
use crate::support::{Key, pki};

async fn verify(pki: &Path, target: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command
        .args(["verify", "--date", "2021-06-01", "--wait-seconds", "0"])
        .arg("--pki")
        .arg(pki)
        .args(["--target", target]);
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    running.await.unwrap()
}

#[track_caller]
fn check_refused(output: &Output, said: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(said), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "no verdict");
}

#[tokio::test(flavor = "multi_thread")]
async fn fails_when_no_gateway_listens() {
    let pki = pki(&[("DE", Key::P256), ("FR", Key::P256)]);
    let port = free_port().unwrap();
    let target = format!("https://127.0.0.1:{port}");
    let output = verify(pki.folder.path(), &target).await;
    check_refused(&output, &format!("cannot connect to {target}"));
}

/// A gateway that answers everything alike.
pub(crate) async fn gateway(answer: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                while read_request(&mut stream).await.is_some() {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    target
}

#[tokio::test(flavor = "multi_thread")]
async fn fails_when_nobody_received_anything_and_no_record_is_given() {
    let pki = pki(&[("DE", Key::P256), ("FR", Key::P256)]);
    let target = gateway("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    let output = verify(pki.folder.path(), &target).await;
    let said = "nothing to verify: no participant received a download batch of 2021-06-01";
    check_refused(&output, said);
}

#[tokio::test(flavor = "multi_thread")]
async fn fails_when_the_gateway_stays_overloaded() {
    let pki = pki(&[("DE", Key::P256), ("FR", Key::P256)]);
    let busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    let target = gateway(busy).await;
    let output = verify(pki.folder.path(), &target).await;
    check_refused(&output, "download was answered 503");
}
