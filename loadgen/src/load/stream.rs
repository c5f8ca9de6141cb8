//! One stream of a phase while it runs: its queues, its connections, its tally.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::domain::Day;
use engine::locks::LockIgnoringPoison as _;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::cursor::Cursor;
use super::making::{Original, Ready};
use super::participants::Participants;
use super::queue::RequestQueue;
use super::tally::{StreamTally, UnexpectedResponses};
use crate::client::{Caller, Connection, Target};
use crate::record::Outcome;
use crate::scenario::{Arrivals, Stream};
use crate::schedule::Timetable;
use crate::workload::PreparedUpload;

/// Capacity for requests without a body; further requests count as due and are never sent.
const WAITING_MAX: usize = 10_000;
/// Originals per participant that are kept for repeating.
const ORIGINALS_MAX: usize = 1000;

/// State that all phases of a run share.
pub(super) struct Shared {
    pub(super) participants: Arc<Participants>,
    pub(super) targets: Arc<[Target]>,
    pub(super) timeout: Duration,
    pub(super) day: Day,
    /// By participant.
    pub(super) stored: Vec<Stored>,
    pub(super) cursors: Vec<tokio::sync::Mutex<Cursor>>,
    pub(super) unexpected: Mutex<UnexpectedResponses>,
}

/// What a participant has stored.
#[derive(Default)]
pub(super) struct Stored {
    pub(super) keys: AtomicU64,
    pub(super) originals: Mutex<Vec<Original>>,
}

impl Shared {
    pub(super) fn stored_keys(&self) -> u64 {
        let keys = self
            .stored
            .iter()
            .map(|one| one.keys.load(Ordering::Relaxed));
        keys.sum()
    }

    pub(super) fn note_stored(&self, participant: usize, upload: &PreparedUpload) {
        let stored = &self.stored[participant];
        let keys = u64::from(upload.spec.key_count);
        stored.keys.fetch_add(keys, Ordering::Relaxed);
        let mut originals = stored.originals.lock_ignoring_poison();
        if originals.len() < ORIGINALS_MAX {
            originals.push(Original {
                index: upload.spec.index,
                key_count: upload.spec.key_count,
            });
        }
    }

    /// Keys that the others have stored: what a participant must receive.
    pub(super) fn keys_due_to(&self, participant: usize) -> u64 {
        let own = self.stored[participant].keys.load(Ordering::Relaxed);
        self.stored_keys() - own
    }
}

/// A request that needs no preparation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) intended: Instant,
    /// Its number in the stream.
    pub(super) number: usize,
}

/// A stream while it runs.
pub(super) struct RunningStream {
    pub(super) shared: Arc<Shared>,
    pub(super) stream: Stream,
    /// Participants, as indices into the participants; queues have the same order.
    pub(super) members: Vec<usize>,
    pub(super) uploads: Vec<RequestQueue<Ready>>,
    pub(super) requests: Vec<RequestQueue<Due>>,
    pub(super) tally: StreamTally,
    pub(super) stop: watch::Receiver<bool>,
    /// Where requests and responses are recorded; `None` if they are not.
    pub(super) record: Option<mpsc::Sender<(PreparedUpload, Outcome)>>,
    /// First upload number of this stream.
    pub(super) first_index: u32,
}

impl RunningStream {
    pub(super) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until the phase stops.
    pub(super) async fn stopping(&self) {
        // The sender lives while the phase does: once it is dropped, the phase is over.
        self.stop.clone().wait_for(|stop| *stop).await.ok();
    }

    pub(super) fn clear(&self) {
        self.uploads.iter().for_each(RequestQueue::clear);
        self.requests.iter().for_each(RequestQueue::clear);
    }

    /// A new connection of that participant; connections are spread over the gateways.
    pub(super) fn connection(&self, participant: usize, number: usize) -> Connection {
        self.connection_as(&self.shared.participants.callers[participant], number)
    }

    pub(super) fn connection_as(&self, caller: &Arc<Caller>, number: usize) -> Connection {
        let targets = Arc::clone(&self.shared.targets);
        Connection::new(Arc::clone(caller), targets, number, self.shared.timeout)
            .throttled(NonZeroU32::new(self.stream.bytes_per_second))
    }

    /// Whether an unsuccessful response was expected.
    pub(super) fn expects(&self, status: Option<u16>) -> bool {
        match status {
            Some(status) => self.stream.expect.contains(&status),
            None => self.stream.expect_broken,
        }
    }

    /// Counts an unsuccessful response.
    pub(super) fn refused(&self, status: Option<u16>) {
        match status {
            Some(status) => self.tally.refused(status),
            None => self.tally.failed(),
        }
    }

    pub(super) fn unexpected(&self, what: &str, example: &str) {
        self.tally
            .unexpected(&self.shared.unexpected, what, example);
    }

    /// Waits until a request is due; `false` if the phase stops before. A timetable ends with its phase,
    /// so that its last requests may become due in the moment in which the phase stops: they count.
    async fn waited_until(&self, due: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.stopping() => Instant::now() >= due,
            () = sleep_until(due.into()) => true,
        }
    }

    /// Enqueues requests by the timetable, until it ends or the phase stops.
    pub(super) async fn dispatch(&self, timetable: Timetable, begun: Instant) {
        for (number, arrival) in timetable.enumerate() {
            let intended = begun + arrival.at;
            if !self.waited_until(intended).await {
                break;
            }
            let queue = &self.requests[arrival.participant];
            if queue.len() < WAITING_MAX {
                queue.push(Due { intended, number });
            }
        }
        self.requests.iter().for_each(RequestQueue::close);
    }

    /// Enqueues uploads when they are due, or at once without a timetable.
    pub(super) async fn dispatch_uploads(
        &self,
        ahead: Vec<Ready>,
        mut more: mpsc::Receiver<Ready>,
        begun: Instant,
    ) {
        let mut ahead = ahead.into_iter();
        let closed = self.stream.arrivals == Arrivals::Closed;
        loop {
            let ready = match ahead.next() {
                Some(ready) => ready,
                // Uploads that are made and due are sent, even if the phase has just ended.
                None => tokio::select! {
                    biased;
                    () = self.stopping(), if closed => break,
                    ready = more.recv() => match ready {
                        Some(ready) => ready,
                        None => break,
                    },
                    () = self.stopping() => break,
                },
            };
            match ready.intended {
                Some(at) if !self.waited_until(begun + at).await => break,
                None if closed && self.is_stopping() => break,
                _ => {}
            }
            let member = self
                .members
                .iter()
                .position(|&member| member == ready.participant);
            self.uploads[member.unwrap_or(0)].push(ready);
        }
        self.uploads.iter().for_each(RequestQueue::close);
    }
}
