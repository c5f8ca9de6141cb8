//! The caller: an onboarded backend, authenticated per request.
//!
//! - *In*: how the request arrived ([`Arrival`]), its headers, the current certificate list, so
//!   that a revocation reaches open connections.
//! - *Out*: [`Participant`]: country and thumbprint of a listed AUTHENTICATION certificate.
//! - *Refuses*: whatever fails the checks of wire §4, in its order, and certificates
//!   outside their validity (defect A-4 of the reference).
//! - *Assumes*: on the public port, the TLS handshake proved possession of the certificate's key.
//! - *Runs on*: a tokio thread; nothing blocks.

pub(crate) mod client_certificate;
pub(crate) mod distinguished_name;
mod error;
mod lenient_base64;
mod proxy;

use std::borrow::Cow;

use engine::domain::{CertificateKind, Country, Thumbprint, UnixMillis};
use engine::trust::{ListedCertificate, Trust};
use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) use error::AuthenticationError;
pub(crate) use proxy::{ProxyPeer, ProxyTrust};

/// An authenticated backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Participant {
    /// The country as its certificate row spells it.
    pub(crate) country: Country,
    /// Its authentication certificate.
    pub(crate) thumbprint: Thumbprint,
}

/// How a request arrived: through which listener, and from whom.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arrival {
    /// Public port: the certificate that the TLS client presented, if any.
    MutualTls(Option<Thumbprint>),
    /// Port or socket of the proxy.
    Proxy(ProxyPeer),
    /// Operations port: requests are not authenticated there.
    Operations,
}

/// Authenticates one request.
///
/// # Errors
/// [`AuthenticationError`], the first that applies.
pub(crate) fn authenticate(
    arrival: Arrival,
    headers: &HeaderMap,
    proxy_trust: Option<&ProxyTrust>,
    trust: &Trust,
    now: UnixMillis,
) -> Result<Participant, AuthenticationError> {
    let (thumbprint, forwarded) = match (arrival, proxy_trust) {
        // Identity headers are ignored here: several clients always send them.
        (Arrival::MutualTls(presented), _) => (
            presented.ok_or(AuthenticationError::NoClientCertificate)?,
            None,
        ),
        (Arrival::Proxy(peer), Some(proxy_trust)) => {
            let forwarded = proxy_trust.read(peer, headers)?;
            (forwarded.thumbprint, Some(forwarded))
        }
        (Arrival::Proxy(_) | Arrival::Operations, _) => {
            return Err(AuthenticationError::UntrustedPeer);
        }
    };
    // First, so that the subject name of an unlisted certificate is never parsed.
    let listed = trust.find(&thumbprint, CertificateKind::Authentication);
    let listed = listed.ok_or(AuthenticationError::UnknownCertificate)?;
    let country = match forwarded {
        Some(forwarded) => forwarded.country()?,
        None => None,
    };
    let country = check_listed(listed, country.as_deref(), now)?;
    Ok(Participant {
        country,
        thumbprint,
    })
}

/// The reference's events (wire §18.3), with the identity that the peer claims.
pub(crate) fn log(
    outcome: &Result<Participant, AuthenticationError>,
    arrival: Arrival,
    headers: &HeaderMap,
    proxy_trust: Option<&ProxyTrust>,
) {
    match outcome {
        // One per request is too much for the log of a busy gateway.
        Ok(_) if !tracing::enabled!(tracing::Level::DEBUG) => {}
        Ok(participant) => {
            let country = participant.country;
            let (name, thumbprint) = claimed_identity(arrival, headers, proxy_trust);
            let message = "Successful Authentication";
            tracing::debug!(%country, dnString = %name, thumbprint = %thumbprint, "{message}");
        }
        Err(error) => {
            let (name, thumbprint) = claimed_identity(arrival, headers, proxy_trust);
            let unreadable = *error == AuthenticationError::NoForwardedIdentity
                && !name.is_empty()
                && !thumbprint.is_empty();
            let message = if unreadable {
                "Could not normalize certificate hash."
            } else {
                error.event()
            };
            // A request without any identity comes from no participant: not worth a warning.
            if name.is_empty() && thumbprint.is_empty() {
                tracing::info!(dnString = "", thumbprint = "", "{message}");
            } else {
                tracing::warn!(dnString = %name, thumbprint = %thumbprint, "{message}");
            }
        }
    }
}

/// The claimed subject name and thumbprint, as sent; empty where there is none, all values where
/// there are several.
fn claimed_identity<'a>(
    arrival: Arrival,
    headers: &'a HeaderMap,
    proxy_trust: Option<&ProxyTrust>,
) -> (Cow<'a, str>, Cow<'a, str>) {
    let claimed = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let first = String::from_utf8_lossy(values.next().unwrap_or_default());
        values.fold(first, |text, value| {
            text + ", " + String::from_utf8_lossy(value)
        })
    };
    match (arrival, proxy_trust) {
        (Arrival::MutualTls(Some(thumbprint)), _) => ("".into(), thumbprint.to_string().into()),
        (Arrival::Proxy(_), Some(proxy)) if proxy.certificate_header.is_some() => {
            ("".into(), proxy.thumbprint_text(headers).into())
        }
        (Arrival::Proxy(_), Some(proxy)) => (
            claimed(&proxy.distinguished_name_header),
            claimed(&proxy.thumbprint_header),
        ),
        (Arrival::MutualTls(None) | Arrival::Proxy(_) | Arrival::Operations, _) => {
            ("".into(), "".into())
        }
    }
}

/// Checks the row that was found, and returns its country.
fn check_listed(
    listed: &ListedCertificate,
    forwarded_country: Option<&str>,
    now: UnixMillis,
) -> Result<Country, AuthenticationError> {
    let row_country = listed.row.country;
    let is_same = |text: &str| text.eq_ignore_ascii_case(row_country.as_str());
    if !listed.is_intact() || !forwarded_country.is_none_or(is_same) {
        Err(AuthenticationError::UnknownCertificate)
    } else if listed.is_revoked() {
        Err(AuthenticationError::RevokedCertificate)
    } else if listed.is_valid_at(now) {
        Ok(row_country)
    } else if now < listed.not_before {
        Err(AuthenticationError::NotYetValid)
    } else {
        Err(AuthenticationError::Expired)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::trust::{CertificateRow, RowFault};

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_602_000_000_000);

    fn listed() -> ListedCertificate {
        ListedCertificate {
            row: CertificateRow {
                thumbprint: Thumbprint([7; 32]),
                country: Country::parse("DE").unwrap(),
                kind: CertificateKind::Authentication,
                pem: Arc::from(""),
                operator_signature: Arc::from(""),
                revoked_at: None,
            },
            not_before: UnixMillis(NOW.0 - 1000),
            not_after: UnixMillis(NOW.0 + 1000),
            fault: None,
        }
    }

    fn check(change: impl Fn(&mut ListedCertificate), expected: Result<&str, AuthenticationError>) {
        let mut listed = listed();
        change(&mut listed);
        let checked = check_listed(&listed, None, NOW);
        assert_eq!(
            checked,
            expected.map(|country| Country::parse(country).unwrap())
        );
    }

    #[test]
    fn accepts_a_listed_certificate() {
        check(|_| {}, Ok("DE"));
    }

    #[test]
    fn refuses_tampered_rows_as_unknown() {
        let unknown = AuthenticationError::UnknownCertificate;
        check(
            |listed| listed.fault = Some(RowFault::OperatorSignature),
            Err(unknown),
        );
        let tampered_and_revoked = |listed: &mut ListedCertificate| {
            listed.fault = Some(RowFault::OperatorSignature);
            listed.row.revoked_at = Some(NOW);
        };
        check(tampered_and_revoked, Err(unknown));
    }

    #[test]
    fn refuses_revoked_expired_and_future_certificates() {
        let revoked = |listed: &mut ListedCertificate| listed.row.revoked_at = Some(NOW);
        check(revoked, Err(AuthenticationError::RevokedCertificate));
        check(
            |listed| listed.not_after = UnixMillis(NOW.0 - 1000),
            Err(AuthenticationError::Expired),
        );
        check(
            |listed| listed.not_before = UnixMillis(NOW.0 + 1),
            Err(AuthenticationError::NotYetValid),
        );
    }

    #[test]
    fn compares_the_forwarded_country_without_letter_case() {
        let listed = listed();
        for (country, admitted) in [("DE", true), ("de", true), ("DK", false), ("DE ", false)] {
            let checked = check_listed(&listed, Some(country), NOW);
            assert_eq!(checked.is_ok(), admitted, "{country}");
        }
        let checked = check_listed(&listed, Some("de"), NOW).unwrap();
        assert_eq!(checked.as_str(), "DE");
    }

    #[test]
    fn requires_a_certificate_whatever_the_headers_claim() {
        let mut headers = HeaderMap::new();
        headers.insert("x-ssl-client-sha256", "00".repeat(32).parse().unwrap());
        headers.insert("x-ssl-client-dn", "C=DE".parse().unwrap());
        let trust = Trust::default();
        let outcome = authenticate(Arrival::MutualTls(None), &headers, None, &trust, NOW);
        assert_eq!(outcome, Err(AuthenticationError::NoClientCertificate));
        let outcome = authenticate(Arrival::Operations, &headers, None, &trust, NOW);
        assert_eq!(outcome, Err(AuthenticationError::UntrustedPeer));
    }
}
