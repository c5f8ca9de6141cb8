//! Which path goes where (wire behaviour §1).

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::routing::{MethodRouter, get, options, post, put};
use engine::{Clock, Engine};
use http::request::Parts;
use http::{Response, Uri};

use crate::callback::UrlChecks;
use crate::connection::{InFlight, Patience};
use crate::openapi::describe::{self, Operation};
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
    /// Who asks; the outcome is logged, and the connection of somebody may rest.
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
        if let (Ok(_), Some(in_flight)) = (&outcome, parts.extensions.get::<Arc<InFlight>>()) {
            in_flight.note_authenticated();
        }
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

/// A path that a port knows, and what it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoint {
    /// Parameters stand in braces.
    pub(crate) path: &'static str,
    /// Its name in metrics.
    pub(crate) label: &'static str,
    /// The methods that it takes, as `Allow` lists them.
    pub(crate) methods: &'static str,
    /// What the API description says of its methods; HEAD and OPTIONS speak for themselves.
    pub(crate) operations: &'static [fn() -> Operation],
}

type Route = MethodRouter<Arc<Gateway>>;

/// What the public and the proxy port know.
pub(crate) fn endpoints() -> [(Endpoint, Route); 6] {
    let endpoint = |path, label, methods, operations| Endpoint {
        path,
        label,
        methods,
        operations,
    };
    [
        (
            endpoint(
                "/diagnosiskeys",
                "diagnosiskeys",
                "OPTIONS",
                &[describe::capabilities],
            ),
            options(async || response::capabilities()),
        ),
        (
            endpoint(
                "/diagnosiskeys/upload",
                "upload",
                "POST,OPTIONS",
                &[describe::upload],
            ),
            with_options(post(upload::handle), "POST,OPTIONS"),
        ),
        (
            endpoint(
                "/diagnosiskeys/download/{date}",
                "download",
                "GET,HEAD,OPTIONS",
                &[describe::download],
            ),
            with_options(get(download::handle), "GET,HEAD,OPTIONS"),
        ),
        (
            endpoint(
                "/diagnosiskeys/audit/download/{date}/{batchTag}",
                "audit",
                "GET,HEAD,OPTIONS",
                &[describe::audit],
            ),
            with_options(get(audit::handle), "GET,HEAD,OPTIONS"),
        ),
        (
            endpoint(
                "/diagnosiskeys/callback",
                "callback",
                "GET,HEAD,OPTIONS",
                &[describe::subscriptions],
            ),
            with_options(get(callback::list), "GET,HEAD,OPTIONS"),
        ),
        (
            endpoint(
                "/diagnosiskeys/callback/{id}",
                "callback",
                "PUT,DELETE,OPTIONS",
                &[describe::subscribe, describe::unsubscribe],
            ),
            with_options(
                put(callback::put).delete(callback::delete),
                "PUT,DELETE,OPTIONS",
            ),
        ),
    ]
}

/// The routes of the public and the proxy port, each with and without a trailing slash (FI posts
/// to `…/upload/`). What they get has single slashes ([`merge_slashes`]).
pub(crate) fn routes(gateway: Arc<Gateway>) -> Router {
    let mut router = Router::new();
    for (endpoint, route) in endpoints() {
        let route = measured(only(route, endpoint.methods), endpoint.label);
        router = router
            .route(endpoint.path, route.clone())
            .route(&format!("{}/", endpoint.path), route);
    }
    router.fallback(not_found).with_state(gateway)
}

/// One slash wherever there are several in a path: IT, NL, CH and IE put theirs behind a configured
/// base URL, which may end in a slash. Before routing: a parameter of a path would take
/// nothing between two slashes for its value.
pub(crate) fn merge_slashes(uri: &mut Uri) {
    if uri.path().contains("//") {
        *uri = with_single_slashes(uri);
    }
}

fn with_single_slashes(uri: &Uri) -> Uri {
    let mut path = String::with_capacity(uri.path().len());
    for character in uri.path().chars() {
        if character != '/' || !path.ends_with('/') {
            path.push(character);
        }
    }
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = path.parse().ok();
    // It was one before, and has no new characters.
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

fn with_options(route: Route, allow: &'static str) -> Route {
    route.options(async move || response::options(allow))
}

/// Refuses every other method.
pub(crate) fn only<S>(route: MethodRouter<S>, allow: &'static str) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    let refusal = RouteError::MethodNotAllowed { allow };
    route.fallback(async move || response::no_route(refusal))
}

/// The answer where there is nothing.
pub(crate) async fn not_found() -> Response<Body> {
    response::no_route(RouteError::NotFound)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_several_slashes_of_a_path_for_one() {
        for (uri, expected) in [
            ("//diagnosiskeys///upload//", "/diagnosiskeys/upload/"),
            (
                "/callback//1?url=https://h//x",
                "/callback/1?url=https://h//x",
            ),
            ("https://h//a", "https://h/a"),
            ("/a/%2F/b", "/a/%2F/b"),
            ("///", "/"),
            ("*", "*"),
        ] {
            let made = with_single_slashes(&uri.parse().unwrap());
            assert_eq!(made.to_string(), expected);
        }
    }
}
