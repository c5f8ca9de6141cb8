//! The routes of all ports (wire §1).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use http::request::Parts;
use http::{Method, Request, Response, Uri, header};
use http_body::Body as _;
use percent_encoding::percent_decode_str;
use tower::Service as _;

use crate::description::Shown;
use crate::gateway::Gateway;
use crate::openapi::describe;
use crate::openapi::endpoint::Endpoint;
use crate::response::{self, Refusal, RouteError};
use crate::{audit, callback, description, download, message, openapi, upload};

/// What a path of the participants' ports leads to.
#[derive(Debug, Clone, Copy)]
enum Target {
    Capabilities,
    Upload,
    Download,
    Audit,
    Callbacks,
    Callback,
    Description(Shown),
}

/// The paths of the public and the proxy port.
const ENDPOINTS: [(Target, Endpoint); 9] = [
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
            operations: &[openapi::upload::upload],
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
    (
        Target::Description(Shown::Page),
        Endpoint {
            path: "/diagnosiskeys/docs",
            methods: "GET,HEAD,OPTIONS",
            operations: &[describe::participants_docs],
        },
    ),
    (
        Target::Description(Shown::Document),
        Endpoint {
            path: "/diagnosiskeys/openapi.json",
            methods: "GET,HEAD,OPTIONS",
            operations: &[describe::participants_document],
        },
    ),
    (
        Target::Description(Shown::Proto),
        Endpoint {
            path: "/diagnosiskeys/Efgs.proto",
            methods: "GET,HEAD,OPTIONS",
            operations: &[describe::proto],
        },
    ),
];

/// The paths of the public and the proxy port, for the API description: all but that description's
/// own, if participants are not shown it.
pub(crate) fn endpoints(description_shown: bool) -> Vec<Endpoint> {
    let shown = |target: &Target| description_shown || !target.is_description();
    let endpoints = ENDPOINTS.into_iter().filter(|(target, _)| shown(target));
    endpoints.map(|(_, endpoint)| endpoint).collect()
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
            Self::Description(_) => "description",
        }
    }

    const fn is_description(self) -> bool {
        matches!(self, Self::Description(_))
    }
}

/// The routes of a port.
#[derive(Debug, Clone)]
pub(crate) enum Routes {
    /// The public and the proxy port.
    Participants(Arc<Gateway>),
    /// The operations port.
    Operations(Router),
}

impl Routes {
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        if let Err(error) = message::check(&request) {
            return response::not_http(error);
        }
        match self {
            Self::Participants(gateway) => answer(gateway, request).await,
            Self::Operations(router) => match router.clone().call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
        }
    }
}

/// Answers a participant's request, and records the time by route and status.
///
/// So few paths do not need a router library: axum's, with a layer for metrics, took a tenth of the
/// instructions of a small download.
async fn answer(gateway: &Gateway, request: Request<Body>) -> Response<Body> {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    gateway.take_proxy_secret(&mut parts);
    merge_slashes(&mut parts.uri);
    let found = find(parts.uri.path());
    let found = found.filter(|(target, ..)| gateway.describes_api || !target.is_description());
    let Some((target, endpoint, parameters)) = found else {
        return gateway.refuse(&parts, &Refusal::Route(RouteError::NotFound));
    };
    let answered = dispatch(gateway, target, &endpoint, &parameters, &parts, body).await;
    let mut response = answered.unwrap_or_else(|refusal| gateway.refuse(&parts, &refusal));
    if parts.method == Method::HEAD {
        omit_body(&mut response);
    }
    record(target.label(), &response, started);
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
        // A large future, and rare compared to downloads.
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
        (Target::Description(shown), &(Method::GET | Method::HEAD)) => {
            let document = || openapi::Document::new(&endpoints(true), &[]);
            description::answer(gateway, parts, shown, document)
        }
        _ => {
            let allow = endpoint.methods;
            Err(Refusal::Route(RouteError::MethodNotAllowed { allow }))
        }
    }
}

/// The values of a path's parameters; empty where they are not UTF-8.
type Parameters<'a> = [Cow<'a, str>; 2];

/// Finds a path's target, with or without a trailing slash: FI posts to `…/upload/`.
fn find(path: &str) -> Option<(Target, Endpoint, Parameters<'_>)> {
    let path = path.strip_suffix('/').unwrap_or(path);
    ENDPOINTS.into_iter().find_map(|(target, endpoint)| {
        let parameters = matching(endpoint.path, path)?;
        Some((target, endpoint, parameters))
    })
}

/// The parameters of a path that matches the pattern. Parameters are the last segments of a
/// pattern, and never empty in a path.
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

/// HEAD: the same header, with the length of the omitted body if it is known.
fn omit_body(response: &mut Response<Body>) {
    let length = response.body().size_hint().exact();
    if let Some(length) = length {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = Body::empty();
}

fn record(label: &'static str, response: &Response<Body>, started: Instant) {
    let status = response.status().as_u16().to_string();
    metrics::histogram!("efgs_request_seconds", "route" => label, "status" => status)
        .record(started.elapsed().as_secs_f64());
}

/// Merges repeated slashes in a path: IT, NL, CH and IE append theirs to a configured base URL, which
/// may end in a slash. Done before routing, otherwise two slashes would enclose an empty parameter.
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
    // It was a valid path before, and no character was added.
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_paths_with_and_without_a_trailing_slash() {
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
    fn finds_no_other_paths() {
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
    fn merges_repeated_slashes_of_a_path() {
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
            let merged = with_single_slashes(&uri.parse().unwrap());
            assert_eq!(merged.to_string(), expected);
        }
    }
}
