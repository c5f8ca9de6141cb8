//! Identity from the headers of a proxy that terminates TLS (wire §4).

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::net::IpAddr;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use engine::domain::Thumbprint;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode;

use super::distinguished_name;
use super::error::AuthenticationError;
use crate::settings::Network;

/// Which peers to trust, and the names of the headers.
#[derive(Debug)]
pub(crate) struct ProxyTrust {
    /// Empty means: loopback peers only.
    pub(crate) trusted_peers: Vec<Network>,
    pub(crate) thumbprint_header: HeaderName,
    pub(crate) distinguished_name_header: HeaderName,
}

/// The identity that a trusted proxy forwards.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forwarded<'a> {
    pub(crate) thumbprint: Thumbprint,
    name: &'a HeaderValue,
}

impl Forwarded<'_> {
    /// The country of the subject name, in any case.
    ///
    /// # Errors
    /// [`AuthenticationError::NoCountry`].
    pub(crate) fn country(&self) -> Result<String, AuthenticationError> {
        let country = distinguished_name::country(self.name.as_bytes());
        country.ok_or(AuthenticationError::NoCountry)
    }
}

/// Longest subject name, in bytes: those of participants have about a hundred. A longer one, which a
/// proxy may forward of any certificate, is refused unread.
const NAME_BYTES_MAX: usize = 4096;

impl ProxyTrust {
    /// Whether identity headers of a peer are believed.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        if self.trusted_peers.is_empty() {
            return peer.to_canonical().is_loopback();
        }
        self.trusted_peers
            .iter()
            .any(|network| network.contains(peer))
    }

    /// Reads the two headers; the subject name is left for later.
    ///
    /// # Errors
    /// An untrusted peer, a repeated header, a missing header or an invalid thumbprint, a name that
    /// is too long.
    pub(crate) fn read<'a>(
        &self,
        peer: IpAddr,
        headers: &'a HeaderMap,
    ) -> Result<Forwarded<'a>, AuthenticationError> {
        if !self.trusts(peer) {
            return Err(AuthenticationError::UntrustedPeer);
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
        Ok(Forwarded { thumbprint, name })
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

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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
    fn parses_every_spelling_of_a_thumbprint() {
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
            thumbprint_header: HeaderName::from_static("x-ssl-client-sha256"),
            distinguished_name_header: HeaderName::from_static("x-ssl-client-dn"),
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
        let forwarded = trust(&[]).read("127.0.0.1".parse().unwrap(), &headers)?;
        forwarded.country()
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
            let found = trust(peers).read(peer.parse().unwrap(), &headers);
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
