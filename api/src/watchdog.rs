//! The connection watchdog: notices peers that stall and connections that have gone idle.
//!
//! hyper's header timeout does not distinguish an idle keep-alive connection from one in the middle
//! of a header, and hyper has no write timeout. The watchdog does: a peer from which bytes are due
//! and that neither sends nor accepts any is disconnected within ten seconds; a connection with no
//! request may stay open for 75. The long keep-alive is for participants only: connections are
//! few and anybody can open one, so an unauthenticated connection is also closed within ten
//! seconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use engine::locks::LockIgnoringPoison;

use crate::stream_task::StreamTask;
use crate::timeouts::Timeouts;

/// What the watchdog finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Nothing is overdue.
    Ok,
    /// The keep-alive time has expired: close gracefully.
    Idle,
    /// The peer has not sent or accepted the bytes that are due: disconnect.
    Stalled,
}

/// The state of one connection, written by its IO and its service, read by its own task.
#[derive(Debug)]
pub(crate) struct Watchdog(Mutex<State>);

#[derive(Debug)]
struct State {
    http2: bool,
    /// Requests whose response is not written yet, or whose refused body is not drained yet.
    requests: u32,
    /// Since when there has been no request; initially, since the connection was accepted.
    idle_since: Instant,
    /// Since when there has been a request; meaningless while there is none.
    busy_since: Instant,
    /// Whether there has been any request.
    served: bool,
    /// Whether the long keep-alive applies: a request was authenticated, or none needs to be.
    keep_alive: bool,
    /// When the first bytes of an incomplete request header arrived.
    head_since: Option<Instant>,
    /// Since when writes have been blocked.
    blocked_since: Option<Instant>,
    /// How long writes have been blocked, and how many bytes were written, during the current
    /// responses.
    blocked: Duration,
    written_bytes: u64,
    /// Response bodies that are not completely sent.
    bodies: Vec<SentBody>,
    /// The number of the next one.
    next_body: u64,
    /// When a part of a response body was last polled.
    polled_at: Instant,
}

/// A response body on its way.
#[derive(Debug)]
struct SentBody {
    number: u64,
    /// The task that sends it, on HTTP/2.
    task: Option<StreamTask>,
    /// When a part of it was last polled.
    polled_at: Instant,
}

impl Watchdog {
    /// Watches a connection that was accepted `now`. Without `keep_alive`, the long keep-alive
    /// begins with the first authenticated request.
    pub(crate) fn new(now: Instant, keep_alive: bool) -> Self {
        Self(Mutex::new(State {
            http2: false,
            requests: 0,
            idle_since: now,
            busy_since: now,
            served: false,
            keep_alive,
            head_since: None,
            blocked_since: None,
            blocked: Duration::ZERO,
            written_bytes: 0,
            bodies: Vec::new(),
            next_body: 0,
            polled_at: now,
        }))
    }

    /// The handshake is complete: from `now` on, the first request is due.
    pub(crate) fn note_connected(&self, now: Instant) {
        self.state().idle_since = now;
    }

    /// Orders connections by how long they have been idle, longest first; busy ones come last, the one
    /// first that has been busy longest.
    pub(crate) fn idle_rank(&self) -> (bool, Instant) {
        let state = self.state();
        match state.requests > 0 {
            true => (true, state.busy_since),
            false => (false, state.idle_since),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock_ignoring_poison()
    }

    /// Bytes arrived.
    pub(crate) fn note_read(&self, now: Instant) {
        let mut state = self.state();
        if state.requests == 0 {
            state.head_since.get_or_insert(now);
        }
    }

    /// Bytes were written.
    pub(crate) fn note_written(&self, bytes: usize, now: Instant) {
        let mut state = self.state();
        state.written_bytes = state.written_bytes.saturating_add(bytes as u64);
        if let Some(since) = state.blocked_since.take() {
            state.blocked += now.saturating_duration_since(since);
        }
    }

    /// A write is blocked.
    pub(crate) fn note_blocked(&self, now: Instant) {
        self.state().blocked_since.get_or_insert(now);
    }

    /// A request begins.
    pub(crate) fn begin_request(self: &Arc<Self>, http2: bool) -> Arc<InFlight> {
        let mut state = self.state();
        if state.requests == 0 {
            state.blocked = Duration::ZERO;
            state.written_bytes = 0;
            state.busy_since = Instant::now();
        }
        state.http2 = http2;
        state.requests += 1;
        state.served = true;
        state.head_since = None;
        Arc::new(InFlight {
            watchdog: Arc::clone(self),
            body_abandoned: AtomicBool::new(false),
            is_participants: AtomicBool::new(false),
        })
    }

    /// Ends the HTTP/2 streams whose peer takes nothing of their answers, whatever it does on others;
    /// returns their number.
    pub(crate) fn end_stalled_streams(&self, now: Instant, timeouts: &Timeouts) -> u64 {
        let state = self.state();
        let stalled = state
            .bodies
            .iter()
            .filter(|body| body.is_stalled(now, timeouts));
        let ended = stalled.filter(|body| body.task.as_ref().is_some_and(StreamTask::end));
        ended.count() as u64
    }

    /// The connection's status at `now`.
    pub(crate) fn status(&self, now: Instant, timeouts: &Timeouts) -> Status {
        let state = self.state();
        let overdue = if state.requests == 0 {
            state.is_request_overdue(now, timeouts)
        } else {
            state.is_http2_window_closed(now, timeouts) || state.is_last_part_overdue(now, timeouts)
        };
        let idle = now.saturating_duration_since(state.idle_since);
        let idle_max = if state.keep_alive {
            timeouts.idle
        } else {
            timeouts.stall
        };
        if overdue || state.is_write_overdue(now, timeouts) {
            Status::Stalled
        } else if state.requests == 0 && idle > idle_max {
            Status::Idle
        } else {
            Status::Ok
        }
    }
}

impl State {
    /// A new connection owes its first request; later, only a request that has begun is due. On
    /// HTTP/2, bytes outside of requests (pings, window updates) are normal, so there only idleness
    /// counts.
    fn is_request_overdue(&self, now: Instant, timeouts: &Timeouts) -> bool {
        let since = match (self.served, self.http2) {
            (false, _) => Some(self.idle_since),
            (true, false) => self.head_since,
            (true, true) => None,
        };
        since.is_some_and(|since| now.saturating_duration_since(since) > timeouts.stall)
    }

    /// An HTTP/2 peer that does not open its flow-control window blocks no write on the socket:
    /// there, the response body is no longer polled.
    fn is_http2_window_closed(&self, now: Instant, timeouts: &Timeouts) -> bool {
        let waited = now.saturating_duration_since(self.polled_at);
        self.http2 && !self.bodies.is_empty() && waited > timeouts.stall
    }

    /// A stream whose task has handed over the last part of its answer cannot be reset any more: if
    /// its peer does not take that part either, the connection is closed, with time for a reset to
    /// take effect.
    fn is_last_part_overdue(&self, now: Instant, timeouts: &Timeouts) -> bool {
        let grace = timeouts.check_interval * 4;
        let overdue = |body: &SentBody| {
            body.task.is_some() && body.is_stalled(now.checked_sub(grace).unwrap_or(now), timeouts)
        };
        self.bodies.iter().any(overdue)
    }

    fn is_write_overdue(&self, now: Instant, timeouts: &Timeouts) -> bool {
        self.blocked_since.is_some_and(|since| {
            let waited = now.saturating_duration_since(since);
            let allowance = timeouts.allowance(self.written_bytes);
            waited > timeouts.stall || self.blocked + waited > allowance
        })
    }
}

impl SentBody {
    fn is_stalled(&self, now: Instant, timeouts: &Timeouts) -> bool {
        now.saturating_duration_since(self.polled_at) > timeouts.stall
    }
}

/// A request in flight. Dropping it ends the request.
#[derive(Debug)]
pub(crate) struct InFlight {
    watchdog: Arc<Watchdog>,
    body_abandoned: AtomicBool,
    is_participants: AtomicBool,
}

impl InFlight {
    /// Gives up on the rest of the request's body: its sender stalled.
    pub(crate) fn abandon_body(&self) {
        self.body_abandoned.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_body_abandoned(&self) -> bool {
        self.body_abandoned.load(Ordering::Relaxed)
    }

    /// The request is a participant's: applies the long keep-alive to the connection.
    pub(crate) fn authenticated(&self) {
        self.is_participants.store(true, Ordering::Relaxed);
        self.watchdog.state().keep_alive = true;
    }

    /// Whether a participant was authenticated for it.
    pub(crate) fn is_participants(&self) -> bool {
        self.is_participants.load(Ordering::Relaxed)
    }

    /// A response body begins to be sent, on HTTP/2 by `task`.
    pub(crate) fn begin_body(self: &Arc<Self>, task: Option<StreamTask>, now: Instant) -> Sending {
        let mut state = self.watchdog.state();
        let number = state.next_body;
        state.next_body += 1;
        state.polled_at = now;
        state.bodies.push(SentBody {
            number,
            task,
            polled_at: now,
        });
        Sending {
            in_flight: Arc::clone(self),
            number,
        }
    }
}

/// A response body on its way. Dropping it says that it was sent, or will not be.
#[derive(Debug)]
pub(crate) struct Sending {
    in_flight: Arc<InFlight>,
    number: u64,
}

impl Sending {
    /// The next part of the body was polled.
    pub(crate) fn note_polled(&self, now: Instant) {
        let mut state = self.in_flight.watchdog.state();
        state.polled_at = now;
        let mut bodies = state.bodies.iter_mut();
        if let Some(body) = bodies.find(|body| body.number == self.number) {
            body.polled_at = now;
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut state = self.in_flight.watchdog.state();
        state.bodies.retain(|body| body.number != self.number);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.watchdog.state();
        state.requests -= 1;
        if state.requests == 0 {
            state.idle_since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        stall: Duration::from_secs(8),
        idle: Duration::from_secs(75),
        check_interval: Duration::from_secs(1),
        rate_min: 1000,
    };

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn disconnects_a_peer_that_sends_no_first_request() {
        let start = Instant::now();
        let watchdog = Watchdog::new(start, false);
        watchdog.note_read(after(start, 7));
        assert_eq!(watchdog.status(after(start, 8), &TIMEOUTS), Status::Ok);
        assert_eq!(watchdog.status(after(start, 9), &TIMEOUTS), Status::Stalled);
    }

    #[test]
    fn keeps_a_participants_connection_alive() {
        let start = Instant::now();
        let watchdog = Arc::new(Watchdog::new(start, false));
        watchdog.begin_request(false).authenticated();
        drop(watchdog.begin_request(false));
        assert_eq!(watchdog.status(after(start, 74), &TIMEOUTS), Status::Ok);
        assert_eq!(watchdog.status(after(start, 80), &TIMEOUTS), Status::Idle);
    }

    #[test]
    fn closes_unauthenticated_connections_early() {
        for http2 in [false, true] {
            let start = Instant::now();
            let watchdog = Arc::new(Watchdog::new(start, false));
            drop(watchdog.begin_request(http2));
            assert_eq!(watchdog.status(after(start, 7), &TIMEOUTS), Status::Ok);
            assert_eq!(watchdog.status(after(start, 10), &TIMEOUTS), Status::Idle);
        }
    }

    #[test]
    fn keeps_an_operators_connection_alive_after_its_first_request() {
        let start = Instant::now();
        let watchdog = Arc::new(Watchdog::new(start, true));
        assert_eq!(watchdog.status(after(start, 9), &TIMEOUTS), Status::Stalled);
        drop(watchdog.begin_request(false));
        assert_eq!(watchdog.status(after(start, 74), &TIMEOUTS), Status::Ok);
        assert_eq!(watchdog.status(after(start, 80), &TIMEOUTS), Status::Idle);
    }

    #[test]
    fn disconnects_a_peer_that_does_not_complete_a_header() {
        let start = Instant::now();
        let watchdog = Arc::new(Watchdog::new(start, true));
        drop(watchdog.begin_request(false));
        watchdog.note_read(after(start, 20));
        watchdog.note_read(after(start, 27));
        assert_eq!(watchdog.status(after(start, 28), &TIMEOUTS), Status::Ok);
        assert_eq!(
            watchdog.status(after(start, 29), &TIMEOUTS),
            Status::Stalled
        );
        drop(watchdog.begin_request(false));
        assert_eq!(watchdog.status(after(start, 29), &TIMEOUTS), Status::Ok);
    }

    #[test]
    fn never_times_out_while_a_request_is_processed() {
        let start = Instant::now();
        let watchdog = Arc::new(Watchdog::new(start, false));
        let request = watchdog.begin_request(false);
        assert_eq!(watchdog.status(after(start, 600), &TIMEOUTS), Status::Ok);
        drop(request);
    }

    #[test]
    fn disconnects_a_peer_that_stops_reading() {
        let start = Instant::now();
        let watchdog = Arc::new(Watchdog::new(start, false));
        let request = watchdog.begin_request(false);
        watchdog.note_blocked(after(start, 30));
        assert_eq!(watchdog.status(after(start, 38), &TIMEOUTS), Status::Ok);
        assert_eq!(
            watchdog.status(after(start, 39), &TIMEOUTS),
            Status::Stalled
        );
        watchdog.note_written(20_000, after(start, 39));
        assert_eq!(watchdog.status(after(start, 60), &TIMEOUTS), Status::Ok);
        drop(request);
    }

    #[test]
    fn disconnects_a_peer_that_reads_too_slowly() {
        let start = Instant::now();
        let watchdog = Arc::new(Watchdog::new(start, false));
        let request = watchdog.begin_request(false);
        watchdog.note_blocked(start);
        watchdog.note_written(1, after(start, 7));
        watchdog.note_blocked(after(start, 7));
        assert_eq!(watchdog.status(after(start, 8), &TIMEOUTS), Status::Ok);
        assert_eq!(watchdog.status(after(start, 9), &TIMEOUTS), Status::Stalled);
        drop(request);
    }

    #[test]
    fn notices_a_closed_http2_window() {
        let start = Instant::now();
        let watchdog = Arc::new(Watchdog::new(start, false));
        let request = watchdog.begin_request(true);
        let body = request.begin_body(None, start);
        body.note_polled(after(start, 5));
        assert_eq!(watchdog.status(after(start, 13), &TIMEOUTS), Status::Ok);
        assert_eq!(
            watchdog.status(after(start, 14), &TIMEOUTS),
            Status::Stalled
        );
        drop(body);
        assert_eq!(watchdog.status(after(start, 14), &TIMEOUTS), Status::Ok);
    }
}
