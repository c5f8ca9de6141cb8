//! The operations port: health, readiness, metrics, the console, the API description. It needs no
//! authentication, so it listens on loopback by default and shows no key data.

mod console;
mod metrics;
mod safety;
mod shown;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get};
use engine::domain::Country;
use engine::{Clock as _, SystemClock};
use http::Response;
use serde::Serialize;

use crate::negotiate::PLAIN_JSON;
use crate::openapi::describe::{self, HTML, METRICS};
use crate::openapi::endpoint::Endpoint;
use crate::response::RouteError;
use crate::{openapi, response, router};

use console::page;

pub(crate) use console::{Console, run as run_console};
pub(crate) use metrics::Metrics;
pub(crate) use safety::KnownHosts;
pub(crate) use shown::{Shown, gateway_name};

#[derive(Clone)]
struct Operations {
    shown: Arc<Shown>,
    console: Arc<Console>,
    /// The API description.
    document: Arc<openapi::Document>,
}

type Route = MethodRouter<Operations>;

/// The paths of the operations port.
fn endpoints() -> [(Endpoint, Route); 14] {
    let endpoint = |path, operations| Endpoint {
        path,
        methods: "GET,HEAD",
        operations,
    };
    [
        (endpoint("/", &[describe::console]), get(page::html)),
        (
            endpoint("/console.json", &[console::describe_figures]),
            get(figures),
        ),
        (
            endpoint("/console.js", &[describe::console_script]),
            get(page::script),
        ),
        (
            endpoint("/console.css", &[describe::console_style]),
            get(page::style),
        ),
        (
            endpoint("/charts.js", &[describe::charts_script]),
            get(page::charts),
        ),
        (
            endpoint("/elements.js", &[describe::elements_script]),
            get(page::elements),
        ),
        (
            endpoint("/uplot.js", &[describe::uplot_script]),
            get(page::uplot),
        ),
        (
            endpoint("/uplot.css", &[describe::uplot_style]),
            get(page::uplot_style),
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
pub(crate) fn routes(shown: Arc<Shown>, console: Arc<Console>, hosts: KnownHosts) -> Router {
    let participants = router::endpoints(shown.describes_api);
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
            shown,
            console,
            document: Arc::new(openapi::Document::new(&participants, &operators)),
        })
        .layer(from_fn_with_state(Arc::new(hosts), safety::answer))
}

async fn ready(State(operations): State<Operations>) -> Response<Body> {
    let shown = operations.shown.status();
    if shown.ready {
        response::found(PLAIN_JSON, &shown)
    } else {
        response::not_ready(&shown)
    }
}

async fn status(State(operations): State<Operations>) -> Response<Body> {
    response::found(PLAIN_JSON, &operations.shown.status())
}

async fn figures(State(operations): State<Operations>) -> Response<Body> {
    response::found(PLAIN_JSON, &console::look(&operations.console).await)
}

async fn render(State(operations): State<Operations>) -> Response<Body> {
    operations.shown.measure();
    response::text(METRICS, operations.shown.metrics.render())
}

async fn document(State(operations): State<Operations>) -> Response<Body> {
    let country = Country::parse("DE").expect("two letters");
    let today = SystemClock.now().day();
    response::text(PLAIN_JSON, operations.document.on(today, country))
}

#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
}
