//! Reads request bodies.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::timeout_at;

use crate::response::RequestError;
use crate::timeouts::Timeouts;
use crate::watchdog::InFlight;

/// Reads a body into one buffer. A body that arrives in one piece is not copied.
///
/// A body that stalls is not drained afterwards: that would wait for its sender a second time.
///
/// # Errors
/// When it is too large, arrives too slowly, or breaks off.
pub(crate) async fn read_body(
    parts: &Parts,
    mut body: Body,
    bytes_max: usize,
    timeouts: &Timeouts,
) -> Result<Bytes, RequestError> {
    let read = collect(&mut body, bytes_max, timeouts).await;
    if read == Err(RequestError::BodyStalled)
        && let Some(in_flight) = parts.extensions.get::<Arc<InFlight>>()
    {
        // Before the body is dropped, which would start to drain it.
        in_flight.abandon_body();
    }
    read
}

async fn collect(
    body: &mut Body,
    bytes_max: usize,
    timeouts: &Timeouts,
) -> Result<Bytes, RequestError> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(bytes_max);
    let begun = Instant::now();
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    loop {
        let read_bytes = first.len() + whole.len();
        let due = begun + timeouts.allowance(read_bytes as u64);
        let due = due.min(Instant::now() + timeouts.stall);
        let frame = timeout_at(due.into(), body.frame()).await;
        let frame = match frame.map_err(|_| RequestError::BodyStalled)? {
            Some(frame) => frame.map_err(|_| RequestError::BodyUnreadable)?,
            None if whole.is_empty() => return Ok(first),
            None => return Ok(whole.freeze()),
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if read_bytes + data.len() > bytes_max {
            return Err(RequestError::BodyTooLarge { bytes_max });
        }
        if read_bytes == 0 {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.reserve(expected.clamp(read_bytes + data.len(), bytes_max));
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use http_body::Frame;

    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        stall: Duration::from_millis(40),
        idle: Duration::from_secs(75),
        check_interval: Duration::from_secs(1),
        rate_min: 1 << 20,
    };

    /// A body that yields these pieces, and then ends or hangs.
    struct Pieces {
        pieces: std::vec::IntoIter<&'static [u8]>,
        ends: bool,
    }

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.pieces.next() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece))))),
                None if self.ends => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    fn body(pieces: &[&'static [u8]], ends: bool) -> Body {
        Body::new(Pieces {
            pieces: Vec::from(pieces).into_iter(),
            ends,
        })
    }

    #[tokio::test]
    async fn reads_a_body_into_one_piece() {
        for pieces in
            [&[][..], &[b"abc"], &[b"a", b"", b"bc"], &[b"a", b"b", b"c"]] as [&[&[u8]]; 4]
        {
            let read = collect(&mut body(pieces, true), 3, &TIMEOUTS)
                .await
                .unwrap();
            assert_eq!(read, pieces.concat());
        }
    }

    #[tokio::test]
    async fn stops_at_the_first_byte_too_many() {
        let read = collect(&mut body(&[b"ab", b"cd"], false), 3, &TIMEOUTS).await;
        assert_eq!(read, Err(RequestError::BodyTooLarge { bytes_max: 3 }));
    }

    #[tokio::test]
    async fn does_not_wait_for_a_sender_that_stalls() {
        let read = collect(&mut body(&[b"ab"], false), 30, &TIMEOUTS).await;
        assert_eq!(read, Err(RequestError::BodyStalled));
    }
}
