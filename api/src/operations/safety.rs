//! What keeps web pages of others away from the operations port, which has no authentication and which an
//! operator's browser can reach.
//!
//! A page cannot read another origin's answers, but its name can be made to resolve to this port's address
//! (DNS rebinding): then the port would be its own origin. Such a request carries the page's name, so that
//! only requests under an address or a name that nobody outside can register are answered.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};

use crate::{openapi, response};

const WRONG_HOST: &str =
    "this port answers under addresses, names without a dot and those of [operations] hosts\n";

/// What load balancers ask, under whatever name they know the gateway by: the status is theirs to know,
/// and the body is left out under an unknown name.
const PROBES: [&str; 2] = ["/health", "/ready"];

/// Names under which the port may be asked.
#[derive(Debug)]
pub(crate) struct KnownHosts(Vec<String>);

impl KnownHosts {
    pub(crate) fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a host is an address, a name that has no dot or is below `localhost`, or known.
    fn contains(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        address.parse::<IpAddr>().is_ok()
            || !host.contains('.')
            || host.ends_with(".localhost")
            || self.0.contains(&host)
    }

    /// Requests without a host, or with an empty one, are none of a browser.
    fn admits(&self, request: &Request<Body>) -> bool {
        if let Some(host) = request.uri().host() {
            return self.contains(host);
        }
        let mut hosts = request.headers().get_all(header::HOST).iter();
        hosts.all(|host| {
            if host.is_empty() {
                return true;
            }
            let host = host.to_str().ok().map(str::parse::<Authority>);
            host.is_some_and(|host| host.is_ok_and(|host| self.contains(host.host())))
        })
    }
}

/// Answers a request if it is under a known name, and tells browsers what the answer may do.
pub(super) async fn answer(
    State(hosts): State<Arc<KnownHosts>>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let is_probe = PROBES.contains(&request.uri().path());
    let mut response = match (hosts.admits(&request), is_probe) {
        (true, _) => next.run(request).await,
        (false, true) => response::without_body(next.run(request).await),
        (false, false) => response::wrong_host(WRONG_HOST),
    };
    protect(response.headers_mut());
    response
}

fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
}

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// Only scripts and styles of this port run, and those inside the page of the API description, which are
/// named by their digests; nothing is loaded from elsewhere, and nobody may show the pages in a frame.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; script-src 'self' {}; style-src 'self' {}; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        digest(openapi::PAGE, "script"),
        digest(openapi::PAGE, "style")
    );
    HeaderValue::from_str(&policy).expect("a policy is visible ASCII")
});

/// The digest of the text of an element that a page has once, as a source of a policy.
fn digest(page: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let behind = page.split_once(&open).map(|(_, behind)| behind);
    let text = behind.and_then(|behind| behind.split_once(&close));
    let text = text.map_or("", |(text, _)| text);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    format!("'sha256-{}'", STANDARD.encode(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_addresses_and_names_that_nobody_can_register() {
        let hosts = KnownHosts::new(&["EFGS.example.eu".to_owned()]);
        for host in [
            "127.0.0.1",
            "[::1]",
            "localhost",
            "efgs",
            "a.localhost",
            "efgs.example.eu",
            "EFGS.EXAMPLE.EU.",
        ] {
            assert!(hosts.contains(host), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "example.eu",
        ] {
            assert!(!hosts.contains(host), "{host}");
        }
    }

    #[test]
    fn looks_at_every_host_of_a_request() {
        let hosts = KnownHosts::new(&[]);
        let admits = |uri: &str, sent: &[&str]| {
            let mut request = Request::builder().uri(uri);
            for host in sent {
                request = request.header("host", *host);
            }
            hosts.admits(&request.body(Body::empty()).unwrap())
        };
        assert!(admits("/ready", &[]));
        assert!(admits("/ready", &[""]));
        assert!(admits("/ready", &["127.0.0.1:9090"]));
        assert!(admits("/ready", &["[::1]:9090"]));
        assert!(!admits("/ready", &["evil.example:9090"]));
        assert!(!admits("/ready", &["localhost", "evil.example"]));
        assert!(!admits("http://evil.example/ready", &["localhost"]));
        assert!(!admits("/ready", &["a b"]));
    }

    #[test]
    fn allows_the_description_its_script_and_style_and_nothing_else_inline() {
        let page = openapi::PAGE;
        for element in ["script", "style"] {
            assert_eq!(page.matches(&format!("<{element}")).count(), 1);
            assert!(POLICY.to_str().unwrap().contains(&digest(page, element)));
        }
        for attribute in ["style=", "onclick=", "onload=", "javascript:"] {
            assert!(!page.contains(attribute), "{attribute}");
        }
        assert!(!POLICY.to_str().unwrap().contains("unsafe"));
        // As `openssl dgst -sha256 -binary | base64` gives it.
        let empty = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='";
        assert_eq!(digest("<style></style>", "style"), empty);
    }
}
