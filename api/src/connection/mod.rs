//! One connection: HTTP/1.1 or HTTP/2, watched from its first byte to its last.
//!
//! - *In*: an accepted stream, after the TLS handshake if there is one, and how it arrived.
//! - *Out*: requests to the routes; responses with exact header case.
//! - *Refuses*: header blocks above the bounds (431, by hyper), peers that stall
//!   ([`crate::watchdog`]) or send nothing but control frames.
//! - *Assumes*: the listener drops the connection when its slot goes to another.
//! - *Runs on*: a tokio task per connection.

mod body;
mod control_frames;
mod throttle;
mod time_slice;
mod watched_io;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::{HeaderValue, Request, Response, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::bounds::STREAMS_MAX;
use crate::header_case::HeaderCase;
use crate::participant::Arrival;
use crate::router::Routes;
use crate::slots::{Holder, Slot};
use crate::stream_task::StreamExecutor;
use crate::timeouts::Timeouts;
use crate::watchdog::{InFlight, Status, Watchdog};
use crate::{response, telemetry};

use body::{RequestBody, ResponseBody};
use throttle::RequestThrottle;
use time_slice::TimeSlice;
use watched_io::WatchedIo;

/// Bytes of a header block on HTTP/2: 16 KiB is the least to accept (clients
/// (a).1); a 4096-bit chain in `batchSignature` takes under 20 KB of base64.
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Bytes that hyper buffers of an HTTP/1 connection, per direction: also bounds its header block.
const BUFFER_BYTES_MAX: usize = 128 << 10;
/// HTTP/2 upload window of a stream and of a connection: bounds what a peer may send unread.
const WINDOW_BYTES: u32 = 1 << 20;

/// What orchestrators ask, on which they decide to end a gateway.
const PROBES: [&str; 2] = ["/health", "/ready"];

/// Between the shutdown signal and the graceful close of a connection: a request that is already
/// on its way, or in the system's buffers, still arrives and is answered.
const LINGER: Duration = Duration::from_millis(100);

/// A connection that was accepted, and is ready for requests.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) arrival: Arrival,
    pub(crate) slot: Arc<Slot>,
    pub(crate) watchdog: Arc<Watchdog>,
}

/// What all connections of a gateway share.
#[derive(Debug)]
pub(crate) struct Connections {
    builder: Builder<StreamExecutor>,
    header_case: HeaderCase,
    pub(crate) timeouts: Timeouts,
}

impl Connections {
    pub(crate) fn new(header_case: HeaderCase, timeouts: Timeouts) -> Self {
        let mut builder = Builder::new(StreamExecutor);
        builder
            .http1()
            .timer(TokioTimer::new())
            // The watchdog does this, and distinguishes a slow header from an idle connection.
            .header_read_timeout(None)
            // A client that has shut down its sending side still reads the response.
            .half_close(true)
            // `HeaderCase` sees to the two names that are not in title case.
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
            header_case,
            timeouts,
        }
    }

    /// Serves a stream until it ends, stalls, or the server shuts down.
    pub(crate) async fn serve<S>(
        &self,
        stream: S,
        accepted: Accepted,
        routes: Routes,
        shutdown: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Accepted {
            arrival,
            slot,
            watchdog,
        } = accepted;
        watchdog.note_connected(Instant::now());
        let time_slice = Arc::new(TimeSlice::default());
        let stream = WatchedIo::new(stream, Arc::clone(&watchdog), Arc::clone(&time_slice));
        let context = Arc::new(ConnectionContext {
            arrival,
            slot,
            watchdog: Arc::clone(&watchdog),
            time_slice: Arc::clone(&time_slice),
            unidentified: RequestThrottle::new(Instant::now()),
            routes,
            header_case: self.header_case.clone(),
            shutdown: shutdown.clone(),
        });
        let service = service_fn(move |request| Arc::clone(&context).answer(request));
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        let connection = pin!(connection);
        drive(connection, &watchdog, &time_slice, &self.timeouts, shutdown).await;
    }
}

/// Drives a connection to its end and checks its watchdog.
async fn drive<S, F>(
    mut connection: Pin<&mut Connection<'_, TokioIo<WatchedIo<S>>, F, StreamExecutor>>,
    watchdog: &Watchdog,
    time_slice: &TimeSlice,
    timeouts: &Timeouts,
    mut shutdown: watch::Receiver<bool>,
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
    let mut check = tokio::time::interval(timeouts.check_interval);
    let mut closing = false;
    let mut shutdown = pin!(linger_after_shutdown(&mut shutdown));
    loop {
        tokio::select! {
            ended = poll_fn(|cx| time_slice.poll(connection.as_mut(), cx)) => {
                if let Err(error) = ended {
                    tracing::debug!(error = %error, "connection ended");
                }
                return;
            }
            _ = check.tick() => match watchdog.status(Instant::now(), timeouts) {
                Status::Ok => {
                    let ended = watchdog.end_stalled_streams(Instant::now(), timeouts);
                    if ended > 0 {
                        metrics::counter!("efgs_streams_stalled_total").increment(ended);
                        tracing::debug!(ended, "resetting stalled streams");
                    }
                }
                Status::Idle if !closing => {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                Status::Idle => return,
                Status::Stalled => {
                    metrics::counter!("efgs_connections_stalled_total").increment(1);
                    tracing::debug!("closing a stalled connection");
                    return;
                }
            },
            () = shutdown.as_mut(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Completes [`LINGER`] after the shutdown signal.
async fn linger_after_shutdown(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the server is gone, which is a shutdown as well.
    let _ = shutdown.wait_for(|shutdown| *shutdown).await;
    tokio::time::sleep(LINGER).await;
}

/// What the requests of one connection need. Not shared between connections, so that cores do not
/// contend for it.
struct ConnectionContext {
    arrival: Arrival,
    slot: Arc<Slot>,
    watchdog: Arc<Watchdog>,
    time_slice: Arc<TimeSlice>,
    unidentified: RequestThrottle,
    routes: Routes,
    header_case: HeaderCase,
    shutdown: watch::Receiver<bool>,
}

impl ConnectionContext {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let http2 = request.version() >= Version::HTTP_2;
        if !http2 {
            self.time_slice.next_request().await;
        }
        let in_flight = self.watchdog.begin_request(http2);
        if matches!(self.arrival, Arrival::Operations) {
            let is_probe = PROBES.contains(&request.uri().path());
            self.slot.note_probe(is_probe);
        }
        let expects_continue = request.headers().contains_key(header::EXPECT);
        let mut request = request.map(|incoming| {
            if incoming.is_end_stream() {
                return Body::empty();
            }
            let drain = !expects_continue;
            Body::new(RequestBody::new(incoming, Arc::clone(&in_flight), drain))
        });
        request.extensions_mut().insert(self.arrival);
        request.extensions_mut().insert(Arc::clone(&self.slot));
        request.extensions_mut().insert(Arc::clone(&in_flight));
        let span = telemetry::request_span(self.arrival, request.headers());
        let answer = self.routes.answer(request).instrument(span);
        let mut response = telemetry::on_behalf_of(self.slot.holder(), answer).await;
        self.keep_pace(&in_flight).await;
        if !http2 {
            self.header_case.apply(&mut response);
            // After an error, the peer may or may not send the body that it announced: the next
            // bytes are ambiguous.
            let is_ambiguous = expects_continue && response::is_error(&response);
            // HTTP/2 has GOAWAY instead.
            if is_ambiguous || *self.shutdown.borrow() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
        }
        Ok(response.map(|body| ResponseBody::new(body, &in_flight, http2)))
    }

    /// Delays the answer to a request that no participant was authenticated for, if there were many.
    async fn keep_pace(&self, request: &InFlight) {
        // A trusted proxy has limits of its own, and its connections have participants' requests, too.
        if request.is_participants() || matches!(self.slot.holder(), Holder::Peer(_)) {
            return;
        }
        let wait = self.unidentified.draw(Instant::now());
        if !wait.is_zero() {
            metrics::counter!("efgs_unidentified_requests_delayed_total").increment(1);
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests;
