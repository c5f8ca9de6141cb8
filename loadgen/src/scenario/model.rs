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
    /// Whether the gateway is started again at the end, and how long that takes is measured. Only
    /// with a private gateway.
    pub restart: bool,
    /// Side by side.
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
    /// So many of the scenario's participants, after `skip`.
    pub participants: Option<usize>,
    /// The most populous participants that do not take part in this stream.
    pub skip: usize,
    /// Connections of each participant, each with one request in flight.
    pub connections: usize,
    /// Bytes per second of a connection that trickles; 0 for one that does not.
    pub bytes_per_second: u32,
    /// How long a request is tried again after "not now" and broken connections, in seconds.
    pub retry_seconds: f64,
    /// Statuses that are as welcome as success.
    pub expect: BTreeSet<u16>,
    /// Whether no answer at all is as welcome, too: a gateway may close on who is too slow.
    pub expect_broken: bool,
}

/// What a stream does.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Uploads fresh keys.
    Upload {
        /// Keys in an upload.
        upload_keys: u32,
        /// Keys of the whole stream, when it is not bounded by time.
        keys: Option<u64>,
        /// Share of the uploads that repeat keys of earlier phases: 207 is expected.
        duplicates: f64,
    },
    /// Asks for one batch after the other, from the first again after the last.
    Download,
    /// Asks for what is new until there is nothing more, as national backends do.
    Follow,
    /// Sends what no participant should, and expects the refusal.
    Hostile(Vec<Kind>),
}

/// When requests become due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// At random, independently of each other: exponential gaps.
    Poisson(Rate),
    /// At equal distances.
    Fixed(Rate),
    /// Whenever a connection is free. There is no timetable, so that a slow answer delays the next
    /// request: for top rates, not for latencies.
    Closed,
}

/// How many requests become due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Requests per second of all participants together, on average.
    pub per_second: f64,
    /// How they bunch.
    pub burst: Option<Burst>,
}

/// Arrivals that bunch: `share` of each period's fall into its first `lasts_seconds`.
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
