//! What hostile headers and queries are fed to, and what must hold. Shared by the seeded tests below
//! and by the fuzz targets; not in release programs.

#[cfg(test)]
mod tests;

use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request};

use crate::delivery::UrlError;
use crate::{delivery, message, negotiate, participant};

/// The subject of a certificate, as a proxy forwards it.
///
/// # Panics
/// When more comes out than went in.
pub fn certificate_name(text: &[u8]) {
    if let Some(country) = participant::distinguished_name::country(text) {
        // An invalid UTF-8 byte becomes a replacement character of three bytes.
        assert!(country.len() <= text.len() * 3);
    }
}

/// The certificate of a client, as a proxy forwards it.
pub fn forwarded_certificate(text: &[u8]) {
    let _thumbprint = participant::client_certificate::thumbprint(text);
}

/// A media type, or several.
pub fn media_type(text: &[u8]) {
    if let Some(headers) = headers(CONTENT_TYPE, text) {
        let _format = negotiate::upload_format(&headers);
    }
    if let Some(headers) = headers(ACCEPT, text) {
        let _json = negotiate::json_answer(&headers);
        let _format = negotiate::download_format(&headers);
    }
}

/// The framing and the host of a message.
pub fn framing(text: &[u8]) {
    for name in [HOST, TRANSFER_ENCODING] {
        if let Some(headers) = headers(name, text) {
            let mut request = Request::new(());
            *request.headers_mut() = headers;
            let _checked = message::check(&request);
        }
    }
}

fn headers(name: HeaderName, text: &[u8]) -> Option<HeaderMap> {
    let value = HeaderValue::from_bytes(text).ok()?;
    Some(HeaderMap::from_iter([(name, value)]))
}

/// A callback URL.
///
/// # Panics
/// When its host is none.
pub fn callback_url(text: &str) {
    match delivery::parse_url(text) {
        Ok(host) => assert!(!host.is_empty() && !host.contains(['/', '@', '%', '[', ' '])),
        Err(error) => assert!(!matches!(
            error,
            UrlError::Unresolvable | UrlError::NotPublic
        )),
    }
}
