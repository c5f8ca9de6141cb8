//! Whether a connection still lives: who waits for whom, and since when.
//!
//! hyper's own header timeout counts an idle kept-alive connection like one that is in the middle
//! of a header, and knows no timeout for writing. Here they are told apart: who owes the next
//! bytes and does not send or take any is closed within ten seconds, who merely has nothing to
//! ask may stay for 75. That is for participants: connections are few, and anybody may make one, so
//! who has shown no identity goes within ten seconds, too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long to wait for a peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For bytes that are due: a handshake, a header, a body, room for the answer. Also for the next
    /// request of who is nobody yet.
    pub(crate) stall: Duration,
    /// For the next request on a connection of somebody.
    pub(crate) idle: Duration,
    /// How often connections are looked at; adds to both.
    pub(crate) tick: Duration,
    /// Slowest acceptable transfer, in bytes per second, after the first `stall`.
    pub(crate) rate_min: u32,
}

/// Slowest acceptable transfer: takes the largest usual body, 1.7 MB, in under two minutes.
const RATE_MIN: u32 = 16 << 10;

impl Patience {
    /// Looks often enough to act within nine eighths of either time.
    pub(crate) fn new(stall: Duration, idle: Duration) -> Self {
        let tick = (stall / 8).max(Duration::from_millis(10));
        Self {
            stall,
            idle,
            tick,
            rate_min: RATE_MIN,
        }
    }

    /// How long a transfer that moved `bytes` may have waited for the peer altogether.
    pub(crate) fn allowance(&self, bytes: u64) -> Duration {
        let rate = u64::from(self.rate_min.max(1));
        self.stall + Duration::from_millis(bytes.saturating_mul(1000) / rate)
    }
}

/// What to do with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Let it be.
    Fine,
    /// Nothing was asked for long: say goodbye.
    Idle,
    /// The peer owes bytes, or room for bytes: close.
    Stalled,
}

/// The state of one connection, written by its IO and its service, read by its watchdog.
#[derive(Debug)]
pub(crate) struct Pulse(Mutex<State>);

#[derive(Debug)]
struct State {
    http2: bool,
    /// Requests whose answer is not written, or whose refused body is not drained.
    requests: u32,
    /// Since when there is no request, at first since the connection was made.
    resting_since: Instant,
    /// Whether there was a request at all.
    served: bool,
    /// Whether the connection may rest: a request on it was authenticated, or nobody's need be.
    may_rest: bool,
    /// Since when there are bytes of a request that has not begun.
    head_since: Option<Instant>,
    /// Since when the peer takes no bytes.
    blocked_since: Option<Instant>,
    /// How long the peer took no bytes, and how many it took, while the present answers last.
    blocked: Duration,
    written_bytes: u64,
    /// Response bodies that have more to give.
    sending: u32,
    /// When a part of a response body was taken last.
    taken_at: Instant,
}

impl Pulse {
    /// A connection that was made now. On some `may_rest` whoever has asked; on others only who was
    /// authenticated.
    pub(crate) fn new(now: Instant, may_rest: bool) -> Self {
        Self(Mutex::new(State {
            http2: false,
            requests: 0,
            resting_since: now,
            served: false,
            may_rest,
            head_since: None,
            blocked_since: None,
            blocked: Duration::ZERO,
            written_bytes: 0,
            sending: 0,
            taken_at: now,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics with the lock held; if it did, the numbers would still be numbers.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes came in.
    pub(crate) fn note_read(&self, now: Instant) {
        let mut state = self.state();
        if state.requests == 0 {
            state.head_since.get_or_insert(now);
        }
    }

    /// The peer took bytes.
    pub(crate) fn note_written(&self, bytes: usize, now: Instant) {
        let mut state = self.state();
        state.written_bytes = state.written_bytes.saturating_add(bytes as u64);
        if let Some(since) = state.blocked_since.take() {
            state.blocked += now.saturating_duration_since(since);
        }
    }

    /// The peer takes no bytes at the moment.
    pub(crate) fn note_blocked(&self, now: Instant) {
        self.state().blocked_since.get_or_insert(now);
    }

    /// A request begins.
    pub(crate) fn begin(self: &Arc<Self>, http2: bool) -> Arc<InFlight> {
        let mut state = self.state();
        if state.requests == 0 {
            state.blocked = Duration::ZERO;
            state.written_bytes = 0;
        }
        state.http2 = http2;
        state.requests += 1;
        state.served = true;
        state.head_since = None;
        Arc::new(InFlight {
            pulse: Arc::clone(self),
            abandoned: AtomicBool::new(false),
        })
    }

    /// Judges the connection as of `now`.
    pub(crate) fn verdict(&self, now: Instant, patience: &Patience) -> Verdict {
        let state = self.state();
        let stalled = if state.requests == 0 {
            state.owes_a_head(now, patience)
        } else {
            state.takes_no_answer(now, patience)
        };
        let resting = now.saturating_duration_since(state.resting_since);
        let rest_max = if state.may_rest {
            patience.idle
        } else {
            patience.stall
        };
        if stalled || state.is_blocked_too_long(now, patience) {
            Verdict::Stalled
        } else if state.requests == 0 && resting > rest_max {
            Verdict::Idle
        } else {
            Verdict::Fine
        }
    }
}

impl State {
    /// A connection that never asked anything owes its first request; later, one that began to.
    /// On HTTP/2 bytes that are no request (pings, windows) are usual, so only idleness counts.
    fn owes_a_head(&self, now: Instant, patience: &Patience) -> bool {
        let since = match (self.served, self.http2) {
            (false, _) => Some(self.resting_since),
            (true, false) => self.head_since,
            (true, true) => None,
        };
        since.is_some_and(|since| now.saturating_duration_since(since) > patience.stall)
    }

    /// On HTTP/2 a peer that opens no window lets no bytes get as far as the socket.
    fn takes_no_answer(&self, now: Instant, patience: &Patience) -> bool {
        let waited = now.saturating_duration_since(self.taken_at);
        self.http2 && self.sending > 0 && waited > patience.stall
    }

    fn is_blocked_too_long(&self, now: Instant, patience: &Patience) -> bool {
        self.blocked_since.is_some_and(|since| {
            let waited = now.saturating_duration_since(since);
            let allowance = patience.allowance(self.written_bytes);
            waited > patience.stall || self.blocked + waited > allowance
        })
    }
}

/// A request in flight; its end is noted when it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    pulse: Arc<Pulse>,
    abandoned: AtomicBool,
}

impl InFlight {
    /// The rest of the request's body is not worth reading: its sender stalled.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// The request is a participant's: its connection may rest from now on.
    pub(crate) fn note_authenticated(&self) {
        self.pulse.state().may_rest = true;
    }

    /// A response body begins to be sent.
    pub(crate) fn begin_body(&self, now: Instant) {
        let mut state = self.pulse.state();
        state.sending += 1;
        state.taken_at = now;
    }

    /// A part of a response body was taken.
    pub(crate) fn note_taken(&self, now: Instant) {
        self.pulse.state().taken_at = now;
    }

    /// A response body is all taken, or given up.
    pub(crate) fn end_body(&self) {
        self.pulse.state().sending -= 1;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.pulse.state();
        state.requests -= 1;
        if state.requests == 0 {
            state.resting_since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        stall: Duration::from_secs(8),
        idle: Duration::from_secs(75),
        tick: Duration::from_secs(1),
        rate_min: 1000,
    };

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn wants_the_first_request_soon() {
        let start = Instant::now();
        let pulse = Pulse::new(start, false);
        pulse.note_read(after(start, 7));
        assert_eq!(pulse.verdict(after(start, 8), &PATIENCE), Verdict::Fine);
        assert_eq!(pulse.verdict(after(start, 9), &PATIENCE), Verdict::Stalled);
    }

    #[test]
    fn lets_a_participants_connection_rest() {
        let start = Instant::now();
        let pulse = Arc::new(Pulse::new(start, false));
        pulse.begin(false).note_authenticated();
        drop(pulse.begin(false));
        assert_eq!(pulse.verdict(after(start, 74), &PATIENCE), Verdict::Fine);
        assert_eq!(pulse.verdict(after(start, 80), &PATIENCE), Verdict::Idle);
    }

    #[test]
    fn says_goodbye_to_nobody_soon() {
        for http2 in [false, true] {
            let start = Instant::now();
            let pulse = Arc::new(Pulse::new(start, false));
            drop(pulse.begin(http2));
            assert_eq!(pulse.verdict(after(start, 7), &PATIENCE), Verdict::Fine);
            assert_eq!(pulse.verdict(after(start, 10), &PATIENCE), Verdict::Idle);
        }
    }

    #[test]
    fn lets_operators_rest_once_they_have_asked() {
        let start = Instant::now();
        let pulse = Arc::new(Pulse::new(start, true));
        assert_eq!(pulse.verdict(after(start, 9), &PATIENCE), Verdict::Stalled);
        drop(pulse.begin(false));
        assert_eq!(pulse.verdict(after(start, 74), &PATIENCE), Verdict::Fine);
        assert_eq!(pulse.verdict(after(start, 80), &PATIENCE), Verdict::Idle);
    }

    #[test]
    fn wants_the_rest_of_a_header_soon() {
        let start = Instant::now();
        let pulse = Arc::new(Pulse::new(start, true));
        drop(pulse.begin(false));
        pulse.note_read(after(start, 20));
        pulse.note_read(after(start, 27));
        assert_eq!(pulse.verdict(after(start, 28), &PATIENCE), Verdict::Fine);
        assert_eq!(pulse.verdict(after(start, 29), &PATIENCE), Verdict::Stalled);
        drop(pulse.begin(false));
        assert_eq!(pulse.verdict(after(start, 29), &PATIENCE), Verdict::Fine);
    }

    #[test]
    fn is_never_impatient_with_its_own_work() {
        let start = Instant::now();
        let pulse = Arc::new(Pulse::new(start, false));
        let request = pulse.begin(false);
        assert_eq!(pulse.verdict(after(start, 600), &PATIENCE), Verdict::Fine);
        drop(request);
    }

    #[test]
    fn closes_on_a_peer_that_takes_nothing() {
        let start = Instant::now();
        let pulse = Arc::new(Pulse::new(start, false));
        let request = pulse.begin(false);
        pulse.note_blocked(after(start, 30));
        assert_eq!(pulse.verdict(after(start, 38), &PATIENCE), Verdict::Fine);
        assert_eq!(pulse.verdict(after(start, 39), &PATIENCE), Verdict::Stalled);
        pulse.note_written(20_000, after(start, 39));
        assert_eq!(pulse.verdict(after(start, 60), &PATIENCE), Verdict::Fine);
        drop(request);
    }

    #[test]
    fn closes_on_a_peer_that_takes_a_trickle() {
        let start = Instant::now();
        let pulse = Arc::new(Pulse::new(start, false));
        let request = pulse.begin(false);
        pulse.note_blocked(start);
        pulse.note_written(1, after(start, 7));
        pulse.note_blocked(after(start, 7));
        assert_eq!(pulse.verdict(after(start, 8), &PATIENCE), Verdict::Fine);
        assert_eq!(pulse.verdict(after(start, 9), &PATIENCE), Verdict::Stalled);
        drop(request);
    }

    #[test]
    fn tells_a_closed_http2_window() {
        let start = Instant::now();
        let pulse = Arc::new(Pulse::new(start, false));
        let request = pulse.begin(true);
        request.begin_body(start);
        request.note_taken(after(start, 5));
        assert_eq!(pulse.verdict(after(start, 13), &PATIENCE), Verdict::Fine);
        assert_eq!(pulse.verdict(after(start, 14), &PATIENCE), Verdict::Stalled);
        request.end_body();
        assert_eq!(pulse.verdict(after(start, 14), &PATIENCE), Verdict::Fine);
    }
}
