//! A response body made of shared segments: no copy, and two allocations whatever its size.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use engine::bundle::{Audit, Download};
use http_body::{Frame, SizeHint};

/// Segments of a body.
pub(crate) trait Segments: Send + Sync + 'static {
    fn count(&self) -> usize;
    fn segment(&self, index: usize) -> Bytes;
    /// The sum of their lengths, if it is known.
    fn total_bytes(&self) -> Option<u64>;
}

impl Segments for Download {
    fn count(&self) -> usize {
        self.chunk_count()
    }

    fn segment(&self, index: usize) -> Bytes {
        self.chunk(index)
    }

    fn total_bytes(&self) -> Option<u64> {
        self.body_bytes()
    }
}

impl Segments for Audit {
    fn count(&self) -> usize {
        self.chunk_count()
    }

    fn segment(&self, index: usize) -> Bytes {
        self.chunk(index)
    }

    fn total_bytes(&self) -> Option<u64> {
        Some(self.body_bytes())
    }
}

/// The body.
#[derive(Debug)]
pub(crate) struct SegmentBody<S> {
    segments: Arc<S>,
    next_index: usize,
    /// Unknown if the segments are made one by one.
    rest_bytes: Option<u64>,
}

impl<S: Segments> SegmentBody<S> {
    pub(crate) fn new(segments: S) -> Self {
        let rest_bytes = segments.total_bytes();
        Self {
            segments: Arc::new(segments),
            next_index: 0,
            rest_bytes,
        }
    }

    fn is_at_end(&self) -> bool {
        match self.rest_bytes {
            Some(bytes) => bytes == 0,
            None => self.next_index >= self.segments.count(),
        }
    }
}

/// The last bytes of a body. hyper drops a body as soon as it has the last of it, and keeps what it
/// cannot write yet: whatever the segments hold, such as a permit, is given back when these are gone.
struct LastSegment<S> {
    bytes: Bytes,
    _segments: Arc<S>,
}

impl<S> AsRef<[u8]> for LastSegment<S> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<S: Segments> http_body::Body for SegmentBody<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while self.next_index < self.segments.count() {
            let bytes = self.segments.segment(self.next_index);
            self.next_index += 1;
            if bytes.is_empty() {
                continue;
            }
            if let Some(rest_bytes) = &mut self.rest_bytes {
                *rest_bytes = rest_bytes.saturating_sub(bytes.len() as u64);
            }
            if !self.is_at_end() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let last = LastSegment {
                bytes,
                _segments: Arc::clone(&self.segments),
            };
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(last)))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.is_at_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.rest_bytes
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::BodyExt as _;

    use super::*;

    /// Parts, and whether their sum is known.
    struct Parts(Vec<&'static [u8]>, bool);

    impl Segments for Parts {
        fn count(&self) -> usize {
            self.0.len()
        }

        fn segment(&self, index: usize) -> Bytes {
            Bytes::from_static(self.0[index])
        }

        fn total_bytes(&self) -> Option<u64> {
            self.1.then(|| self.0.concat().len() as u64)
        }
    }

    async fn next(body: &mut SegmentBody<Parts>) -> Bytes {
        body.frame().await.unwrap().unwrap().into_data().unwrap()
    }

    #[tokio::test]
    async fn yields_segments_without_copying_and_skips_empty_ones() {
        static FIRST: &[u8] = b"abc";
        static LAST: &[u8] = b"de";
        let mut body = SegmentBody::new(Parts(vec![b"", FIRST, b"", LAST, b""], true));
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(next(&mut body).await.as_ptr(), FIRST.as_ptr());
        assert!(!body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(2));
        assert_eq!(next(&mut body).await.as_ptr(), LAST.as_ptr());
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }

    #[tokio::test]
    async fn ends_when_the_length_is_not_known() {
        let mut body = SegmentBody::new(Parts(vec![b"[", b"", b"]"], false));
        assert_eq!(body.size_hint().exact(), None);
        assert_eq!(next(&mut body).await, "[");
        assert!(!body.is_end_stream());
        assert_eq!(next(&mut body).await, "]");
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn is_held_until_its_last_bytes_are_written() {
        for is_known in [true, false] {
            let mut body = SegmentBody::new(Parts(vec![b"abc", b"de"], is_known));
            let held = Arc::downgrade(&body.segments);
            next(&mut body).await;
            let last = next(&mut body).await;
            drop(body);
            assert!(held.upgrade().is_some(), "hyper has yet to write them");
            drop(last);
            assert!(held.upgrade().is_none());
        }
    }

    #[tokio::test]
    async fn ends_at_once_when_there_is_no_key_for_the_reader() {
        let body = SegmentBody::new(Parts(vec![b""], true));
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
    }
}
