//! Bodies sent and read at a limited rate, as by participants on slow connections.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Pieces per second of a throttled body.
const PIECES_PER_SECOND: u32 = 10;

/// A request body, sent at once or piece by piece.
pub(crate) struct Payload {
    rest: Bytes,
    throttle: Option<Throttle>,
}

struct Throttle {
    piece_bytes: usize,
    next: Pin<Box<Sleep>>,
}

impl Payload {
    pub(crate) fn new(body: Bytes, bytes_per_second: Option<NonZeroU32>) -> Self {
        let throttle = bytes_per_second.map(|rate| Throttle {
            piece_bytes: (rate.get() / PIECES_PER_SECOND).max(1) as usize,
            next: Box::pin(sleep(Duration::ZERO)),
        });
        Self {
            rest: body,
            throttle,
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Self { rest, throttle } = self.get_mut();
        if rest.is_empty() {
            return Poll::Ready(None);
        }
        let piece = match throttle {
            None => std::mem::take(rest),
            Some(throttle) => {
                ready!(throttle.next.as_mut().poll(context));
                let wait = Duration::from_secs(1) / PIECES_PER_SECOND;
                throttle.next.as_mut().reset(Instant::now() + wait);
                rest.split_to(throttle.piece_bytes.min(rest.len()))
            }
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// Reads a body at that rate.
pub(crate) async fn read_slowly<B>(
    mut body: B,
    bytes_per_second: NonZeroU32,
) -> Result<Bytes, B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let begun = Instant::now();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        whole.extend_from_slice(data.chunk());
        let due = whole.len() as f64 / f64::from(bytes_per_second.get());
        sleep_until(begun + Duration::from_secs_f64(due)).await;
    }
    Ok(whole.freeze())
}
