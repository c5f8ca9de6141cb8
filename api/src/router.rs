//! Which path goes where (wire behaviour §1).

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::routing::{MethodRouter, get, options, post, put};
use engine::{Clock, Engine};
use http::Response;
use http::request::Parts;

use crate::callback::UrlChecks;
use crate::connection::{InFlight, Patience};
use crate::participant::{self, Arrival, AuthenticationError, Participant, ProxyTrust};
use crate::response::{self, Refusal, RouteError};
use crate::{audit, callback, download, upload};

/// What every request may need.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Set when the proxy port is open.
    pub(crate) proxy_trust: Option<ProxyTrust>,
    pub(crate) url_checks: UrlChecks,
    pub(crate) body_bytes_max: usize,
    pub(crate) patience: Patience,
}

impl Gateway {
    /// Who asks; the outcome is logged.
    ///
    /// # Errors
    /// [`AuthenticationError`].
    pub(crate) fn authenticate(&self, parts: &Parts) -> Result<Participant, AuthenticationError> {
        let arrival = parts.extensions.get::<Arrival>().copied();
        // A request that came through no door of ours is nobody's.
        let arrival = arrival.unwrap_or(Arrival::Operations);
        let trust = self.engine.trust();
        let proxy_trust = self.proxy_trust.as_ref();
        let now = self.clock.now();
        let headers = &parts.headers;
        let outcome = participant::authenticate(arrival, headers, proxy_trust, &trust, now);
        participant::log(&outcome, arrival, headers, proxy_trust);
        outcome
    }

    /// The answer to a refusal.
    pub(crate) fn refuse(&self, refusal: &Refusal) -> Response<Body> {
        response::refuse(refusal, self.clock.now())
    }
}

/// Marks the rest of a request's body as not worth draining.
pub(crate) fn abandon(parts: &Parts) {
    if let Some(in_flight) = parts.extensions.get::<Arc<InFlight>>() {
        in_flight.abandon();
    }
}

/// The routes of the public and the proxy port, each with and without a trailing slash (FI posts
/// to `…/upload/`).
pub(crate) fn routes(gateway: Arc<Gateway>) -> Router {
    let capabilities = options(async || response::capabilities());
    let capabilities = other_methods(capabilities, "OPTIONS");
    let upload = with_options(post(upload::handle), "POST,OPTIONS");
    let download = with_options(get(download::handle), "GET,HEAD,OPTIONS");
    let audit = with_options(get(audit::handle), "GET,HEAD,OPTIONS");
    let callbacks = with_options(get(callback::list), "GET,HEAD,OPTIONS");
    let callback = put(callback::put).delete(callback::delete);
    let callback = with_options(callback, "PUT,DELETE,OPTIONS");
    let mut router = Router::new();
    for (path, route, label) in [
        ("/diagnosiskeys", capabilities, "diagnosiskeys"),
        ("/diagnosiskeys/upload", upload, "upload"),
        ("/diagnosiskeys/download/{date}", download, "download"),
        (
            "/diagnosiskeys/audit/download/{date}/{batch_tag}",
            audit,
            "audit",
        ),
        ("/diagnosiskeys/callback", callbacks, "callback"),
        ("/diagnosiskeys/callback/{id}", callback, "callback"),
    ] {
        let route = measured(route, label);
        router = router
            .route(path, route.clone())
            .route(&format!("{path}/"), route);
    }
    let refused = async |State(gateway): State<Arc<Gateway>>| {
        gateway.refuse(&Refusal::Route(RouteError::NotFound))
    };
    router.fallback(refused).with_state(gateway)
}

type Route = MethodRouter<Arc<Gateway>>;

fn with_options(route: Route, allow: &'static str) -> Route {
    other_methods(route.options(async move || response::options(allow)), allow)
}

fn other_methods(route: Route, allow: &'static str) -> Route {
    route.fallback(async move |State(gateway): State<Arc<Gateway>>| {
        gateway.refuse(&Refusal::Route(RouteError::MethodNotAllowed { allow }))
    })
}

/// Records how long answers take, by route and status.
pub(crate) fn measured<S>(route: MethodRouter<S>, label: &'static str) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    route.layer(middleware::from_fn(
        move |request: Request, next: Next| async move {
            let begun = Instant::now();
            let response = next.run(request).await;
            let status = response.status().as_u16().to_string();
            metrics::histogram!("efgs_request_seconds", "route" => label, "status" => status)
                .record(begun.elapsed().as_secs_f64());
            response
        },
    ))
}
