//! What a batch signature covers (wire §9).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::protobuf::{DiagnosisKey, Malformed, keys};

/// What is signed of a body: the texts of its keys, in signing order.
///
/// # Errors
/// When the body is not a batch of diagnosis keys.
pub fn signed_bytes(body: &[u8]) -> Result<Vec<u8>, Malformed> {
    let texts = in_signing_order(body)?;
    Ok(texts.into_iter().flat_map(|text| text.bytes).collect())
}

/// The canonical texts of a body's keys, in signing order.
///
/// # Errors
/// When the body is not a batch of diagnosis keys.
pub fn canonical_texts(body: &[u8]) -> Result<Vec<String>, Malformed> {
    let texts = in_signing_order(body)?.into_iter();
    texts
        .map(|text| String::from_utf8(text.bytes).map_err(|_| Malformed))
        .collect()
}

fn in_signing_order(body: &[u8]) -> Result<Vec<Text>, Malformed> {
    let mut texts: Vec<_> = keys(body)?.iter().map(Text::of).collect();
    texts.sort_by(|a, b| {
        a.rank
            .cmp(&b.rank)
            .then_with(|| a.encoded().cmp(&b.encoded()))
    });
    Ok(texts)
}

/// The text of a key, and its sort key.
struct Text {
    bytes: Vec<u8>,
    /// The first eight characters of its own base64, by which nearly all texts differ.
    rank: [u8; 8],
}

impl Text {
    fn of(key: &DiagnosisKey<'_>) -> Self {
        let countries = key.visited_countries.join(",");
        let mut text = String::with_capacity(128);
        let fields: [&[u8]; 8] = [
            key.key_data,
            &key.rolling_start.to_be_bytes(),
            &key.rolling_period.to_be_bytes(),
            &key.risk_level.to_be_bytes(),
            countries.as_bytes(),
            key.origin.as_bytes(),
            &key.report_type.to_be_bytes(),
            &key.days_since_onset.to_be_bytes(),
        ];
        for field in fields {
            STANDARD.encode_string(field, &mut text);
            text.push('.');
        }
        let bytes = text.into_bytes();
        let mut rank = [0; 8];
        STANDARD
            .encode_slice(&bytes[..6], &mut rank)
            .expect("six bytes are eight characters of base64");
        Self { bytes, rank }
    }

    /// Keys are ordered by the base64 of their texts.
    fn encoded(&self) -> String {
        STANDARD.encode(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Signed batches of OpenSSL and BouncyCastle, with the bytes that they signed.
    #[test]
    fn signs_what_other_implementations_sign() {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../engine/tests/fixtures/vectors");
        let mut checked = 0;
        for case in fs::read_dir(folder).unwrap() {
            let file = |name| fs::read(case.as_ref().unwrap().path().join(name));
            let (Ok(body), Ok(expected)) = (file("batch.pb"), file("canonical.bin")) else {
                continue;
            };
            if let Ok(signed) = signed_bytes(&body) {
                assert_eq!(signed, expected, "{case:?}");
                checked += 1;
            }
        }
        assert!(checked > 200, "{checked} vectors");
    }

    #[test]
    fn orders_texts_by_their_base64() {
        // In ASCII digits sort before letters, in base64's alphabet after them.
        let body = |key_data: [u8; 16]| [&[0x0a, 18, 0x0a, 16][..], &key_data].concat();
        let (one, other) = (body([0xff; 16]), body([0; 16]));
        let signed = |bodies: [&[u8]; 2]| signed_bytes(&bodies.concat()).unwrap();
        let text = String::from_utf8(signed([&one, &other])).unwrap();
        assert_eq!(signed([&other, &one]), text.as_bytes());
        // base64 of "/////…" begins with "Ly8v", that of "AAAAA…" with "QUFB".
        assert!(text.starts_with("/////"), "{text}");
    }
}
