//! Phases, streams, arrivals.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::hostile::Kind;

/// A part of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long requests become due; without it, a phase ends with its keys.
    pub seconds: Option<f64>,
    /// Whether everything is made and signed before the clock starts.
    pub ahead: bool,
    /// Whether the gateway is restarted at the end, and its start time measured. Only with a
    /// private gateway.
    pub restart: bool,
    /// The concurrent streams.
    pub streams: Vec<Stream>,
}

/// One kind of load.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Its name, unique in its phase.
    pub name: String,
    /// What it does.
    pub does: Operation,
    /// When.
    pub arrivals: Arrivals,
    /// Number of participants, after `skip`.
    pub participants: Option<usize>,
    /// How many of the most populous participants do not take part in this stream.
    pub skip: usize,
    /// Connections per participant, each with one request in flight.
    pub connections: usize,
    /// Bytes per second of a throttled connection; 0 means unlimited.
    pub bytes_per_second: u32,
    /// How long a request is retried after 429, 503 and broken connections, in seconds.
    pub retry_seconds: f64,
    /// Statuses that are accepted in addition to success.
    pub expect: BTreeSet<u16>,
    /// Whether a missing response is accepted, too: a gateway may close connections that are too
    /// slow.
    pub expect_broken: bool,
}

/// What a stream does.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Uploads fresh keys.
    Upload {
        /// Keys per upload.
        upload_keys: u32,
        /// Keys of the whole stream, if it is not limited by time.
        keys: Option<u64>,
        /// Share of the uploads that repeat keys of earlier phases: 207 is expected.
        duplicates: f64,
    },
    /// Downloads all batches in order, repeatedly.
    Download,
    /// Downloads new batches until there are no more, as national backends do.
    Follow,
    /// Sends hostile requests and expects each to be refused.
    Hostile(Vec<Kind>),
}

/// When requests become due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// A Poisson process: exponentially distributed gaps.
    Poisson(Rate),
    /// At equal intervals.
    Fixed(Rate),
    /// Whenever a connection is free (closed loop): a slow response delays the next request, so
    /// this measures maximum rates, not latencies.
    Closed,
}

/// How many requests become due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Requests per second of all participants together, on average.
    pub per_second: f64,
    /// Their bursts.
    pub burst: Option<Burst>,
}

/// Bursts: `share` of each period's arrivals fall into its first `lasts_seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// Length of a period.
    pub every_seconds: f64,
    /// Length of the burst at its beginning.
    pub lasts_seconds: f64,
    /// Share of the period's arrivals that fall into the burst, 0 to 1.
    pub share: f64,
}
