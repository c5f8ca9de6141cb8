//! The country of a subject name that a proxy forwards as text (wire §4.2).
//!
//! Parses RFC 4514 (escapes, hexadecimal pairs, `#` strings, `+`, any order), the older forms with
//! `;` and quotes, blanks, `/C=DE/O=x`, and any of these percent-encoded. Malformed parts are
//! skipped, as in the reference.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// The value of the first non-empty country attribute.
pub(crate) fn country(header: &[u8]) -> Option<String> {
    // The reference always decodes; a malformed percent sequence stays as it is.
    let name = Cow::from(percent_decode(header));
    let name = name.trim_ascii();
    match name.strip_prefix(b"/") {
        Some(parts) => parts.split(|byte| *byte == b'/').find_map(country_value),
        None => split_attributes(name).find_map(country_value),
    }
}

/// Splits at `,`, `;` and `+` that are neither escaped nor inside quotes. A quote that is never
/// closed is a character like any other.
fn split_attributes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let unclosed = bytes_from_last_quote(name);
    let mut rest = Some(name);
    std::iter::from_fn(move || {
        let text = rest?;
        let (attribute, remaining) = match attribute_end(text, unclosed) {
            Some(end) => (text.get(..end)?, text.get(end.saturating_add(1)..)),
            None => (text, None),
        };
        rest = remaining;
        Some(attribute)
    })
}

/// How many bytes begin with the last quote that is not escaped: the only one that can open and not
/// be closed. Known beforehand, so that each byte is read once, whatever the name.
fn bytes_from_last_quote(name: &[u8]) -> usize {
    let (mut escaped, mut rest_bytes) = (false, 0);
    for (at, byte) in name.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => rest_bytes = name.len().saturating_sub(at),
            _ => {}
        }
    }
    rest_bytes
}

/// Where the first attribute ends; `None` when it is the last. A quote opens only where more than
/// `unclosed` bytes are left.
fn attribute_end(text: &[u8], unclosed: usize) -> Option<usize> {
    let (mut escaped, mut quoted, mut value_begins) = (false, false, false);
    for (at, byte) in text.iter().enumerate() {
        if escaped {
            escaped = false;
            value_begins = false;
            continue;
        }
        let closes_later = text.len().saturating_sub(at) > unclosed;
        match byte {
            b'\\' => escaped = true,
            b'"' if quoted || (value_begins && closes_later) => {
                quoted = !quoted;
                value_begins = false;
            }
            b',' | b';' | b'+' if !quoted => return Some(at),
            b'=' if !quoted => value_begins = true,
            byte if !byte.is_ascii_whitespace() => value_begins = false,
            _ => {}
        }
    }
    None
}

/// The decoded value of a `C=…` attribute; `None` for other attributes and for an empty value.
fn country_value(attribute: &[u8]) -> Option<String> {
    let equals = attribute.iter().position(|byte| *byte == b'=')?;
    let (kind, value) = attribute.split_at_checked(equals)?;
    let value = value.get(1..)?.trim_ascii();
    if !is_country(kind.trim_ascii()) {
        return None;
    }
    let plain = match value.strip_prefix(b"#") {
        Some(digits) => encoded_value(digits)?,
        None => unescape(unquote(value)),
    };
    let text = String::from_utf8_lossy(plain.trim_ascii()).into_owned();
    (!text.is_empty()).then_some(text)
}

fn is_country(kind: &[u8]) -> bool {
    let names: [&[u8]; 4] = [b"C", b"countryName", b"2.5.4.6", b"OID.2.5.4.6"];
    names.iter().any(|name| kind.eq_ignore_ascii_case(name))
}

fn unquote(value: &[u8]) -> &[u8] {
    let inner = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    inner.unwrap_or(value)
}

/// Resolves `\44` and `\,` (RFC 4514 §3).
fn unescape(value: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [byte, after @ ..] = rest {
        rest = after;
        match (byte, after) {
            (b'\\', [high, low, tail @ ..]) if hex_pair(*high, *low).is_some() => {
                plain.extend(hex_pair(*high, *low));
                rest = tail;
            }
            (b'\\', [escaped, tail @ ..]) => {
                plain.push(*escaped);
                rest = tail;
            }
            _ => plain.push(*byte),
        }
    }
    plain
}

/// The contents of a BER string written as `#13024445`: tag, length below 128, octets.
fn encoded_value(digits: &[u8]) -> Option<Vec<u8>> {
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => hex_pair(*high, *low),
        _ => None,
    });
    let bytes: Vec<u8> = pairs.collect::<Option<_>>()?;
    match bytes.as_slice() {
        [_tag, length, contents @ ..] if usize::from(*length) == contents.len() => {
            Some(contents.to_vec())
        }
        _ => None,
    }
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = digit(high)?.checked_mul(16)?.checked_add(digit(low)?)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(header: &str, expected: Option<&str>) {
        let found = country(header.as_bytes());
        assert_eq!(found.as_deref(), expected, "{header:.100?}");
    }

    /// Wire §4.2, row by row, and more.
    #[test]
    fn finds_the_country_in_the_reference_s_table() {
        for header in [
            "C=DE,O=x",
            "O=x,C=DE",
            "c = DE , O=x",
            "O%3Dx%2CC%3DDE",
            "U=,TR,C=DE",
            "O=a,O=b,C=DE",
            "C=DE,C=FR",
            "O=a=b,C=DE",
            "/C=DE/O=x",
            "C=DE+CN=x",
            "OU=x\\,C=FR,C=DE",
        ] {
            check(header, Some("DE"));
        }
        check("C=,O=x", None);
    }

    /// What clients send (clients §1.6).
    #[test]
    fn finds_the_country_in_what_clients_send() {
        check("C=ES", Some("ES"));
        check("C=FI,CN=koronavilkku.dev,O=koronavilkku dev", Some("FI"));
        check("CN=efgs-auth,OU=IT,O=NL Org,L=Den Haag,C=NL", Some("NL"));
    }

    #[test]
    fn parses_the_forms_of_rfc_4514_and_older_ones() {
        for header in [
            "CN=x+C=DE,O=y",
            "C=\\44\\45,O=x",
            "C=#13024445",
            "2.5.4.6=DE",
            "OID.2.5.4.6=#0c024445, O=x",
            "countryName=DE",
            "O=\"Ministry, C=FR\",C=DE",
            "O = \"a;b\" ; C = \"DE\"",
            "CN=a\\\\,C=DE",
            "CN=a\\+C\\=FR,C=DE",
            "CN=a\\2cC\\3dFR,C=DE",
            "/O=Health Org/CN=a, C=FR/C=DE",
            "C=DE,O=M\u{fc}nster",
            "O=100%,C=DE",
            "O=%zz,C=DE",
            "CN=My%20Name,C=DE%",
        ] {
            let expected = if header.ends_with("DE%") { "DE%" } else { "DE" };
            check(header, Some(expected));
        }
    }

    #[test]
    fn tolerates_an_unclosed_quote() {
        check("O=\"broken,C=DE", Some("DE"));
        check("O=12\" records,C=DE", Some("DE"));
        check("O=\"a, C=FR\"+CN=\"broken,C=DE", Some("DE"));
        check("O=\"escaped\\\",C=DE", Some("DE"));
    }

    /// Reading each attribute to the end of the name, for its closing quote, would take minutes.
    #[test]
    fn reads_each_byte_once() {
        for repeated in ["\"=,", "=\",x\"", "O=\",", "+=\"\\\"", "=\\\"", ",=%22"] {
            let name = repeated.repeat(1 << 16) + "=\"";
            let begun = std::time::Instant::now();
            check(&name, None);
            assert!(begun.elapsed().as_secs() < 5, "{repeated}");
        }
    }

    #[test]
    fn finds_nothing_where_there_is_no_country() {
        for header in [
            "",
            ",",
            "=",
            "/",
            "+",
            "C",
            "C=",
            "C=,C= ,",
            "DC=DE",
            "O=C\\=DE",
            "C=#zz",
            "C=#1303",
            "C=#130244",
            "CN=x\\",
            "(null)",
        ] {
            check(header, None);
        }
        check("C=#1302444,C=DE", Some("DE"));
        check("C=,C=DE", Some("DE"));
    }

    proptest! {
        #[test]
        fn survives_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = country(&bytes);
        }

        #[test]
        fn survives_any_mixture_of_special_characters(text in "[C=DE,;+/\\\\\"#%4 ]{0,60}") {
            let _ = country(text.as_bytes());
        }
    }
}
