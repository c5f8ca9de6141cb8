//! Sends prepared uploads over one connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::deliver::{Attempt, SentUpload, deliver};
use super::making::Ready;
use super::stream::RunningStream;
use super::tally::RequestTimes;
use crate::client::Connection;

/// Status for an upload that repeats a key (decision 1).
const DUPLICATE: u16 = 207;

/// Sends the member's queue until it is closed and empty.
pub(super) async fn work(
    running: Arc<RunningStream>,
    member: usize,
    mut connection: Connection,
    begun: Instant,
) {
    while let Some(ready) = running.uploads[member].pop().await {
        send(&running, &mut connection, ready, begun).await;
    }
}

async fn send(running: &RunningStream, connection: &mut Connection, ready: Ready, begun: Instant) {
    let Ready {
        participant,
        intended,
        upload,
        is_repeat,
        _memory,
    } = ready;
    running.tally.sending();
    let moment = RequestTimes::now(intended.map(|at| begun + at));
    let retry_for = Duration::from_secs_f64(running.stream.retry_seconds);
    let bytes = upload.body.len() as u64;
    let SentUpload {
        mut upload,
        outcome,
        attempts,
    } = deliver(connection, upload, retry_for).await;
    running.tally.moved(bytes * attempts.len() as u64, 0);
    upload.body = Bytes::new();
    let Some((last, before)) = attempts.split_last() else {
        return;
    };
    before
        .iter()
        .for_each(|attempt| running.refused(attempt.status));
    if last.status == Some(201) {
        let keys = u64::from(upload.spec.key_count);
        running.tally.stored(moment, keys, last.micros);
        running.shared.note_stored(participant, &upload);
    } else {
        running.refused(last.status);
    }
    check_status(running, last, is_repeat);
    if let Some(record) = running.record.as_ref().filter(|_| !is_repeat) {
        // The channel closes when the record cannot be written, which also ends the run.
        record.send((upload, outcome)).await.ok();
    }
}

fn check_status(running: &RunningStream, last: &Attempt, is_repeat: bool) {
    let wanted = if is_repeat { DUPLICATE } else { 201 };
    if last.status == Some(wanted) || running.expects(last.status) {
        return;
    }
    let what = match (last.status, is_repeat) {
        (Some(status), false) => format!("upload answered {status}"),
        (Some(status), true) => format!("upload with duplicates answered {status}"),
        (None, _) => "upload not answered".to_owned(),
    };
    running.unexpected(&what, last.example.as_deref().unwrap_or_default());
}
