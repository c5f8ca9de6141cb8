//! `/health` and `/metrics`, on a port for operators.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use engine::locks::LockIgnoringPoison as _;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// How long one look may take.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// For how long the exchange may fail before it counts as broken.
const FAILING_MAX: Duration = Duration::from_secs(900);

/// How the exchange is doing.
#[derive(Debug, Default)]
pub(crate) struct Status {
    /// Of both directions; nothing while that direction works.
    pub(crate) uploads: Trouble,
    pub(crate) downloads: Trouble,
    pub(crate) counts: Vec<(String, i64)>,
    pub(crate) pending_uploads: i64,
    pub(crate) outbox_files: usize,
}

/// What keeps one direction from working.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Option<(Instant, String, bool)>);

impl Trouble {
    pub(crate) fn over(&mut self) {
        self.0 = None;
    }

    /// It fails, perhaps until an operator repairs it.
    pub(crate) fn is(&mut self, reason: &str, needs_somebody: bool) {
        let since = self
            .0
            .as_ref()
            .map_or_else(Instant::now, |(since, ..)| *since);
        self.0 = Some((since, reason.to_owned(), needs_somebody));
    }

    /// Why an operator has to look at it.
    fn alarm(&self) -> Option<&str> {
        let (since, reason, needs_somebody) = self.0.as_ref()?;
        let is_long = since.elapsed() > FAILING_MAX;
        (*needs_somebody || is_long).then_some(reason)
    }
}

pub(crate) type SharedStatus = Arc<Mutex<Status>>;

/// Serves until the process ends.
pub(crate) async fn listen(address: SocketAddr, status: SharedStatus) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let status = Arc::clone(&status);
            let service = service_fn(move |request: Request<Incoming>| {
                std::future::ready(Ok::<_, Infallible>(answer(&request, &status)))
            });
            let served = http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // One at a time: what looks here is a supervisor, every few seconds.
            let _ = tokio::time::timeout(LOOK_MAX, served).await;
        }
    });
    Ok(())
}

fn answer(request: &Request<Incoming>, status: &Mutex<Status>) -> Response<Full<Bytes>> {
    let status = status.lock_ignoring_poison();
    let (code, kind, text) = match request.uri().path() {
        "/health" => {
            let (code, body) = health(&status);
            (code, "application/json", body.to_string())
        }
        "/metrics" => (
            StatusCode::OK,
            "text/plain; version=0.0.4",
            metrics(&status),
        ),
        _ => (StatusCode::NOT_FOUND, "text/plain", String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = code;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn health(status: &Status) -> (StatusCode, serde_json::Value) {
    let (uploads, downloads) = (status.uploads.alarm(), status.downloads.alarm());
    let is_well = uploads.is_none() && downloads.is_none();
    let word = if is_well { "up" } else { "failing" };
    let body = serde_json::json!({"status": word, "uploads": uploads, "downloads": downloads});
    match is_well {
        true => (StatusCode::OK, body),
        false => (StatusCode::SERVICE_UNAVAILABLE, body),
    }
}

fn metrics(status: &Status) -> String {
    let mut out = String::new();
    for (name, value) in &status.counts {
        let _ = writeln!(out, "# TYPE efgs_backend_{name}_total counter");
        let _ = writeln!(out, "efgs_backend_{name}_total {value}");
    }
    for (name, value) in [
        ("pending_uploads", status.pending_uploads),
        (
            "outbox_files",
            i64::try_from(status.outbox_files).unwrap_or(i64::MAX),
        ),
        ("uploads_failing", i64::from(status.uploads.0.is_some())),
        ("downloads_failing", i64::from(status.downloads.0.is_some())),
    ] {
        let _ = writeln!(
            out,
            "# TYPE efgs_backend_{name} gauge\nefgs_backend_{name} {value}"
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_healthy_until_somebody_has_to_act() {
        let mut status = Status::default();
        assert_eq!(health(&status).0, StatusCode::OK);
        status.downloads.is("503", false);
        assert_eq!(health(&status).0, StatusCode::OK, "it may pass");
        status.uploads.is("403: unknown_certificate", true);
        let (code, body) = health(&status);
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body["uploads"], "403: unknown_certificate");
        assert!(metrics(&status).contains("efgs_backend_uploads_failing 1"));
        status.uploads.over();
        assert_eq!(health(&status).0, StatusCode::OK);
    }
}
