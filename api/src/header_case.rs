//! Exact spelling of response headers on HTTP/1.1.
//!
//! IT looks up `batchTag` and `nextBatchTag` in exactly that spelling (clients §1.4). hyper
//! writes other names with capitals when it is told so, and these two wrong, unless a response
//! carries the spelling of a request that it has read.
//! That type is private to hyper, so one request is served in memory at start, and what hyper
//! learnt from it goes with every response. Weighed against rewriting the bytes as they leave:
//! that would have to parse HTTP a second time on the way out.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use http::{Extensions, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

/// The headers that the reference does not begin each word of with a capital, as it spells them. Few:
/// they are copied for every response.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\
    batchTag: x\r\n\
    nextBatchTag: x\r\n\r\n";

/// What hyper needs to spell the headers of a response.
#[derive(Debug, Clone)]
pub(crate) struct Spelling(Arc<Extensions>);

impl Spelling {
    /// Learns the spelling from a request that is served in memory.
    ///
    /// # Errors
    /// When hyper does not take the request: a change of hyper that the tests would show first.
    pub(crate) async fn learn() -> io::Result<Self> {
        let (mut ours, theirs) = tokio::io::duplex(4096);
        ours.write_all(REQUEST).await?;
        let (sender, mut receiver) = mpsc::channel(1);
        let service = service_fn(move |request: Request<Incoming>| {
            let _ = sender.try_send(request.extensions().clone());
            std::future::ready(Ok::<_, Infallible>(Response::new(Body::empty())))
        });
        hyper::server::conn::http1::Builder::new()
            .preserve_header_case(true)
            .keep_alive(false)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(theirs), service)
            .await
            .map_err(io::Error::other)?;
        let learnt = receiver.try_recv().map_err(io::Error::other)?;
        Ok(Self(Arc::new(learnt)))
    }

    /// Lets hyper spell this response so. Not for HTTP/2, where names are lower case by law.
    pub(crate) fn apply<B>(&self, response: &mut Response<B>) {
        response.extensions_mut().extend((*self.0).clone());
    }
}
