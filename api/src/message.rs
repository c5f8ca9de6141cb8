//! The checks of RFC 9112 that hyper leaves to us: message framing and the `Host` field.
//!
//! - *In*: the head of any request, on any port.
//! - *Refuses*: transfer codings other than one `chunked` (RFC 9112 §6.1), and a missing, repeated
//!   or invalid `Host` (RFC 9112 §3.2): an intermediary may interpret such a message differently
//!   (request smuggling).
//! - *Runs on*: a tokio thread; a few comparisons per request.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::Ipv6Addr;

use http::{HeaderMap, HeaderValue, Request, Version, header};

/// Why a message is refused before anything is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageError {
    /// A transfer coding that this gateway does not know.
    TransferCoding,
    /// `chunked` more than once.
    RepeatedChunked,
    /// No `Host` in HTTP/1.1.
    NoHost,
    /// More than one `Host`.
    RepeatedHost,
    /// `Host` is not a host with an optional port.
    InvalidHost,
}

/// Checks the head of a request.
///
/// # Errors
/// [`MessageError`].
pub(crate) fn check<B>(request: &Request<B>) -> Result<(), MessageError> {
    check_transfer_codings(request.headers())?;
    check_host(request.version(), request.headers())
}

fn check_transfer_codings(headers: &HeaderMap) -> Result<(), MessageError> {
    let mut chunked_count = 0_u8;
    for value in headers.get_all(header::TRANSFER_ENCODING) {
        for coding in value.as_bytes().split(|byte| *byte == b',') {
            match coding.trim_ascii() {
                // An empty element of a list counts for nothing (RFC 9110 §5.6.1).
                b"" => {}
                coding if coding.eq_ignore_ascii_case(b"chunked") => {
                    chunked_count = chunked_count.saturating_add(1);
                }
                _ => return Err(MessageError::TransferCoding),
            }
        }
    }
    if chunked_count > 1 {
        return Err(MessageError::RepeatedChunked);
    }
    Ok(())
}

fn check_host(version: Version, headers: &HeaderMap) -> Result<(), MessageError> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        // HTTP/1.0 does not demand it, and HTTP/2 has `:authority`.
        (None, _) if version == Version::HTTP_11 => Err(MessageError::NoHost),
        (None, _) => Ok(()),
        (Some(_), Some(_)) => Err(MessageError::RepeatedHost),
        (Some(host), None) if is_host(host) => Ok(()),
        (Some(_), None) => Err(MessageError::InvalidHost),
    }
}

/// Whether a value is `uri-host [ ":" port ]`, the host possibly empty (RFC 9110 §7.2).
fn is_host(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else {
        return false;
    };
    let (host, port) = match text.rfind([':', ']']).map(|at| text.split_at(at)) {
        Some((host, port)) if port.starts_with(':') => (host, port.get(1..)),
        _ => (text, None),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    port.is_none_or(is_port) && (is_ip_literal(host) || is_name(host))
}

fn is_ip_literal(host: &str) -> bool {
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// A registered name or an IPv4 address: the characters of RFC 3986 §3.2.2.
fn is_name(host: &str) -> bool {
    host.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_head(version: Version, headers: &[(&str, &str)], expected: Result<(), MessageError>) {
        let mut request = Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let checked = check(&request.body(()).unwrap());
        assert_eq!(checked, expected, "{version:?} {headers:?}");
    }

    #[test]
    fn knows_one_transfer_coding() {
        let host = ("host", "h");
        for (value, expected) in [
            ("chunked", Ok(())),
            ("CHUNKED", Ok(())),
            (", chunked ,", Ok(())),
            ("gzip, chunked", Err(MessageError::TransferCoding)),
            ("identity, chunked", Err(MessageError::TransferCoding)),
            ("chunked;q=1", Err(MessageError::TransferCoding)),
            ("chunked, chunked", Err(MessageError::RepeatedChunked)),
            (
                "chunked,chunked,chunked",
                Err(MessageError::RepeatedChunked),
            ),
        ] {
            check_head(
                Version::HTTP_11,
                &[host, ("transfer-encoding", value)],
                expected,
            );
        }
        let twice = [("transfer-encoding", "chunked"); 2];
        let headers = [&[host][..], &twice].concat();
        check_head(
            Version::HTTP_11,
            &headers,
            Err(MessageError::RepeatedChunked),
        );
        let codings = [
            ("transfer-encoding", "gzip"),
            ("transfer-encoding", "chunked"),
        ];
        let headers = [&[host][..], &codings].concat();
        check_head(
            Version::HTTP_11,
            &headers,
            Err(MessageError::TransferCoding),
        );
    }

    #[test]
    fn wants_one_host() {
        check_head(Version::HTTP_11, &[], Err(MessageError::NoHost));
        check_head(Version::HTTP_10, &[], Ok(()));
        check_head(Version::HTTP_2, &[], Ok(()));
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            check_head(version, &[("host", "h")], Ok(()));
            let twice = [("host", "h"), ("host", "h")];
            check_head(version, &twice, Err(MessageError::RepeatedHost));
            let invalid = [("host", "a b")];
            check_head(version, &invalid, Err(MessageError::InvalidHost));
        }
    }

    #[test]
    fn reads_hosts() {
        for valid in [
            "",
            "h",
            "h:",
            "h:443",
            "efgs.example",
            "my_host",
            "10.0.0.1:8090",
            "[::1]",
            "[::1]:443",
            "a%20b",
            ":80",
        ] {
            check_head(Version::HTTP_11, &[("host", valid)], Ok(()));
        }
        for invalid in [
            "a b",
            "h:x",
            "h:80:80",
            "h/x",
            "h?x",
            "h#x",
            "user@h",
            "[::1",
            "::1",
            "[h]",
            "[::1]x",
            "\"h\"",
            "https://h",
            "[::1]:x",
            "[::1%25eth0]",
            "é",
            "<h>",
        ] {
            let expected = Err(MessageError::InvalidHost);
            check_head(Version::HTTP_11, &[("host", invalid)], expected);
        }
    }
}
