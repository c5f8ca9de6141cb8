//! Requests through listeners, connections and authentication, over real sockets.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod authentication;
mod lifecycle;
mod proxies;
mod responses;
mod timeouts;
mod uploads;

use std::time::{Duration, Instant};

use support::TODAY;

const PROTOBUF: &str = "Accept: application/protobuf; version=1.0\r\n";
const CAPABILITIES: &str = "OPTIONS /diagnosiskeys HTTP/1.1\r\nHost: gateway\r\n\r\n";

fn download_path() -> String {
    format!("/diagnosiskeys/download/{TODAY}")
}

/// Repeats a request until the response has this status; fails after 30 seconds.
async fn await_status(raw: &mut support::Raw, request: &str, status: u16) -> support::RawAnswer {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = raw.get(request).await;
        if answer.status() == status {
            return answer;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
        tokio::task::yield_now().await;
    }
}
