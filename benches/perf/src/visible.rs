//! From the answer to an upload until another participant can download its keys.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::deployment::{Deployment, RunningGateway, today};
use crate::http::{Connection, EncodedRequest, Route};
use anyhow::ensure;

use crate::download;

/// Number of tracked uploads.
const FOLLOWED: u32 = 200;
/// Interval between them: not a multiple of the cutter's delay.
const UPLOAD_INTERVAL: Duration = Duration::from_millis(17);
/// Poll interval for the next download batch.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Timeout for the last of them.
const TIMEOUT: Duration = Duration::from_secs(20);
/// First number of uploads with one key, after all others of their participant.
const FIRST_INDEX: u32 = 10_000_000;

/// Key data of a tracked upload, and when it was answered and first downloaded.
type Followed = Mutex<HashMap<[u8; 16], (Option<Instant>, Option<Instant>)>>;

/// Uploads of one key, one after the other, of the first participant; the second downloads whatever
/// is new. Returns the times in between, ascending. `first` is the number of the download batch to
/// begin with, and becomes the one after the last.
///
/// # Errors
/// When a response is unexpected, or a download never comes.
pub(crate) fn delays(
    deployment: &Deployment,
    running: &RunningGateway,
    round: u32,
    first: &mut u32,
) -> anyhow::Result<Vec<Duration>> {
    let followed = Followed::default();
    let sent = AtomicBool::new(false);
    let route = Route::Plain(running.proxy);
    *first = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(deployment, &route, &followed, &sent, *first));
        let written = write(deployment, &route, &followed, round);
        sent.store(true, Ordering::Release);
        let next = reader.join().expect("no panic")?;
        written.map(|()| next)
    })?;
    let each = followed
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let between = |(answered, seen): (Option<Instant>, Option<Instant>)| {
        // The download may be faster than the answer.
        Some(seen?.saturating_duration_since(answered?))
    };
    let mut delays: Vec<_> = each.into_values().filter_map(between).collect();
    ensure!(
        delays.len() == FOLLOWED as usize,
        "uploads were not tracked"
    );
    delays.sort_unstable();
    Ok(delays)
}

fn write(
    deployment: &Deployment,
    route: &Route,
    followed: &Followed,
    round: u32,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(route)?;
    for number in 0..FOLLOWED {
        let upload = deployment.backends[0].upload(FIRST_INDEX + round * FOLLOWED + number, 1);
        let key = *key_data(&upload.body).first().expect("it has one key");
        let lock = || followed.lock().unwrap_or_else(PoisonError::into_inner);
        lock().insert(key, (None, None));
        let response = connection.send(&EncodedRequest::upload(&upload))?;
        let answered = Instant::now();
        ensure!(
            response.status == 201,
            "an upload was answered with: {}",
            response.head
        );
        lock().entry(key).or_default().0 = Some(answered);
        std::thread::sleep(UPLOAD_INTERVAL);
    }
    Ok(())
}

/// Downloads one batch after the other until all are seen; returns the number of the next.
fn read(
    deployment: &Deployment,
    route: &Route,
    followed: &Followed,
    sent: &AtomicBool,
    first: u32,
) -> anyhow::Result<u32> {
    let mut connection = Connection::open(route)?;
    let (mut number, mut last_new, day) = (first, Instant::now(), today().replace('-', ""));
    loop {
        let request = download::request(deployment, Some(&format!("{day}-{number}")));
        let mut body = Vec::new();
        let response = connection.send_with(&request, |bytes| body.extend_from_slice(bytes))?;
        let now = Instant::now();
        let all_sent = sent.load(Ordering::Acquire);
        let mut followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
        if response.status == 200 {
            (number, last_new) = (number + 1, now);
            for key in key_data(&body) {
                if let Some((_, seen)) = followed.get_mut(&key) {
                    seen.get_or_insert(now);
                }
            }
        }
        if all_sent && followed.values().all(|(_, seen)| seen.is_some()) {
            return Ok(number);
        }
        drop(followed);
        if response.status != 200 {
            ensure!(
                response.status == 404,
                "a download was answered with: {}",
                response.head
            );
            ensure!(last_new.elapsed() < TIMEOUT, "an upload was never seen");
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Everything that looks like key data in a protobuf body: field 1, sixteen bytes.
fn key_data(body: &[u8]) -> Vec<[u8; 16]> {
    body.windows(18)
        .filter_map(|window| window.strip_prefix(&[0x0a, 16])?.try_into().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_key_data_of_a_batch() {
        // Two keys, the first with a rolling start behind its data (protobuf by hand).
        let mut batch = vec![0x0a, 20, 0x0a, 16];
        batch.extend([7; 16]);
        batch.extend([0x10, 1, 0x0a, 18, 0x0a, 16]);
        batch.extend([9; 16]);
        assert_eq!(key_data(&batch), [[7; 16], [9; 16]]);
    }
}
