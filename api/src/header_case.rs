//! Exact case of response header names on HTTP/1.1.
//!
//! IT looks up `batchTag` and `nextBatchTag` in exactly that case (clients §1.4). hyper can
//! write names in title case, which gets these two wrong, unless a response carries the header
//! case map of a request that hyper has parsed. That map's type is private to hyper. So one request
//! is parsed in memory at start, and its map is attached to every response. Weighed against
//! rewriting the bytes as they leave, which would have to parse HTTP a second time.

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

/// Header names of the reference that are not in title case. Only these: the map is copied for
/// every response.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\
    batchTag: x\r\n\
    nextBatchTag: x\r\n\r\n";

/// hyper's header case map, as a request extension.
#[derive(Debug, Clone)]
pub(crate) struct HeaderCase(Arc<Extensions>);

impl HeaderCase {
    /// Obtains the map by letting hyper parse a request in memory.
    ///
    /// # Errors
    /// When hyper rejects the request, as only a changed hyper would: the tests would show it first.
    pub(crate) async fn from_hyper() -> io::Result<Self> {
        let (mut client, server) = tokio::io::duplex(4096);
        client.write_all(REQUEST).await?;
        let (sender, mut receiver) = mpsc::channel(1);
        let service = service_fn(move |request: Request<Incoming>| {
            let _ = sender.try_send(request.extensions().clone());
            std::future::ready(Ok::<_, Infallible>(Response::new(Body::empty())))
        });
        hyper::server::conn::http1::Builder::new()
            .preserve_header_case(true)
            .keep_alive(false)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(server), service)
            .await
            .map_err(io::Error::other)?;
        let extensions = receiver.try_recv().map_err(io::Error::other)?;
        Ok(Self(Arc::new(extensions)))
    }

    /// Attaches the map to a response. Not for HTTP/2, where names must be in lower case.
    pub(crate) fn apply<B>(&self, response: &mut Response<B>) {
        response.extensions_mut().extend((*self.0).clone());
    }
}
