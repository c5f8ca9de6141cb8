//! Downloads batches over one connection: all in order, repeatedly, or only new ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderName, HeaderValue, Method};
use tokio::time::sleep;

use super::cursor::Cursor;
use super::deliver::{RETRY_AFTER_DEFAULT, first_line};
use super::stream::RunningStream;
use super::tally::RequestTimes;
use crate::client::{Answer, Connection};
use crate::protocol;
use crate::scenario::Arrivals;

/// Poll interval for the next batch.
const POLL: Duration = Duration::from_millis(100);
/// How long a follower waits for stored keys to be delivered.
const NEWS_WITHIN: Duration = Duration::from_secs(30);

/// The result of one request.
enum Fetched {
    Batch,
    NothingNew,
    Refusal(Option<Duration>),
}

/// Downloads all batches in order, then starts again with the first.
pub(super) async fn work(
    running: Arc<RunningStream>,
    member: usize,
    mut connection: Connection,
    closed: bool,
) {
    let mut cursor = Cursor::default();
    loop {
        let intended = match closed {
            true if running.is_stopping() => return,
            true => None,
            false => match running.requests[member].pop().await {
                Some(due) => Some(due.intended),
                None => return,
            },
        };
        running.tally.sending();
        let moment = RequestTimes::now(intended);
        let fetched = ask(&running, &mut connection, &mut cursor, moment).await;
        if cursor.next.is_none() {
            cursor = Cursor::default();
        }
        if let (true, Fetched::Refusal(wait)) = (closed, fetched) {
            pause(&running, wait.unwrap_or(POLL)).await;
        }
    }
}

/// Polls for new batches by the timetable; without one, until the phase stops or until everything
/// that is stored has been received.
pub(super) async fn follow(
    running: Arc<RunningStream>,
    member: usize,
    mut connection: Connection,
    until_complete: bool,
) {
    let participant = running.members[member];
    let closed = running.stream.arrivals == Arrivals::Closed;
    let mut news = Instant::now();
    loop {
        let intended = match closed {
            true if running.is_stopping() => return,
            true => None,
            false => match running.requests[member].pop().await {
                Some(due) => Some(due.intended),
                None => return,
            },
        };
        running.tally.sending();
        let mut cursor = running.shared.cursors[participant].lock().await;
        let before = cursor.keys;
        let wait = catch_up(&running, &mut connection, &mut cursor, intended).await;
        let keys = cursor.keys;
        drop(cursor);
        if keys > before {
            news = Instant::now();
        }
        if until_complete && keys >= running.shared.keys_due_to(participant) {
            return;
        }
        if until_complete && news.elapsed() > NEWS_WITHIN {
            running.unexpected("keys that are stored did not come", "");
            return;
        }
        if closed {
            pause(&running, wait.unwrap_or(POLL)).await;
        }
    }
}

/// Downloads until there is nothing new or a request is refused; returns how long to wait then.
async fn catch_up(
    running: &RunningStream,
    connection: &mut Connection,
    cursor: &mut Cursor,
    intended: Option<Instant>,
) -> Option<Duration> {
    let mut moment = RequestTimes::now(intended);
    loop {
        match ask(running, connection, cursor, moment).await {
            Fetched::Batch if cursor.next.is_some() => {}
            Fetched::Batch | Fetched::NothingNew => return None,
            Fetched::Refusal(wait) => return wait,
        }
        moment = RequestTimes::now(None);
    }
}

/// One request: the next batch, or the last one again while none is announced, to see whether one
/// has been cut.
async fn ask(
    running: &RunningStream,
    connection: &mut Connection,
    cursor: &mut Cursor,
    moment: RequestTimes,
) -> Fetched {
    let is_new = cursor.last.is_none() || cursor.next.is_some();
    let asked = cursor.next.as_ref().or(cursor.last.as_ref());
    let path = format!("/diagnosiskeys/download/{}", running.shared.day);
    let answer = connection
        .send(Method::GET, &path, &headers(asked), Bytes::new())
        .await;
    let answer = match answer {
        Ok(answer) if answer.status == 200 => answer,
        Ok(answer) => return refusal(running, cursor, &answer),
        Err(error) => {
            running.refused(None);
            if !running.expects(None) {
                running.unexpected("download not answered", &engine::chain(&error));
            }
            return Fetched::Refusal(None);
        }
    };
    running.tally.moved(0, answer.body.len() as u64);
    let announced = answer.header("nextbatchtag").unwrap_or_default();
    cursor.next = Some(announced.to_owned()).filter(|tag| tag != "null" && !tag.is_empty());
    if !is_new {
        return if cursor.next.is_some() {
            Fetched::Batch
        } else {
            Fetched::NothingNew
        };
    }
    let keys = count_keys(&answer.body);
    running.tally.delivered(moment, keys);
    cursor.keys += keys;
    cursor.last = answer.header("batchtag").map(str::to_owned);
    Fetched::Batch
}

fn refusal(running: &RunningStream, cursor: &Cursor, answer: &Answer) -> Fetched {
    let no_batch_yet = answer.status == 404 && cursor.last.is_none();
    let passing = matches!(answer.status, 429 | 503);
    let wait = passing.then(|| answer.retry_after().unwrap_or(RETRY_AFTER_DEFAULT));
    running.refused(Some(answer.status));
    let retried = passing && running.stream.retry_seconds > 0.0;
    if !no_batch_yet && !retried && !running.expects(Some(answer.status)) {
        let what = format!("download answered {}", answer.status);
        running.unexpected(&what, &first_line(&answer.body));
    }
    Fetched::Refusal(wait)
}

async fn pause(running: &RunningStream, wait: Duration) {
    tokio::select! {
        () = running.stopping() => {}
        () = sleep(wait) => {}
    }
}

fn headers(tag: Option<&String>) -> Vec<(HeaderName, HeaderValue)> {
    let accept = HeaderValue::from_static("application/protobuf; version=1.0");
    let tag = tag.and_then(|tag| HeaderValue::from_str(tag).ok());
    let tag = tag.map(|tag| (HeaderName::from_static("batchtag"), tag));
    [(ACCEPT, accept)].into_iter().chain(tag).collect()
}

/// Counts keys without decoding them: `loadgen verify` checks their content.
fn count_keys(body: &[u8]) -> u64 {
    let messages = protocol::messages(body).map_while(Result::ok);
    messages.fold(0, |count, _| count + 1)
}
