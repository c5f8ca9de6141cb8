//! The client's certificate itself, as a proxy forwards it in a header (wire §4.0.13).
//!
//! The form is recognised by its first characters:
//!
//! | form | who writes it |
//! | --- | --- |
//! | `:base64:` of the DER | RFC 9440, `Client-Cert`; HAProxy by `:%[ssl_c_der,base64]:` |
//! | base64 of the DER | HAProxy by `%[ssl_c_der,base64]`, traefik |
//! | percent-encoded PEM | nginx, `$ssl_client_escaped_cert` |
//! | `…;Cert="percent-encoded PEM";…` | Envoy, `x-forwarded-client-cert` |

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use engine::domain::Thumbprint;
use percent_encoding::percent_decode_str;

use super::error::AuthenticationError;
use super::lenient_base64::BASE64;

/// Longest value, in bytes: a certificate of an RSA key of 4096 bits has about 3,000 as
/// percent-encoded PEM. A longer one is refused unread.
const VALUE_BYTES_MAX: usize = 16 * 1024;

/// The SHA-256 thumbprint of the certificate. Whether it is a certificate is not looked at: only those
/// of the list have a thumbprint that is found.
///
/// # Errors
/// [`AuthenticationError::NoForwardedIdentity`] for what is none of the forms or too long,
/// [`AuthenticationError::RepeatedIdentityHeader`] for more than one element in Envoy's: one that a
/// client sent comes first, if the proxy appends.
pub(crate) fn thumbprint(value: &[u8]) -> Result<Thumbprint, AuthenticationError> {
    let unreadable = AuthenticationError::NoForwardedIdentity;
    let text = std::str::from_utf8(value).map_err(|_| unreadable)?.trim();
    if text.len() > VALUE_BYTES_MAX {
        return Err(unreadable);
    }
    let der = if let Some(rest) = text.strip_prefix(':') {
        rest.strip_suffix(':').and_then(from_base64)
    } else if text.starts_with("-----BEGIN") {
        from_escaped_pem(text)
    } else if text.contains([';', '"']) {
        from_envoy(text)?
    } else {
        from_base64(text)
    };
    let der = der.filter(|der| !der.is_empty()).ok_or(unreadable)?;
    let sha256 = digest(&SHA256, &der);
    sha256
        .as_ref()
        .try_into()
        .map(Thumbprint)
        .map_err(|_| unreadable)
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

fn from_escaped_pem(text: &str) -> Option<Vec<u8>> {
    let pem = percent_decode_str(text).decode_utf8().ok()?;
    let parsed = pem::parse(pem.as_bytes()).ok()?;
    (parsed.tag() == "CERTIFICATE").then(|| parsed.into_contents())
}

/// The `Cert` of the only element; keys are compared without letter case.
fn from_envoy(text: &str) -> Result<Option<Vec<u8>>, AuthenticationError> {
    let mut is_quoted = false;
    let mut parts = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            // What is escaped is a quote or a backslash, and never in what is looked for.
            '\\' if is_quoted => {
                characters.next();
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => return Err(AuthenticationError::RepeatedIdentityHeader),
            ';' if !is_quoted => parts.push(String::new()),
            other => parts
                .last_mut()
                .into_iter()
                .for_each(|part| part.push(other)),
        }
    }
    if is_quoted {
        return Ok(None);
    }
    let mut certificates = parts.iter().filter_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.eq_ignore_ascii_case("Cert").then_some(value)
    });
    match (certificates.next(), certificates.next()) {
        (_, Some(_)) => Err(AuthenticationError::RepeatedIdentityHeader),
        (certificate, None) => Ok(certificate.and_then(from_escaped_pem)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is forwarded is hashed, whatever it is:
    /// `printf '0\202any octets, with / and + in base64: \373\377\277' | base64`.
    const DER_BASE64: &str = "MIJhbnkgb2N0ZXRzLCB3aXRoIC8gYW5kICsgaW4gYmFzZTY0OiD7/78=";
    /// `openssl dgst -sha256` of the same.
    const SHA256_HEX: &str = "d637e511c27de9ec69409b4b7bd5599120b5f07d6fd47f5fd12f2431700fc9d4";

    const PEM: &str = "-----BEGIN%20CERTIFICATE-----%0A\
        MIJhbnkgb2N0ZXRzLCB3aXRoIC8gYW5kICsgaW4gYmFzZTY0OiD7%2F78%3D%0A\
        -----END%20CERTIFICATE-----%0A";

    #[test]
    fn reads_every_form() {
        let expected = Thumbprint::parse_hex(SHA256_HEX).unwrap();
        let envoy = format!(
            "By=spiffe://x/y;Hash={SHA256_HEX};Subject=\"CN=a\\\"b, c;Cert=x,C=DE\";cert=\"{PEM}\";URI="
        );
        for value in [
            format!(":{DER_BASE64}:"),
            DER_BASE64.to_owned(),
            DER_BASE64.trim_end_matches('=').to_owned(),
            PEM.to_owned(),
            PEM.replace("%20", " ")
                .replace("%2F", "/")
                .replace("%3D", "="),
            envoy,
        ] {
            assert_eq!(thumbprint(value.as_bytes()), Ok(expected), "{value}");
        }
    }

    #[test]
    fn refuses_what_is_no_certificate() {
        for value in [
            String::new(),
            "::".to_owned(),
            format!(":{DER_BASE64}"),
            format!(":{DER_BASE64}:, :{DER_BASE64}:"),
            format!("{DER_BASE64}, {DER_BASE64}"),
            PEM.replace("CERTIFICATE", "PRIVATE%20KEY"),
            "Hash=00;Subject=\"C=DE\"".to_owned(),
            format!("Cert=\"{PEM}"),
            "A".repeat(VALUE_BYTES_MAX + 1),
        ] {
            let refusal = thumbprint(value.as_bytes()).unwrap_err();
            assert_eq!(refusal, AuthenticationError::NoForwardedIdentity, "{value}");
        }
        for value in [
            format!("Hash=00;Cert=\"{PEM}\",Hash=00;Cert=\"{PEM}\""),
            format!("Cert=\"{PEM}\";Cert=\"{PEM}\""),
        ] {
            let refusal = thumbprint(value.as_bytes()).unwrap_err();
            assert_eq!(
                refusal,
                AuthenticationError::RepeatedIdentityHeader,
                "{value}"
            );
        }
    }

    proptest! {
        #[test]
        fn survives_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = thumbprint(&bytes);
        }

        #[test]
        fn survives_what_looks_like_envoys(text in "[a-zA-Z=;,\"\\\\:%-]{0,80}") {
            let _ = thumbprint(text.as_bytes());
        }
    }
}
