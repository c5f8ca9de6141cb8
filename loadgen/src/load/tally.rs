//! Responses counted by stream, until the next second takes the counts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::locks::LockIgnoringPoison as _;

use crate::results::Counts;
use crate::schedule::{Arrival, Timetable};

/// Maximum number of kinds of unexpected responses that are kept.
const UNEXPECTED_MAX: usize = 64;

/// An unexpected response: its count, and the body of the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnexpectedResponse {
    /// Count.
    pub count: u64,
    /// Body of the first one, shortened.
    pub example: String,
}

/// Unexpected responses by what they are: `flood/others: 500`.
pub type UnexpectedResponses = BTreeMap<String, UnexpectedResponse>;

/// When a request was due, and when it was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestTimes {
    /// By the timetable; `None` without one.
    pub(super) intended: Option<Instant>,
    pub(super) sent: Instant,
}

impl RequestTimes {
    pub(super) fn now(intended: Option<Instant>) -> Self {
        Self {
            intended,
            sent: Instant::now(),
        }
    }

    /// Microseconds until now since the request was due, which includes its wait in the queue
    /// (coordinated omission), and since it was sent.
    fn micros(self) -> (u64, u64) {
        let until_now = |since: Instant| u64::try_from(since.elapsed().as_micros());
        let service = until_now(self.sent).unwrap_or(u64::MAX);
        let intended = self.intended.unwrap_or(self.sent).min(self.sent);
        (until_now(intended).unwrap_or(u64::MAX), service)
    }
}

/// What one stream did in the current second.
pub(super) struct StreamTally {
    pub(super) name: String,
    phase: String,
    counts: Mutex<Counts>,
    last_success: Mutex<Option<Instant>>,
    sent: AtomicU64,
    clock: Mutex<DueClock>,
}

/// Replays the timetable, by the clock alone.
struct DueClock {
    timetable: Option<Timetable>,
    next: Option<Arrival>,
    due: u64,
    told: u64,
}

impl DueClock {
    fn advance(&mut self, now: Duration) {
        while let Some(arrival) = self.next.filter(|arrival| arrival.at <= now) {
            debug_assert!(arrival.at <= now);
            self.due += 1;
            self.next = self.timetable.as_mut().and_then(Iterator::next);
        }
    }
}

impl StreamTally {
    pub(super) fn new(phase: &str, name: &str, mut timetable: Option<Timetable>) -> Self {
        let next = timetable.as_mut().and_then(Iterator::next);
        Self {
            name: name.to_owned(),
            phase: phase.to_owned(),
            counts: Mutex::default(),
            last_success: Mutex::default(),
            sent: AtomicU64::new(0),
            clock: Mutex::new(DueClock {
                timetable,
                next,
                due: 0,
                told: 0,
            }),
        }
    }

    pub(super) fn sending(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stored(&self, moment: RequestTimes, keys: u64, service_micros: u64) {
        let (corrected, _) = moment.micros();
        let corrected = if moment.intended.is_some() {
            corrected
        } else {
            service_micros
        };
        *self.last_success.lock_ignoring_poison() = Some(Instant::now());
        let mut counts = self.counts.lock_ignoring_poison();
        counts.uploads += 1;
        counts.upload_keys += keys;
        let latency = counts.upload_latency.get_or_insert_default();
        latency.record(corrected);
        let latency = counts.upload_service.get_or_insert_default();
        latency.record(service_micros);
    }

    pub(super) fn delivered(&self, moment: RequestTimes, keys: u64) {
        let (corrected, service) = moment.micros();
        *self.last_success.lock_ignoring_poison() = Some(Instant::now());
        let mut counts = self.counts.lock_ignoring_poison();
        counts.downloads += 1;
        counts.download_keys += keys;
        let latency = counts.download_latency.get_or_insert_default();
        latency.record(corrected);
        let latency = counts.download_service.get_or_insert_default();
        latency.record(service);
    }

    /// When the last upload was stored or the last batch delivered.
    pub(super) fn last_success(&self) -> Option<Instant> {
        *self.last_success.lock_ignoring_poison()
    }

    pub(super) fn moved(&self, sent_bytes: u64, received_bytes: u64) {
        let mut counts = self.counts.lock_ignoring_poison();
        counts.bytes_sent += sent_bytes;
        counts.bytes_received += received_bytes;
    }

    pub(super) fn refused(&self, status: u16) {
        *self
            .counts
            .lock_ignoring_poison()
            .refused
            .entry(status)
            .or_default() += 1;
    }

    pub(super) fn failed(&self) {
        self.counts.lock_ignoring_poison().failed += 1;
    }

    /// Counts an unexpected response.
    pub(super) fn unexpected(
        &self,
        unexpected: &Mutex<UnexpectedResponses>,
        what: &str,
        example: &str,
    ) {
        self.counts.lock_ignoring_poison().unexpected += 1;
        let name = format!("{}/{}: {what}", self.phase, self.name);
        let mut unexpected = unexpected.lock_ignoring_poison();
        if unexpected.len() < UNEXPECTED_MAX || unexpected.contains_key(&name) {
            let response = unexpected
                .entry(name)
                .or_insert_with(|| UnexpectedResponse {
                    count: 0,
                    example: example.to_owned(),
                });
            response.count += 1;
        }
    }

    /// Takes the counts since the last call, and the number of requests that are due and not yet
    /// sent.
    pub(super) fn take(&self, now: Duration) -> (Counts, u64) {
        let mut counts = std::mem::take(&mut *self.counts.lock_ignoring_poison());
        let sent = self.sent.load(Ordering::Relaxed);
        let mut clock = self.clock.lock_ignoring_poison();
        clock.advance(now);
        if clock.timetable.is_none() {
            clock.due = sent;
        }
        counts.due = clock.due - clock.told;
        clock.told = clock.due;
        (counts, clock.due.saturating_sub(sent))
    }
}
