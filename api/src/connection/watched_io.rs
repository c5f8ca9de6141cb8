//! A stream that reports reads, writes and blocked writes to its [`Watchdog`], reads only as much as a
//! [`TimeSlice`] allows, and ends when its peer sends nothing but control frames.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::control_frames::ControlFrames;
use super::time_slice::TimeSlice;
use crate::watchdog::Watchdog;

#[derive(Debug)]
pub(crate) struct WatchedIo<S> {
    inner: S,
    watchdog: Arc<Watchdog>,
    time_slice: Arc<TimeSlice>,
    control_frames: ControlFrames,
}

impl<S> WatchedIo<S> {
    pub(super) fn new(inner: S, watchdog: Arc<Watchdog>, time_slice: Arc<TimeSlice>) -> Self {
        Self {
            inner,
            watchdog,
            time_slice,
            control_frames: ControlFrames::new(Instant::now()),
        }
    }

    fn note(&mut self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.control_frames.note_written(*bytes);
                self.watchdog.note_written(*bytes, Instant::now());
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.watchdog.note_blocked(Instant::now()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.time_slice.poll_read(cx));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        if !read.is_empty() {
            let now = Instant::now();
            self.time_slice.note_read(read.len());
            self.watchdog.note_read(now);
            if !self.control_frames.admit(read, now) {
                metrics::counter!("efgs_http2_floods_total").increment(1);
                return Poll::Ready(Err(io::Error::other("too many control frames")));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        // TLS buffers what the socket does not accept: then it is the flush that blocks.
        match flushed {
            Poll::Ready(Ok(())) => self.watchdog.note_written(0, Instant::now()),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.watchdog.note_blocked(Instant::now()),
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(cx);
        if shut.is_pending() {
            self.watchdog.note_blocked(Instant::now());
        }
        shut
    }
}
