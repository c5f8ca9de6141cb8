//! A stream that bounds what a receiver sends before the head of its response.
//!
//! hyper skips informational responses (1xx), each of which may be as long as a head; without this, a
//! receiver that sends them without end keeps a core busy for the whole read timeout.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes may still be read.
#[derive(Debug, Clone)]
pub(super) struct ReadBound(Arc<AtomicUsize>);

impl ReadBound {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes_max)))
    }

    /// From now on, other bounds hold.
    pub(super) fn lift(&self) {
        self.0.store(usize::MAX, Ordering::Relaxed);
    }

    fn note_read(&self, bytes: usize) -> io::Result<()> {
        let left = |left: usize| match left {
            usize::MAX => Some(left),
            _ => left.checked_sub(bytes),
        };
        let noted = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        let too_much = |_| io::Error::other("too many bytes before the head of the response");
        noted.map(|_| ()).map_err(too_much)
    }
}

/// A stream with a bound on what is read.
#[derive(Debug)]
pub(super) struct Bounded<S> {
    inner: S,
    bound: ReadBound,
}

impl<S> Bounded<S> {
    pub(super) const fn new(inner: S, bound: ReadBound) -> Self {
        Self { inner, bound }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        Poll::Ready(self.bound.note_read(buffer.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
