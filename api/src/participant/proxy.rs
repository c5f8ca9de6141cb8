//! Identity from the headers of a proxy that terminates TLS (wire §4).

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use engine::domain::Thumbprint;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode;

use super::error::AuthenticationError;
use super::lenient_base64::BASE64;
use super::{client_certificate, distinguished_name};
use crate::settings::{Network, ProxySecret};

/// Who sent a request to the proxy's port or socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyPeer {
    /// Who connected to the port.
    Address(IpAddr),
    /// Which user connected to the socket, as the system says.
    User(u32),
    /// Whoever it was, the secret was not there, or not right.
    WithoutSecret,
}

/// Which peers to trust, and the names of the headers.
#[derive(Debug)]
pub(crate) struct ProxyTrust {
    /// Empty means: loopback peers only.
    pub(crate) trusted_peers: Vec<Network>,
    /// Users of the socket.
    pub(crate) trusted_users: Vec<u32>,
    pub(crate) secret: Option<ProxySecret>,
    pub(crate) thumbprint_header: HeaderName,
    pub(crate) distinguished_name_header: HeaderName,
    /// With the certificate itself; if set, it counts, and not the two others.
    pub(crate) certificate_header: Option<HeaderName>,
}

/// The identity that a trusted proxy forwards.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forwarded<'a> {
    pub(crate) thumbprint: Thumbprint,
    /// Missing where the certificate itself is forwarded: its list entry says whose it is.
    name: Option<&'a HeaderValue>,
}

impl Forwarded<'_> {
    /// The country of the subject name, in any case; nothing if no name is forwarded.
    ///
    /// # Errors
    /// [`AuthenticationError::NoCountry`].
    pub(crate) fn country(&self) -> Result<Option<String>, AuthenticationError> {
        let country = |name: &HeaderValue| {
            let country = distinguished_name::country(name.as_bytes());
            country.ok_or(AuthenticationError::NoCountry)
        };
        self.name.map(country).transpose()
    }
}

/// Longest subject name, in bytes: those of participants have about a hundred. A longer one, which a
/// proxy may forward of any certificate, is refused unread.
const NAME_BYTES_MAX: usize = 4096;

impl ProxyTrust {
    /// Whether identity headers of a peer are believed.
    pub(crate) fn trusts(&self, peer: ProxyPeer) -> bool {
        let mut peers = self.trusted_peers.iter();
        match peer {
            ProxyPeer::Address(peer) if self.trusted_peers.is_empty() => {
                peer.to_canonical().is_loopback()
            }
            ProxyPeer::Address(peer) => peers.any(|network| network.contains(peer)),
            ProxyPeer::User(user) => self.trusted_users.contains(&user),
            ProxyPeer::WithoutSecret => false,
        }
    }

    /// The thumbprint of the forwarded certificate, for the log; empty if it cannot be read.
    pub(crate) fn thumbprint_text(&self, headers: &HeaderMap) -> String {
        let header = self.certificate_header.as_ref();
        let value = header.and_then(|header| headers.get(header));
        let read = value.and_then(|value| client_certificate::thumbprint(value.as_bytes()).ok());
        read.map(|thumbprint| thumbprint.to_string())
            .unwrap_or_default()
    }

    /// Takes the secret out of a request, so that nothing behind this sees it; returns whether it is
    /// what it has to be. Compared in constant time.
    pub(crate) fn take_secret(&self, headers: &mut HeaderMap) -> bool {
        let Some(ProxySecret { header, value }) = &self.secret else {
            return true;
        };
        let is_right = only(headers, header).is_ok_and(|found| {
            found.is_some_and(|found| {
                verify_slices_are_equal(found.as_bytes(), value.as_bytes()).is_ok()
            })
        });
        headers.remove(header);
        is_right
    }

    /// Reads the header with the certificate, or the two others; the subject name is left for later.
    ///
    /// # Errors
    /// An untrusted peer, a repeated header, a missing header, an invalid thumbprint or certificate, a
    /// name that is too long.
    pub(crate) fn read<'a>(
        &self,
        peer: ProxyPeer,
        headers: &'a HeaderMap,
    ) -> Result<Forwarded<'a>, AuthenticationError> {
        if !self.trusts(peer) {
            return Err(AuthenticationError::UntrustedPeer);
        }
        if let Some(header) = &self.certificate_header {
            let value = only(headers, header)?.ok_or(AuthenticationError::NoForwardedIdentity)?;
            let thumbprint = client_certificate::thumbprint(value.as_bytes())?;
            return Ok(Forwarded {
                thumbprint,
                name: None,
            });
        }
        let thumbprint = only(headers, &self.thumbprint_header)?;
        let name = only(headers, &self.distinguished_name_header)?;
        let thumbprint = thumbprint.and_then(|value| parse_thumbprint(value.as_bytes()));
        let (Some(thumbprint), Some(name)) = (thumbprint, name) else {
            return Err(AuthenticationError::NoForwardedIdentity);
        };
        if name.len() > NAME_BYTES_MAX {
            return Err(AuthenticationError::NameTooLong);
        }
        Ok(Forwarded {
            thumbprint,
            name: Some(name),
        })
    }
}

/// The value of a header that must not be repeated.
fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, AuthenticationError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(AuthenticationError::RepeatedIdentityHeader),
    }
}

/// Parses a SHA-256 as clients and proxies write it: hexadecimal in either case, also with up
/// to four leading zero bytes dropped (defect A-1 of the reference, which ES copies); base64 of
/// either alphabet, padded or not; any of these percent-encoded.
fn parse_thumbprint(value: &[u8]) -> Option<Thumbprint> {
    let text = Cow::from(percent_decode(value));
    let text = text.trim_ascii();
    if text.len() >= HEX_DIGITS_MIN && text.iter().all(u8::is_ascii_hexdigit) {
        let digits = std::str::from_utf8(text).ok()?;
        return Thumbprint::parse_hex(digits)
            .or_else(|_| Thumbprint::parse_hex(&format!("{digits:0>64}")))
            .ok();
    }
    let standard: Vec<u8> = text.iter().map(|byte| to_standard(*byte)).collect();
    let bytes = BASE64.decode(standard).ok()?;
    bytes.try_into().map(Thumbprint).ok()
}

/// Base64 of 32 bytes has at most 44 characters, so there is no ambiguity from 56 on.
const HEX_DIGITS_MIN: usize = 56;

const fn to_standard(byte: u8) -> u8 {
    match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `printf x | openssl dgst -sha256`, and the same as base64.
    const HEX: &str = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    const BASE64_TEXT: &str = "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=";

    #[test]
    fn parses_every_form_of_a_thumbprint() {
        let expected = Thumbprint::parse_hex(HEX).ok();
        for text in [
            HEX.to_owned(),
            HEX.to_uppercase(),
            BASE64_TEXT.to_owned(),
            BASE64_TEXT.trim_end_matches('=').to_owned(),
            BASE64_TEXT.replace('+', "-").replace('/', "_"),
            "LXEWQrcmsEQBYnyp%2B6wy9chTD7GQPMTbAiWHF5IaSIE%3D".to_owned(),
            "LXEWQrcmsEQBYnyp%2b6wy9chTD7GQPMTbAiWHF5IaSIE%3d".to_owned(),
            "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE%3D".to_owned(),
            format!("%32{}", HEX.strip_prefix('2').unwrap()),
        ] {
            assert_eq!(parse_thumbprint(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn restores_the_leading_zeros_that_the_reference_strips() {
        for zeros in 0..=8 {
            let full = format!("{}{}", "0".repeat(zeros), "a".repeat(64 - zeros));
            let expected = Thumbprint::parse_hex(&full).ok();
            assert_eq!(parse_thumbprint(full.as_bytes()), expected);
            assert_eq!(
                parse_thumbprint("a".repeat(64 - zeros).as_bytes()),
                expected,
                "{zeros}"
            );
        }
    }

    #[test]
    fn refuses_invalid_thumbprints() {
        for text in [
            "".to_owned(),
            "%".to_owned(),
            "a".repeat(55),
            "a".repeat(65),
            "g".repeat(64),
            format!("+{}", "a".repeat(63)),
            format!("{BASE64_TEXT}AAAA"),
            "LXEWQrcm sEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=".to_owned(),
            "(null)".to_owned(),
        ] {
            assert_eq!(parse_thumbprint(text.as_bytes()), None, "{text:?}");
        }
    }

    fn trust(peers: &[&str]) -> ProxyTrust {
        ProxyTrust {
            trusted_peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
            trusted_users: vec![33],
            secret: None,
            thumbprint_header: HeaderName::from_static("x-ssl-client-sha256"),
            distinguished_name_header: HeaderName::from_static("x-ssl-client-dn"),
            certificate_header: None,
        }
    }

    fn address(text: &str) -> ProxyPeer {
        ProxyPeer::Address(text.parse().unwrap())
    }

    #[test]
    fn trusts_configured_users_only() {
        let trust = trust(&["0.0.0.1"]);
        assert!(trust.trusts(ProxyPeer::User(33)));
        assert!(!trust.trusts(ProxyPeer::User(0)));
        assert!(!trust.trusts(ProxyPeer::WithoutSecret));
    }

    #[test]
    fn takes_the_secret_and_believes_only_the_right_one() {
        let mut trust = trust(&[]);
        trust.secret = Some(ProxySecret {
            header: HeaderName::from_static("x-proxy-secret"),
            value: "0123456789abcdef".to_owned(),
        });
        let name = "x-proxy-secret";
        for (pairs, is_right) in [
            (&[(name, "0123456789abcdef")][..], true),
            (&[(name, "0123456789abcdeF")], false),
            (&[(name, "0123456789abcde")], false),
            (&[(name, "")], false),
            (&[], false),
            (
                &[(name, "0123456789abcdef"), (name, "0123456789abcdef")],
                false,
            ),
        ] {
            let mut headers = headers(pairs);
            assert_eq!(trust.take_secret(&mut headers), is_right, "{pairs:?}");
            assert!(headers.is_empty());
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    /// The country of the forwarded identity.
    fn read(pairs: &[(&'static str, &'static str)]) -> Result<String, AuthenticationError> {
        let headers = headers(pairs);
        let forwarded = trust(&[]).read(address("127.0.0.1"), &headers)?;
        Ok(forwarded.country()?.unwrap_or_default())
    }

    #[test]
    fn reads_the_certificate_alone_if_it_is_to_be_forwarded() {
        let mut trust = trust(&[]);
        trust.certificate_header = Some(HeaderName::from_static("client-cert"));
        let read = |pairs: &[(&'static str, &'static str)]| {
            let headers = headers(pairs);
            let forwarded = trust.read(address("127.0.0.1"), &headers)?;
            Ok((forwarded.thumbprint, forwarded.country()?))
        };
        let (hash, name) = (("x-ssl-client-sha256", HEX), ("x-ssl-client-dn", "C=DE"));
        // `printf abc | base64` and `printf abc | openssl dgst -sha256`.
        let abc = ("client-cert", ":YWJj:");
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let expected = Thumbprint::parse_hex(sha256).unwrap();
        assert_eq!(read(&[abc, hash, name]), Ok((expected, None)));
        let missing = AuthenticationError::NoForwardedIdentity;
        assert_eq!(read(&[hash, name]), Err(missing));
        let repeated = AuthenticationError::RepeatedIdentityHeader;
        assert_eq!(read(&[abc, abc]), Err(repeated));
    }

    #[test]
    fn requires_both_headers() {
        let (hash, name) = (("x-ssl-client-sha256", HEX), ("x-ssl-client-dn", "C=DE"));
        assert_eq!(read(&[hash, name]).as_deref(), Ok("DE"));
        for pairs in [
            &[][..],
            &[hash],
            &[name],
            &[("x-ssl-client-sha256", "zz"), name],
        ] {
            let refusal = read(pairs).unwrap_err();
            assert_eq!(
                refusal,
                AuthenticationError::NoForwardedIdentity,
                "{pairs:?}"
            );
        }
        let refusal = read(&[hash, ("x-ssl-client-dn", "O=x")]).unwrap_err();
        assert_eq!(refusal, AuthenticationError::NoCountry);
    }

    #[test]
    fn refuses_a_repeated_header() {
        let (hash, name) = (("x-ssl-client-sha256", HEX), ("x-ssl-client-dn", "C=NO"));
        for pairs in [
            [hash, hash, name],
            [hash, name, name],
            [hash, name, ("x-ssl-client-dn", "C=DK")],
        ] {
            let refusal = read(&pairs).unwrap_err();
            assert_eq!(refusal, AuthenticationError::RepeatedIdentityHeader);
        }
    }

    #[test]
    fn trusts_configured_peers_only() {
        let pairs = [("x-ssl-client-sha256", HEX), ("x-ssl-client-dn", "C=DE")];
        for (peers, peer, trusted) in [
            (&[][..], "127.0.0.1", true),
            (&[][..], "::1", true),
            (&[][..], "10.0.0.1", false),
            (&["10.0.0.0/8"][..], "10.0.0.1", true),
            (&["10.0.0.0/8"][..], "127.0.0.1", false),
        ] {
            let headers = headers(&pairs);
            let found = trust(peers).read(address(peer), &headers);
            let untrusted = found == Err(AuthenticationError::UntrustedPeer);
            assert_eq!(!untrusted, trusted, "{peers:?} {peer}");
        }
    }

    proptest! {
        #[test]
        fn survives_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_thumbprint(&bytes);
        }
    }
}
