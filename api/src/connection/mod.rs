//! One connection: HTTP/1.1 or HTTP/2, watched from its first byte to its last.
//!
//! - *In*: an accepted stream, after TLS where there is TLS, and how it arrived.
//! - *Out*: requests to the routes, answers with exactly spelled headers.
//! - *Refuses*: headers above the bounds (431, by hyper), peers that stall ([`pulse`]).
//! - *Assumes*: the listener holds a permit for the connection.
//! - *Runs on*: a tokio task of its own.

mod body;
mod pulse;
mod watched_io;

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::{HeaderValue, Request, Response, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::header_case::Spelling;
use crate::participant::Arrival;
use crate::router::Routes;
use crate::{response, telemetry};

use body::{RequestBody, ResponseBody};
pub(crate) use pulse::{InFlight, Patience};
use pulse::{Pulse, Verdict};
use watched_io::WatchedIo;

/// Bytes of a header block on HTTP/2: 16 KiB is the least to accept (clients
/// (a).1); a 4096-bit chain in `batchSignature` takes under 20 KB of base64.
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Bytes that hyper buffers of an HTTP/1 connection, per direction: also bounds its header block.
const BUFFER_BYTES_MAX: usize = 128 << 10;
/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;
/// HTTP/2 upload window of a stream and of a connection: bounds what a peer may send unread.
const WINDOW_BYTES: u32 = 1 << 20;

/// Between the word to stop and the goodbye on a connection: a request that was on its way, or in
/// the system's buffers, arrives and is answered.
const LINGER: Duration = Duration::from_millis(100);

/// What all connections of a gateway share.
#[derive(Debug)]
pub(crate) struct Connections {
    builder: Builder<TokioExecutor>,
    spelling: Spelling,
    pub(crate) patience: Patience,
}

impl Connections {
    pub(crate) fn new(spelling: Spelling, patience: Patience) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            // Pulse does this, and tells a header from idleness.
            .header_read_timeout(None)
            // The two that are spelled in another way: `Spelling`.
            .title_case_headers(true)
            .max_buf_size(BUFFER_BYTES_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADER_BYTES_MAX)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        Self {
            builder,
            spelling,
            patience,
        }
    }

    /// Serves a stream until it ends, stalls, or everything stops.
    pub(crate) async fn serve<S>(
        &self,
        stream: S,
        arrival: Arrival,
        routes: Routes,
        stop: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let may_rest = matches!(arrival, Arrival::Operations);
        let pulse = Arc::new(Pulse::new(Instant::now(), may_rest));
        let stream = TokioIo::new(WatchedIo::new(stream, Arc::clone(&pulse)));
        let answering = Arc::new(Answering {
            arrival,
            pulse: Arc::clone(&pulse),
            routes,
            spelling: self.spelling.clone(),
            stopping: stop.clone(),
        });
        let service = service_fn(move |request| Arc::clone(&answering).answer(request));
        let connection = pin!(self.builder.serve_connection(stream, service));
        watch(connection, &pulse, &self.patience, stop).await;
    }
}

/// Drives a connection and looks at its pulse.
async fn watch<S, F>(
    mut connection: Pin<&mut Connection<'_, TokioIo<WatchedIo<S>>, F, TokioExecutor>>,
    pulse: &Pulse,
    patience: &Patience,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: hyper::service::Service<
            Request<Incoming>,
            Response = Response<ResponseBody>,
            Error = Infallible,
        > + Send
        + 'static,
    F::Future: Send + 'static,
{
    let mut tick = tokio::time::interval(patience.tick);
    let mut leaving = false;
    let mut time_to_leave = pin!(time_to_leave(&mut stop));
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error = %error, "connection ended");
                }
                return;
            }
            _ = tick.tick() => match pulse.verdict(Instant::now(), patience) {
                Verdict::Fine => {}
                Verdict::Idle if !leaving => {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
                Verdict::Idle => return,
                Verdict::Stalled => {
                    metrics::counter!("efgs_connections_stalled_total").increment(1);
                    tracing::debug!("closing a connection whose peer stalls");
                    return;
                }
            },
            () = time_to_leave.as_mut(), if !leaving => {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Comes a moment after everything stops.
async fn time_to_leave(stop: &mut watch::Receiver<bool>) {
    // An error means that the server is gone: it stops as well.
    let _ = stop.wait_for(|stop| *stop).await;
    tokio::time::sleep(LINGER).await;
}

/// What the requests of a connection are answered with: shared by them alone, not with those of other
/// connections on other cores.
struct Answering {
    arrival: Arrival,
    pulse: Arc<Pulse>,
    routes: Routes,
    spelling: Spelling,
    stopping: watch::Receiver<bool>,
}

impl Answering {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let http2 = request.version() >= Version::HTTP_2;
        let in_flight = self.pulse.begin(http2);
        let expects = request.headers().contains_key(header::EXPECT);
        let mut request = request.map(|incoming| {
            if incoming.is_end_stream() {
                return Body::empty();
            }
            Body::new(RequestBody::new(incoming, Arc::clone(&in_flight), !expects))
        });
        request.extensions_mut().insert(self.arrival);
        request.extensions_mut().insert(Arc::clone(&in_flight));
        let span = telemetry::request_span(self.arrival, request.headers());
        let mut response = self.routes.answer(request).instrument(span).await;
        if !http2 {
            self.spelling.apply(&mut response);
            // Whether the peer will send its body now or not, nobody can tell.
            let is_lost = expects && response::is_error(&response);
            // HTTP/2 has a message of its own for the end.
            if is_lost || *self.stopping.borrow() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
        }
        Ok(response.map(|body| ResponseBody::new(body, in_flight, http2)))
    }
}
