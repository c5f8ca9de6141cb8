//! Which path leads where (wire §1).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use engine::{Clock, Engine};
use http::request::Parts;
use http::{Method, Request, Response, Uri, header};
use http_body::Body as _;
use percent_encoding::percent_decode_str;
use tower::Service as _;

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
    /// The methods that it takes, as `Allow` lists them.
    pub(crate) methods: &'static str,
    /// What the API description says of its methods; HEAD and OPTIONS speak for themselves.
    pub(crate) operations: &'static [fn() -> Operation],
}

/// What participants ask for.
#[derive(Debug, Clone, Copy)]
enum Target {
    Capabilities,
    Upload,
    Download,
    Audit,
    Callbacks,
    Callback,
}

/// What the public and the proxy port know.
const ENDPOINTS: [(Target, Endpoint); 6] = [
    (
        Target::Capabilities,
        Endpoint {
            path: "/diagnosiskeys",
            methods: "OPTIONS",
            operations: &[describe::capabilities],
        },
    ),
    (
        Target::Upload,
        Endpoint {
            path: "/diagnosiskeys/upload",
            methods: "POST,OPTIONS",
            operations: &[describe::upload],
        },
    ),
    (
        Target::Download,
        Endpoint {
            path: "/diagnosiskeys/download/{date}",
            methods: "GET,HEAD,OPTIONS",
            operations: &[describe::download],
        },
    ),
    (
        Target::Audit,
        Endpoint {
            path: "/diagnosiskeys/audit/download/{date}/{batchTag}",
            methods: "GET,HEAD,OPTIONS",
            operations: &[describe::audit],
        },
    ),
    (
        Target::Callbacks,
        Endpoint {
            path: "/diagnosiskeys/callback",
            methods: "GET,HEAD,OPTIONS",
            operations: &[describe::subscriptions],
        },
    ),
    (
        Target::Callback,
        Endpoint {
            path: "/diagnosiskeys/callback/{id}",
            methods: "PUT,DELETE,OPTIONS",
            operations: &[describe::subscribe, describe::unsubscribe],
        },
    ),
];

/// What the public and the proxy port know, for the API description.
pub(crate) fn endpoints() -> [Endpoint; 6] {
    ENDPOINTS.map(|(_, endpoint)| endpoint)
}

impl Target {
    /// Its name in metrics.
    const fn label(self) -> &'static str {
        match self {
            Self::Capabilities => "diagnosiskeys",
            Self::Upload => "upload",
            Self::Download => "download",
            Self::Audit => "audit",
            Self::Callbacks | Self::Callback => "callback",
        }
    }
}

/// Who answers on a port.
#[derive(Debug, Clone)]
pub(crate) enum Routes {
    /// The public and the proxy port.
    Participants(Arc<Gateway>),
    /// The operations port.
    Operations(Router),
}

impl Routes {
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        match self {
            Self::Participants(gateway) => answer(gateway, request).await,
            Self::Operations(router) => match router.clone().call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
        }
    }
}

/// Answers a participant, and records how long that takes by route and status.
///
/// Six paths need no router of a library: axum's, with a layer to measure, took a tenth of the
/// instructions of a small download.
async fn answer(gateway: &Gateway, request: Request<Body>) -> Response<Body> {
    let begun = Instant::now();
    let (mut parts, body) = request.into_parts();
    merge_slashes(&mut parts.uri);
    let Some((target, endpoint, parameters)) = find(parts.uri.path()) else {
        return gateway.refuse(&Refusal::Route(RouteError::NotFound));
    };
    let answered = dispatch(gateway, target, &endpoint, &parameters, &parts, body).await;
    let mut response = answered.unwrap_or_else(|refusal| gateway.refuse(&refusal));
    if parts.method == Method::HEAD {
        leave_out_body(&mut response);
    }
    record(target.label(), &response, begun);
    response
}

async fn dispatch(
    gateway: &Gateway,
    target: Target,
    endpoint: &Endpoint,
    [first, second]: &Parameters<'_>,
    parts: &Parts,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    match (target, &parts.method) {
        (Target::Capabilities, &Method::OPTIONS) => Ok(response::capabilities()),
        (_, &Method::OPTIONS) => Ok(response::options(endpoint.methods)),
        // Large, and rare beside downloads.
        (Target::Upload, &Method::POST) => Box::pin(upload::answer(gateway, parts, body)).await,
        (Target::Download, &(Method::GET | Method::HEAD)) => {
            download::answer(gateway, parts, first).await
        }
        (Target::Audit, &(Method::GET | Method::HEAD)) => {
            audit::answer(gateway, parts, first, second).await
        }
        (Target::Callbacks, &(Method::GET | Method::HEAD)) => callback::list(gateway, parts).await,
        (Target::Callback, &Method::PUT) => {
            Box::pin(callback::put(gateway, parts, first, body)).await
        }
        (Target::Callback, &Method::DELETE) => callback::delete(gateway, parts, first).await,
        _ => {
            let allow = endpoint.methods;
            Err(Refusal::Route(RouteError::MethodNotAllowed { allow }))
        }
    }
}

/// What stands where a path has braces; what is no UTF-8 is empty.
type Parameters<'a> = [Cow<'a, str>; 2];

/// What a path leads to, with and without a slash at its end: FI posts to `…/upload/`.
fn find(path: &str) -> Option<(Target, Endpoint, Parameters<'_>)> {
    let path = path.strip_suffix('/').unwrap_or(path);
    ENDPOINTS.into_iter().find_map(|(target, endpoint)| {
        let parameters = matching(endpoint.path, path)?;
        Some((target, endpoint, parameters))
    })
}

/// The parameters of a path that is of this pattern. In a pattern they come last, and in a path none
/// of them is empty as it is sent.
fn matching<'a>(pattern: &str, path: &'a str) -> Option<Parameters<'a>> {
    let mut parameters = Parameters::default();
    let Some((literal, names)) = pattern.split_once('{') else {
        return (path == pattern).then_some(parameters);
    };
    let mut segments = path.strip_prefix(literal)?.split('/');
    for (parameter, _) in parameters.iter_mut().zip(names.split('/')) {
        let segment = segments.next().filter(|segment| !segment.is_empty())?;
        *parameter = percent_decode_str(segment)
            .decode_utf8()
            .unwrap_or_default();
    }
    segments.next().is_none().then_some(parameters)
}

/// HEAD: the same head, and the length of what is not sent.
fn leave_out_body(response: &mut Response<Body>) {
    let length = response.body().size_hint().exact();
    if let Some(length) = length {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = Body::empty();
}

fn record(label: &'static str, response: &Response<Body>, begun: Instant) {
    let status = response.status().as_u16().to_string();
    metrics::histogram!("efgs_request_seconds", "route" => label, "status" => status)
        .record(begun.elapsed().as_secs_f64());
}

/// One slash wherever there are several in a path: IT, NL, CH and IE put theirs behind a configured
/// base URL, which may end in a slash. Before routing: a parameter of a path would take
/// nothing between two slashes for its value.
fn merge_slashes(uri: &mut Uri) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_paths_with_and_without_a_slash_at_the_end() {
        let found = |path: &str| {
            find(path).map(|(target, _, [first, second])| {
                (target.label(), first.into_owned(), second.into_owned())
            })
        };
        let expected =
            |label, first: &str, second: &str| Some((label, first.to_owned(), second.to_owned()));
        for slash in ["", "/"] {
            let found = |path: &str| found(&format!("{path}{slash}"));
            assert_eq!(found("/diagnosiskeys"), expected("diagnosiskeys", "", ""));
            assert_eq!(found("/diagnosiskeys/upload"), expected("upload", "", ""));
            assert_eq!(
                found("/diagnosiskeys/download/2020-10-06"),
                expected("download", "2020-10-06", "")
            );
            assert_eq!(
                found("/diagnosiskeys/audit/download/2020-10-06/20201006-1"),
                expected("audit", "2020-10-06", "20201006-1")
            );
            assert_eq!(
                found("/diagnosiskeys/callback"),
                expected("callback", "", "")
            );
            assert_eq!(
                found("/diagnosiskeys/callback/a%2Fb%20%C3%BC"),
                expected("callback", "a/b ü", "")
            );
            assert_eq!(
                found("/diagnosiskeys/callback/%ff"),
                expected("callback", "", "")
            );
        }
    }

    #[test]
    fn knows_no_other_paths() {
        for path in [
            "",
            "/",
            "*",
            "/diagnosiskey",
            "/diagnosiskeys/Upload",
            "/diagnosiskeys/upload/x",
            "/diagnosiskeys/download",
            "/diagnosiskeys/download/",
            "/diagnosiskeys/download/2020-10-06/x",
            "/diagnosiskeys/audit/download/2020-10-06",
            "/diagnosiskeys/audit/download//20201006-1",
            "diagnosiskeys/upload",
            "/x/diagnosiskeys/upload",
        ] {
            assert!(find(path).is_none(), "{path}");
        }
    }

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
