//! Uploads, from all participants at once, with latency measured request by request.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::{Answer, Caller, ClientError, Connection, Target, micros_since};
use crate::record::{Fate, RecordError, RecordWriter};
use crate::workload::PreparedUpload;

/// Waits after a broken connection: the first one, doubled each time, up to the last one.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Wait after "not now" without a word about when.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);
/// Latencies are counted up to an hour, in microseconds.
const MICROS_MAX: u64 = 3_600_000_000;
/// Outcomes on their way to the tally.
const QUEUE_OUTCOMES: usize = 256;

/// How to drive.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The gateways; connections are spread over them.
    pub targets: Vec<Target>,
    /// Connections of each participant, each with one request in flight.
    pub connections: usize,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// How long an upload is tried again after "not now" and broken connections.
    pub retry_for: Duration,
}

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The gateway cannot be reached at all.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The record cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// What came of a run.
#[derive(Debug)]
pub struct RunReport {
    /// How many participants uploaded.
    pub participants: usize,
    /// Uploads answered with 201.
    pub uploads_stored: u64,
    /// Their keys.
    pub keys_stored: u64,
    /// Uploads that ended otherwise.
    pub uploads_failed: u64,
    /// From the first request to the last answer.
    pub phase: Duration,
    /// How often each status was answered; `None` counts requests without an answer.
    pub statuses: BTreeMap<Option<u16>, u64>,
    /// Microseconds from request to answer, of every request that was answered.
    pub latency_micros: Histogram<u64>,
    /// An answer's body for each status that is not 201, as an example.
    pub examples: BTreeMap<u16, String>,
}

/// One request and what came of it.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) status: Option<u16>,
    pub(crate) micros: u64,
    pub(crate) example: Option<String>,
}

/// An upload that is over.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) upload: PreparedUpload,
    pub(crate) fate: Fate,
    pub(crate) attempts: Vec<Attempt>,
}

/// Sends every upload as its participant, on `connections` connections each, until each has been
/// answered or given up. `done` is called with each upload's keys.
///
/// # Errors
/// When a participant cannot connect at the start, or the record cannot be written.
pub async fn drive(
    callers: &[Arc<Caller>],
    uploads: Vec<PreparedUpload>,
    options: &RunOptions,
    mut record: Option<RecordWriter>,
    mut done: impl FnMut(u32),
) -> Result<RunReport, RunError> {
    let lanes = lanes(callers, uploads, options);
    let mut report = RunReport::empty(lanes.len());
    let workers = connect_all(lanes, options).await?;
    let (send, mut outcomes) = mpsc::channel(QUEUE_OUTCOMES);
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for (connection, lane) in workers {
        running.spawn(work(connection, lane, send.clone(), options.retry_for));
    }
    drop(send);
    while let Some(outcome) = outcomes.recv().await {
        report.phase = begun.elapsed();
        done(outcome.upload.spec.key_count);
        if let Some(record) = &mut record {
            record.append(&outcome.upload, outcome.fate)?;
        }
        report.add(outcome);
    }
    if let Some(record) = &mut record {
        record.flush()?;
    }
    Ok(report)
}

/// One participant's uploads, from which its connections take turns.
struct Lane {
    caller: Arc<Caller>,
    uploads: Vec<PreparedUpload>,
    next: AtomicUsize,
}

impl Lane {
    fn take(&self) -> Option<PreparedUpload> {
        self.uploads
            .get(self.next.fetch_add(1, Ordering::Relaxed))
            .cloned()
    }
}

fn lanes(
    callers: &[Arc<Caller>],
    uploads: Vec<PreparedUpload>,
    options: &RunOptions,
) -> Vec<Arc<Lane>> {
    let mut by_country: BTreeMap<_, Vec<PreparedUpload>> = BTreeMap::new();
    for upload in uploads {
        by_country
            .entry(upload.spec.country)
            .or_default()
            .push(upload);
    }
    debug_assert!(options.connections > 0, "a participant needs a connection");
    let lane = |caller: &Arc<Caller>| {
        let uploads = by_country.remove(&caller.country)?;
        let caller = Arc::clone(caller);
        Some(Arc::new(Lane {
            caller,
            uploads,
            next: AtomicUsize::new(0),
        }))
    };
    callers.iter().filter_map(lane).collect()
}

/// Connects before the clock starts: TLS handshakes are no part of the upload phase.
async fn connect_all(
    lanes: Vec<Arc<Lane>>,
    options: &RunOptions,
) -> Result<Vec<(Connection, Arc<Lane>)>, ClientError> {
    let targets: Arc<[Target]> = options.targets.clone().into();
    let mut connecting = JoinSet::new();
    let mut number = 0;
    for lane in lanes {
        for _ in 0..options.connections.min(lane.uploads.len()) {
            let lane = Arc::clone(&lane);
            let caller = Arc::clone(&lane.caller);
            let mut connection =
                Connection::new(caller, Arc::clone(&targets), number, options.timeout);
            connecting
                .spawn(async move { connection.connect().await.map(|()| (connection, lane)) });
            number += 1;
        }
    }
    connecting.join_all().await.into_iter().collect()
}

async fn work(
    mut connection: Connection,
    lane: Arc<Lane>,
    outcomes: mpsc::Sender<Outcome>,
    retry_for: Duration,
) {
    while let Some(upload) = lane.take() {
        let outcome = deliver(&mut connection, upload, retry_for).await;
        if outcomes.send(outcome).await.is_err() {
            return;
        }
    }
}

/// Sends one upload until it has an answer that settles it. The same tag and content again is a
/// replay, which the gateway answers like the first time (decision 3).
pub(crate) async fn deliver(
    connection: &mut Connection,
    upload: PreparedUpload,
    retry_for: Duration,
) -> Outcome {
    let headers = upload_headers(&upload);
    let give_up = Instant::now() + retry_for;
    let mut backoff = BACKOFF_FIRST;
    let mut attempts = Vec::with_capacity(1);
    loop {
        let begun = Instant::now();
        let body = upload.body.clone();
        let answer = connection
            .send(Method::POST, "/diagnosiskeys/upload", &headers, body)
            .await;
        let attempt = Attempt::of(&answer, micros_since(begun));
        let fate = Fate::of(attempt.status);
        attempts.push(attempt);
        let wait = wait_before_retry(&answer, &mut backoff);
        match wait.filter(|wait| Instant::now() + *wait < give_up) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => {
                return Outcome {
                    upload,
                    fate,
                    attempts,
                };
            }
        }
    }
}

fn upload_headers(upload: &PreparedUpload) -> [(HeaderName, HeaderValue); 4] {
    let value =
        |text: &str| HeaderValue::from_str(text).expect("tags and base64 are visible ASCII");
    [
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/protobuf; version=1.0"),
        ),
        (
            ACCEPT,
            HeaderValue::from_static("application/json; version=1.0"),
        ),
        (
            HeaderName::from_static("batchtag"),
            value(upload.spec.tag.as_str()),
        ),
        (
            HeaderName::from_static("batchsignature"),
            value(&upload.batch_signature),
        ),
    ]
}

/// How long to wait before the same upload is sent again; nothing when its answer settles it.
fn wait_before_retry(
    answer: &Result<Answer, ClientError>,
    backoff: &mut Duration,
) -> Option<Duration> {
    match answer {
        Ok(answer) if matches!(answer.status, 429 | 503) => {
            Some(answer.retry_after().unwrap_or(RETRY_AFTER_DEFAULT))
        }
        Ok(answer) if answer.status < 500 => None,
        Ok(_) | Err(_) => {
            let wait = *backoff;
            *backoff = (wait * 2).min(BACKOFF_MAX);
            Some(wait)
        }
    }
}

impl Attempt {
    fn of(answer: &Result<Answer, ClientError>, micros: u64) -> Self {
        match answer {
            Ok(answer) => {
                let example = (answer.status != 201).then(|| first_line(&answer.body));
                Self {
                    status: Some(answer.status),
                    micros,
                    example,
                }
            }
            Err(_) => Self {
                status: None,
                micros,
                example: None,
            },
        }
    }
}

pub(crate) fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.chars().take(200).filter(|c| !c.is_control()).collect()
}

impl RunReport {
    fn empty(participants: usize) -> Self {
        Self {
            participants,
            uploads_stored: 0,
            keys_stored: 0,
            uploads_failed: 0,
            phase: Duration::ZERO,
            statuses: BTreeMap::new(),
            latency_micros: Histogram::new_with_bounds(1, MICROS_MAX, 3)
                .expect("the bounds are in order and three digits are allowed"),
            examples: BTreeMap::new(),
        }
    }

    fn add(&mut self, outcome: Outcome) {
        match outcome.fate {
            Fate::Stored => {
                self.uploads_stored += 1;
                self.keys_stored += u64::from(outcome.upload.spec.key_count);
            }
            Fate::Refused(_) | Fate::Unknown(_) => self.uploads_failed += 1,
        }
        for attempt in outcome.attempts {
            *self.statuses.entry(attempt.status).or_default() += 1;
            if let Some(status) = attempt.status {
                self.latency_micros.saturating_record(attempt.micros);
                if let Some(example) = attempt.example {
                    self.examples.entry(status).or_insert(example);
                }
            }
        }
    }

    /// Keys a second of the upload phase.
    pub fn keys_per_second(&self) -> f64 {
        rate(self.keys_stored, self.phase)
    }

    /// Uploads a second of the upload phase.
    pub fn uploads_per_second(&self) -> f64 {
        rate(self.uploads_stored, self.phase)
    }

    /// A percentile of the latency, in milliseconds.
    pub fn latency_millis(&self, quantile: f64) -> f64 {
        millis(self.latency_micros.value_at_quantile(quantile))
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people to read")]
fn rate(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        count as f64 / time.as_secs_f64()
    }
}

#[allow(clippy::cast_precision_loss, reason = "a time for people to read")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// The rates, the latencies and the statuses, a line each.
impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            uploads_stored,
            keys_stored,
            participants,
            ..
        } = self;
        writeln!(
            f,
            "uploaded   {keys_stored} keys in {uploads_stored} uploads from {participants} participants in {:.3} s",
            self.phase.as_secs_f64()
        )?;
        writeln!(
            f,
            "rate       {:.0} keys/s, {:.1} uploads/s",
            self.keys_per_second(),
            self.uploads_per_second()
        )?;
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|quantile| self.latency_millis(quantile));
        let max = millis(self.latency_micros.max());
        writeln!(
            f,
            "latency    p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms, max {max:.1} ms"
        )?;
        let statuses: Vec<_> = self.statuses.iter().map(show_status).collect();
        write!(f, "answers    {}", statuses.join(", "))?;
        for (status, example) in &self.examples {
            write!(f, "\n           {status}, for example: {example}")?;
        }
        Ok(())
    }
}

fn show_status((status, count): (&Option<u16>, &u64)) -> String {
    match status {
        Some(status) => format!("{count} x {status}"),
        None => format!("{count} without answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Result<Answer, ClientError> {
        Ok(Answer {
            status,
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
        })
    }

    #[test]
    fn retries_what_may_pass_and_nothing_else() {
        let mut backoff = BACKOFF_FIRST;
        for status in [201, 207, 400, 403, 409, 413] {
            assert_eq!(
                wait_before_retry(&answer(status), &mut backoff),
                None,
                "{status}"
            );
        }
        assert_eq!(
            wait_before_retry(&answer(503), &mut backoff),
            Some(RETRY_AFTER_DEFAULT)
        );
        let broken = || Err(ClientError::Timeout(Duration::ZERO));
        let waits: Vec<_> = (0..8)
            .map(|_| wait_before_retry(&broken(), &mut backoff).unwrap())
            .collect();
        assert_eq!(waits[..3], [50, 100, 200].map(Duration::from_millis));
        assert_eq!(waits[7], BACKOFF_MAX);
    }
}
