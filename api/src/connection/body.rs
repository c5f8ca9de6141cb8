//! The bodies of a connection: a request body that is drained when it is refused unread, and a
//! response body that reports its progress to the watchdog.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::stream_task::StreamTask;
use crate::watchdog::{InFlight, Sending};

/// How many bytes of a refused body are read and discarded. A peer that is still sending when its
/// connection closes may see a reset instead of the response.
const DRAIN_BYTES_MAX: u64 = 16 << 20;
/// How long a refused body is drained.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(8);

/// A request body. When it is dropped before its end, the rest is drained, so that the response
/// arrives and the connection stays usable.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    in_flight: Arc<InFlight>,
    /// False for a peer that waits for `100 Continue`: it has not sent its body, and draining would
    /// ask for it.
    drain: bool,
}

impl RequestBody {
    pub(crate) const fn new(incoming: Incoming, in_flight: Arc<InFlight>, drain: bool) -> Self {
        Self {
            incoming: Some(incoming),
            in_flight,
            drain,
        }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.incoming = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = || SizeHint::with_exact(0);
        self.incoming
            .as_ref()
            .map_or_else(none, Incoming::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(incoming) = self.incoming.take() else {
            return;
        };
        if incoming.is_end_stream() || !self.drain || self.in_flight.is_body_abandoned() {
            return;
        }
        let too_long = incoming.size_hint().lower() > DRAIN_BYTES_MAX;
        if let (Ok(runtime), false) = (tokio::runtime::Handle::try_current(), too_long) {
            runtime.spawn(drain(incoming, Arc::clone(&self.in_flight)));
        }
    }
}

/// Reads and discards, while the response is being written.
async fn drain(mut incoming: Incoming, _in_flight: Arc<InFlight>) {
    let mut drained_bytes = 0;
    let all = async {
        while let Some(Ok(frame)) = incoming.frame().await {
            drained_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            if drained_bytes > DRAIN_BYTES_MAX {
                break;
            }
        }
    };
    // Complete or not, the body is dropped now; if something is left of it, hyper closes the
    // connection.
    let _ = tokio::time::timeout(DRAIN_TIME_MAX, all).await;
}

/// A response body. On HTTP/2 it is split into small parts, so that each poll is a sign of life: a
/// part is polled when the peer's window has room for those before it.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    inner: Body,
    sending: Option<Sending>,
    http2: bool,
    rest: Bytes,
}

/// Size of a part on HTTP/2, in bytes: what a stream must take within the write timeout. All 64
/// streams of a connection then take 128 KiB per second.
const PART_BYTES: usize = 16 << 10;

impl ResponseBody {
    pub(crate) fn new(inner: Body, in_flight: &Arc<InFlight>, http2: bool) -> Self {
        let task = if http2 { StreamTask::current() } else { None };
        Self {
            inner,
            sending: Some(in_flight.begin_body(task, Instant::now())),
            http2,
            rest: Bytes::new(),
        }
    }

    fn next_part(&mut self) -> Bytes {
        if !self.http2 {
            return std::mem::take(&mut self.rest);
        }
        let end = self.rest.len().min(PART_BYTES);
        let part = self.rest.split_to(end);
        match self
            .sending
            .take_if(|_| self.rest.is_empty() && self.inner.is_end_stream())
        {
            Some(sending) => Bytes::from_owner(LastPart {
                bytes: part,
                _sending: sending,
            }),
            None => part,
        }
    }
}

/// The last part of a body on HTTP/2. The stream's task ends with it, but it is watched until the
/// peer's window has let it pass.
struct LastPart {
    bytes: Bytes,
    _sending: Sending,
}

impl AsRef<[u8]> for LastPart {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(sending) = &self.sending {
            sending.note_polled(Instant::now());
        }
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.next_part()))));
        }
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => {
                self.rest = data;
                Frame::data(self.next_part())
            }
            Err(trailers) => trailers,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, inner) = (self.rest.len() as u64, self.inner.size_hint());
        inner
            .exact()
            .map_or(inner, |exact| SizeHint::with_exact(exact + rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::Watchdog;

    fn body(bytes: &[u8], http2: bool) -> ResponseBody {
        let watchdog = Arc::new(Watchdog::new(Instant::now(), false));
        let in_flight = watchdog.begin_request(http2);
        ResponseBody::new(Body::from(bytes.to_vec()), &in_flight, http2)
    }

    async fn part_lengths(mut body: ResponseBody) -> Vec<usize> {
        let mut lengths = Vec::new();
        while let Some(frame) = body.frame().await {
            lengths.push(frame.unwrap().into_data().unwrap().len());
        }
        lengths
    }

    #[tokio::test]
    async fn is_sent_whole_on_http1_and_in_parts_on_http2() {
        let bytes = vec![7; 70_000];
        assert_eq!(body(&bytes, true).size_hint().exact(), Some(70_000));
        assert_eq!(part_lengths(body(&bytes, false)).await, [70_000]);
        assert_eq!(
            part_lengths(body(&bytes, true)).await,
            [16_384, 16_384, 16_384, 16_384, 4464]
        );
    }
}
