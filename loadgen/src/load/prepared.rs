//! Sends prepared uploads from all participants concurrently: a phase with one stream.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::error::LoadError;
use super::experiment::Experiment;
use super::making::{Ready, Stock, senders};
use super::options::LoadOptions;
use super::participants::Participants;
use super::tally::UnexpectedResponses;
use super::watch::Watch;
use crate::client::{Caller, Target};
use crate::record::RecordWriter;
use crate::results::{Figures, Percentiles, PhaseSummary, Summary};
use crate::scenario::{Arrivals, Operation, Phase, Stream};
use crate::workload::PreparedUpload;

/// Options for sending them.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The gateways; connections are spread over them.
    pub targets: Vec<Target>,
    /// Connections per participant, each with one request in flight.
    pub connections: usize,
    /// Timeout of a request.
    pub timeout: Duration,
    /// How long an upload is retried after 429, 503 and broken connections.
    pub retry_for: Duration,
}

/// The answers to all uploads.
#[derive(Debug)]
pub struct RunReport {
    /// How many participants uploaded.
    pub participants: usize,
    /// Uploads answered with 201.
    pub uploads_stored: u64,
    /// Their keys.
    pub keys_stored: u64,
    /// Uploads with another outcome.
    pub uploads_failed: u64,
    /// From the first request to the last 201.
    pub phase: Duration,
    /// Responses by status; `None` counts requests without a response.
    pub statuses: BTreeMap<Option<u16>, u64>,
    /// Microseconds from request to 201.
    pub latency_micros: Percentiles,
    /// Final responses other than 201, with an example of each.
    pub unexpected: UnexpectedResponses,
    /// The same as a summary, without objectives.
    pub whole: Summary,
}

/// Sends every upload as its participant until each has a final response or `retry_for` has passed.
/// Each uploader must be among the callers.
///
/// # Errors
/// When a participant cannot connect at the start, or the record cannot be written.
pub async fn send_prepared(
    callers: &[Arc<Caller>],
    uploads: Vec<PreparedUpload>,
    options: &RunOptions,
    record: Option<RecordWriter>,
) -> Result<RunReport, LoadError> {
    let upload_count = uploads.len() as u64;
    let phase = prepared_phase(&uploads, options);
    let participants = Participants::of(callers);
    let mut experiment = Experiment::new(participants, load_options(options))?.with_record(record);
    let stock = stock(&experiment, uploads);
    let sender_count = senders(&stock).len();
    let summary = experiment.run(&phase, vec![Some(stock)]).await?;
    let unexpected = experiment.unexpected_responses();
    let whole = experiment.finish(None, &[])?;
    Ok(RunReport {
        whole,
        ..RunReport::new(sender_count, upload_count, &summary, unexpected)
    })
}

fn stock(experiment: &Experiment, uploads: Vec<PreparedUpload>) -> Stock {
    let by_country: BTreeMap<_, _> = experiment
        .shared
        .participants
        .callers
        .iter()
        .enumerate()
        .map(|(index, caller)| (caller.country, index))
        .collect();
    let ready = |upload: PreparedUpload| {
        Some(Ready {
            participant: *by_country.get(&upload.spec.country)?,
            intended: None,
            upload,
            is_repeat: false,
            _memory: None,
        })
    };
    let (_, nothing_more) = mpsc::channel(1);
    (
        uploads.into_iter().filter_map(ready).collect(),
        nothing_more,
    )
}

/// The phase of [`send_prepared`]: all uploads over connections that are kept busy.
pub fn prepared_phase(uploads: &[PreparedUpload], options: &RunOptions) -> Phase {
    let keys = uploads
        .iter()
        .map(|upload| u64::from(upload.spec.key_count));
    let largest = uploads.iter().map(|upload| upload.spec.key_count).max();
    let stream = Stream {
        name: "uploads".to_owned(),
        does: Operation::Upload {
            upload_keys: largest.unwrap_or(1),
            keys: Some(keys.sum()),
            duplicates: 0.0,
        },
        arrivals: Arrivals::Closed,
        participants: None,
        skip: 0,
        connections: options.connections,
        bytes_per_second: 0,
        retry_seconds: options.retry_for.as_secs_f64(),
        expect: [].into(),
        expect_broken: false,
    };
    Phase {
        name: "run".to_owned(),
        seconds: None,
        ahead: false,
        restart: false,
        streams: vec![stream],
    }
}

fn load_options(options: &RunOptions) -> LoadOptions {
    LoadOptions {
        targets: options.targets.clone(),
        timeout: options.timeout,
        seed: 0,
        memory_bytes_max: 0,
        watch: Watch::default(),
        results: None,
        record: None,
        name: String::new(),
        text: String::new(),
    }
}

impl RunReport {
    fn new(
        participants: usize,
        upload_count: u64,
        summary: &PhaseSummary,
        unexpected: UnexpectedResponses,
    ) -> Self {
        let Figures {
            seconds,
            uploads,
            upload_keys,
            ref refused,
            failed,
            upload,
            ..
        } = summary.all;
        let refused = refused
            .iter()
            .map(|(status, count)| (Some(*status), *count));
        let counted = refused.chain([(Some(201), uploads), (None, failed)]);
        Self {
            participants,
            uploads_stored: uploads,
            keys_stored: upload_keys,
            uploads_failed: upload_count - uploads,
            phase: Duration::from_secs_f64(seconds),
            statuses: counted.filter(|(_, count)| *count > 0).collect(),
            latency_micros: upload.map(|latency| latency.service).unwrap_or_default(),
            unexpected,
            whole: Summary::default(),
        }
    }

    /// Keys per second of the upload phase.
    pub fn keys_per_second(&self) -> f64 {
        rate(self.keys_stored, self.phase)
    }

    /// Uploads per second of the upload phase.
    pub fn uploads_per_second(&self) -> f64 {
        rate(self.uploads_stored, self.phase)
    }

    /// Median of the latency, in milliseconds.
    pub fn p50_millis(&self) -> f64 {
        millis(self.latency_micros.p50)
    }

    /// 99th percentile of the latency, in milliseconds.
    pub fn p99_millis(&self) -> f64 {
        millis(self.latency_micros.p99)
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

/// The rates, the latencies and the statuses, one line each.
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
        let Percentiles {
            p50, p90, p99, max, ..
        } = self.latency_micros;
        let [p50, p90, p99, max] = [p50, p90, p99, max].map(millis);
        writeln!(
            f,
            "latency    p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms, max {max:.1} ms"
        )?;
        let statuses: Vec<_> = self.statuses.iter().map(show_status).collect();
        write!(f, "answers    {}", statuses.join(", "))?;
        for (what, answers) in &self.unexpected {
            write!(
                f,
                "\n           {} x {what}: {}",
                answers.count, answers.example
            )?;
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
