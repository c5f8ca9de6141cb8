//! The operations port: health, readiness, metrics, a dashboard, the API description. It needs no
//! authentication, so it listens on loopback by default and shows no key data.

mod metrics;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use engine::callbacks::Summary;
use engine::{Engine, Status};
use http::Response;
use serde::Serialize;
use tokio::sync::watch;

use crate::negotiate::PLAIN_JSON;
use crate::openapi::describe::{self, HTML, METRICS};
use crate::openapi::endpoint::Endpoint;
use crate::response::RouteError;
use crate::{openapi, response, router};

pub(crate) use metrics::Metrics;

/// The page at `/`, which polls `/status`.
const DASHBOARD: &str = include_str!("dashboard.html");

#[derive(Clone)]
struct Operations {
    engine: Arc<Engine>,
    metrics: Metrics,
    shutdown: watch::Receiver<bool>,
    delivers: bool,
    /// The API description.
    document: Bytes,
}

type Route = MethodRouter<Operations>;

/// The paths of the operations port.
fn endpoints() -> [(Endpoint, Route); 7] {
    let endpoint = |path, operations| Endpoint {
        path,
        methods: "GET,HEAD",
        operations,
    };
    [
        (
            endpoint("/", &[describe::dashboard]),
            get(async || response::text(HTML, DASHBOARD)),
        ),
        (
            endpoint("/health", &[describe::health]),
            get(async || response::found(PLAIN_JSON, &Health { status: "up" })),
        ),
        (endpoint("/ready", &[describe::ready]), get(ready)),
        (endpoint("/status", &[describe::status]), get(status)),
        (endpoint("/metrics", &[describe::metrics]), get(render)),
        (
            endpoint("/openapi.json", &[describe::document]),
            get(document),
        ),
        (
            endpoint("/docs", &[describe::docs]),
            get(async || response::text(HTML, openapi::PAGE)),
        ),
    ]
}

/// The routes of the operations port.
pub(crate) fn routes(
    engine: Arc<Engine>,
    metrics: Metrics,
    shutdown: watch::Receiver<bool>,
    delivers: bool,
) -> Router {
    let participants = router::endpoints();
    let operators = endpoints().map(|(endpoint, _)| endpoint);
    let mut router = Router::new();
    for (endpoint, route) in endpoints() {
        let allow = endpoint.methods;
        let refuse = async move || response::no_route(RouteError::MethodNotAllowed { allow });
        router = router.route(endpoint.path, route.fallback(refuse));
    }
    router
        .fallback(async || response::no_route(RouteError::NotFound))
        .with_state(Operations {
            engine,
            metrics,
            shutdown,
            delivers,
            document: openapi::document(&participants, &operators),
        })
}

async fn ready(State(operations): State<Operations>) -> Response<Body> {
    let shown = operations.shown();
    if shown.ready {
        response::found(PLAIN_JSON, &shown)
    } else {
        response::not_ready(&shown)
    }
}

async fn status(State(operations): State<Operations>) -> Response<Body> {
    response::found(PLAIN_JSON, &operations.shown())
}

async fn render(State(operations): State<Operations>) -> Response<Body> {
    response::text(METRICS, operations.metrics.render())
}

async fn document(State(operations): State<Operations>) -> Response<Body> {
    response::text(PLAIN_JSON, operations.document)
}

impl Operations {
    fn shown(&self) -> ShownStatus {
        let summary = self.engine.callbacks().summary();
        let callbacks = ShownCallbacks::new(&summary, self.delivers);
        ShownStatus::new(&self.engine.status(), *self.shutdown.borrow(), callbacks)
    }
}

#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
}

/// The body of `/ready` and `/status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownStatus {
    ready: bool,
    stopping: bool,
    database_available: bool,
    /// What was expected and what is there, if the database has gone back.
    database_went_back: Option<String>,
    /// Whether the state file could be written at the last attempt.
    state_file_writable: bool,
    log_position: u64,
    identities: u64,
    newest_batch: Option<String>,
    cuts: bool,
    /// How many more download batches may be cut for age at once, if this gateway cuts.
    bundle_budget: Option<u32>,
    /// Rows of the certificate list.
    certificates: usize,
    callbacks: ShownCallbacks,
    version: &'static str,
}

impl ShownStatus {
    fn new(status: &Status, stopping: bool, callbacks: ShownCallbacks) -> Self {
        Self {
            ready: status.database_available
                && status.went_back.is_none()
                && status.state_file_writable
                && !status.failed
                && status.certificates > 0
                && !stopping,
            stopping,
            database_available: status.database_available,
            database_went_back: status.went_back.clone(),
            state_file_writable: status.state_file_writable,
            log_position: status.log_position,
            identities: status.identities,
            newest_batch: status.newest_batch.map(|tag| tag.to_string()),
            cuts: status.cuts,
            bundle_budget: status.bundle_budget,
            certificates: status.certificates,
            callbacks,
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Counts of callback subscriptions.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownCallbacks {
    /// Whether this gateway delivers.
    delivers: bool,
    active: u64,
    disabled: u64,
    batches_behind_max: u64,
}

impl ShownCallbacks {
    const fn new(summary: &Summary, delivers: bool) -> Self {
        Self {
            delivers,
            active: summary.active,
            disabled: summary.disabled,
            batches_behind_max: summary.batches_behind_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::domain::BatchTag;
    use serde_json::json;

    use super::*;

    #[test]
    fn is_ready_unless_the_database_is_unavailable_or_the_gateway_is_stopping() {
        let status = |database_available| Status {
            database_available,
            log_position: 31,
            identities: 151_000,
            newest_batch: Some(BatchTag::parse("20201006-7").unwrap()),
            cuts: true,
            bundle_budget: Some(48),
            certificates: 6,
            failed: false,
            went_back: None,
            state_file_writable: true,
        };
        let summary = Summary {
            active: 3,
            disabled: 1,
            batches_behind_max: 7,
        };
        let show = |status: &Status, stopping| {
            ShownStatus::new(status, stopping, ShownCallbacks::new(&summary, true))
        };
        assert!(show(&status(true), false).ready);
        assert!(!show(&status(true), true).ready);
        assert!(!show(&status(false), false).ready);
        let failed = Status {
            failed: true,
            ..status(true)
        };
        assert!(!show(&failed, false).ready);
        let nothing_listed = Status {
            certificates: 0,
            ..status(true)
        };
        assert!(!show(&nothing_listed, false).ready);
        let cannot_remember = Status {
            state_file_writable: false,
            ..status(true)
        };
        assert!(!show(&cannot_remember, false).ready);
        let went_back = Status {
            went_back: Some("expected position 7; found no row there".to_owned()),
            ..status(true)
        };
        let shown = show(&went_back, false);
        assert!(!shown.ready);
        assert_eq!(shown.database_went_back, went_back.went_back);
        let shown = serde_json::to_value(show(&status(true), false)).unwrap();
        let callbacks =
            json!({"delivers": true, "active": 3, "disabled": 1, "batchesBehindMax": 7});
        assert_eq!(shown["callbacks"], callbacks);
        assert_eq!(shown["newestBatch"], json!("20201006-7"));
        assert_eq!(shown["identities"], json!(151_000));
        assert_eq!(shown["bundleBudget"], json!(48));
    }
}
