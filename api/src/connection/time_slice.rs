//! Time slices: how much one connection may do before other tasks of its thread run.
//!
//! - *In*: what a connection reads and answers each time its task is polled.
//! - *Out*: when it must let others go first.
//! - *Runs on*: the connection's task; no other contends for the counters.
//!
//! Weighed against tokio's own budget, which counts reads of the socket: 128 of them bring some
//! megabytes, in which a peer has a hundred thousand pings; and hyper answers up to 16 requests that
//! it has read already.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use crate::bounds::TIME_SLICE_BYTES;

/// What a connection has done in its current time slice.
#[derive(Debug, Default)]
pub(super) struct TimeSlice {
    read_bytes: AtomicUsize,
    requests: AtomicUsize,
}

impl TimeSlice {
    /// Polls the connection in a new time slice.
    pub(super) fn poll<F: Future>(
        &self,
        connection: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        self.read_bytes.store(0, Ordering::Relaxed);
        self.requests.store(0, Ordering::Relaxed);
        connection.poll(cx)
    }

    /// Pending when the connection has read enough; it is polled again after others.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.read_bytes.load(Ordering::Relaxed) < TIME_SLICE_BYTES {
            return Poll::Ready(());
        }
        // Not woken at once: a thread with tasks to run looks at its sockets only every 61 of them. This
        // wakes the connection when it has looked, and so found what else has something to say.
        let yielded = pin!(tokio::task::yield_now());
        yielded.poll(cx)
    }

    /// Bytes were read.
    pub(super) fn note_read(&self, bytes: usize) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Lets others go first if a request was answered in this time slice already. For HTTP/1, whose requests
    /// are answered by the connection's own task.
    pub(super) async fn next_request(&self) {
        while self.requests.fetch_add(1, Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
    }
}
