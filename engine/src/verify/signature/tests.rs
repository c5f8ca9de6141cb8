use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::decode::decode;
use crate::trust::{CertificateRow, TrustAnchors, sign};
use crate::verify::canonical::CanonicalBytes;

/// 2027-06-01T12:00:00Z, within the validity of all certificates used here.
const NOW: UnixMillis = UnixMillis(1_811_851_200_000);

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(name: &str) -> String {
    String::from_utf8(fixture(name)).unwrap()
}

fn legacy(name: &str) -> Vec<u8> {
    fixture(&format!("legacy/{name}.der"))
}

/// Lists certificates as signing certificates of a country, signed by the test trust anchor.
fn listing(certificates: &[(&str, String)]) -> Trust {
    let anchor = text("vectors/pki/trust-anchor/trust-anchor.pem");
    let anchor_key = text("vectors/keys/TEST-ONLY-trust-anchor.key.pem");
    let row = |(country, pem): &(&str, String)| {
        let der = Certificate::der_of_pem(pem).unwrap();
        CertificateRow {
            thumbprint: Certificate::from_der(&der).unwrap().thumbprint(),
            country: Country::parse(country).unwrap(),
            kind: CertificateKind::Signing,
            pem: Arc::from(pem.as_str()),
            operator_signature: Arc::from(sign(&anchor_key, pem).unwrap()),
            revoked_at: None,
        }
    };
    let anchor = TrustAnchors::from_pem(&anchor).unwrap();
    Trust::load(certificates.iter().map(row), &anchor, None)
}

/// Checks a signature over the batch of a vector by a certificate listed for `country`.
fn verdict(
    vector: &str,
    signer: (&str, String),
    signature: &[u8],
    sha1: bool,
) -> Result<(), SignatureError> {
    verdict_with(vector, signer, signature, Exceptions { sha1, pss: false })
}

fn verdict_with(
    vector: &str,
    (country, pem): (&str, String),
    signature: &[u8],
    exceptions: Exceptions,
) -> Result<(), SignatureError> {
    let body = fixture(&format!("vectors/{vector}/batch.pb"));
    let keys = decode(&body, 5000).unwrap();
    let signed_bytes = CanonicalBytes::of(&keys).signed_bytes();
    let content = digest::digest(&digest::SHA256, &signed_bytes);
    let check = SignatureCheck {
        batch_signature: &STANDARD.encode(signature),
        signed_bytes: &signed_bytes,
        content: &ContentDigest(content.as_ref().try_into().unwrap()),
        keys: &keys,
        exceptions,
        trust: &listing(&[(country, pem)]),
        now: NOW,
    };
    check_signature(&check).map(|_signer| ())
}

/// A signature of `legacy` by DE over the batch of vector 001: its verdict when SHA-1 is allowed
/// and when it is not.
#[track_caller]
fn check(name: &str, allowed: Result<(), SignatureError>, not_allowed: Result<(), SignatureError>) {
    let vector = "001-bc-rsa2048-sha256-attrs-ber";
    let signer = || ("DE", text("vectors/pki/DE/DE-signing.pem"));
    assert_eq!(
        verdict(vector, signer(), &legacy(name), true),
        allowed,
        "{name}, allowed"
    );
    assert_eq!(
        verdict(vector, signer(), &legacy(name), false),
        not_allowed,
        "{name}, not allowed"
    );
}

#[test]
fn takes_irelands_sha1_signature_over_sha256_attributes_only_where_sha1_is_allowed() {
    check(
        "ie-sha256-digest-sha1-signature",
        Ok(()),
        Err(SignatureError::WeakDigest),
    );
}

#[test]
fn takes_czechias_sha1_only_where_it_is_allowed() {
    check("cz-sha1-rsa", Ok(()), Err(SignatureError::WeakDigest));
    check("sha1-rsa-direct", Ok(()), Err(SignatureError::WeakDigest));
    check(
        "sha1-digest-sha256-signature",
        Ok(()),
        Err(SignatureError::WeakDigest),
    );
}

#[test]
fn verifies_sha1_with_every_curve() {
    // Each signer's own country does not originate the keys of vector 001: the curve's turn comes
    // after the origins, so the certificates are asked directly.
    let content = fixture("vectors/001-bc-rsa2048-sha256-attrs-ber/canonical.bin");
    for name in ["cz-sha1-p256", "sha1-p384", "sha1-p521"] {
        let signature = legacy(name);
        let message = SignedMessage::parse(&signature).unwrap();
        let certificate = message.signer_certificate().unwrap();
        let attributes = message.signed_attributes().unwrap();
        let over = |bytes: &[u8], sha1_allowed| {
            let signature = SignatureValue {
                scheme: Scheme::Ecdsa,
                certificate: &certificate,
                bytes: message.signature(),
                sha1_allowed,
            };
            signature.verify(Hash::Sha1, || Hash::Sha1.digest(bytes))
        };
        assert_eq!(over(attributes, true), Ok(()), "{name}");
        assert_eq!(
            over(attributes, false),
            Err(SignatureError::WeakDigest),
            "{name}"
        );
        assert_eq!(over(&content, true), Err(SignatureError::Wrong), "{name}");
    }
}

#[test]
fn goes_by_the_hash_that_the_signature_algorithm_names_over_signed_attributes() {
    // OpenSSL verifies these two, by digestAlgorithm; BouncyCastle refuses them.
    for (name, allowed) in [
        ("named-sha1-made-with-sha256", SignatureError::Wrong),
        ("named-md5-made-with-sha256", SignatureError::WeakDigest),
    ] {
        check(name, Err(allowed), Err(SignatureError::WeakDigest));
    }
}

/// Replaces an element of DER wherever it stands; the lengths around it follow.
fn replace(der: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = der;
    while let Some((&identifier, after)) = rest.split_first() {
        let (length, header) = match after[0] {
            long @ 0x81.. => {
                let octets = &after[1..usize::from(long - 0x80) + 1];
                let length = octets.iter().fold(0, |sum, &o| sum << 8 | usize::from(o));
                (length, octets.len() + 2)
            }
            short => (usize::from(short), 2),
        };
        let (whole, behind) = rest.split_at(header + length);
        rest = behind;
        let contents = &whole[header..];
        if whole == from {
            out.extend_from_slice(to);
        } else if identifier & 0x20 == 0 {
            out.extend_from_slice(whole);
        } else {
            let contents = replace(contents, from, to);
            out.push(identifier);
            match u16::try_from(contents.len()).unwrap().to_be_bytes() {
                [0, short @ 0..0x80] => out.push(short),
                [0, low] => out.extend_from_slice(&[0x81, low]),
                [high, low] => out.extend_from_slice(&[0x82, high, low]),
            }
            out.extend_from_slice(&contents);
        }
    }
    out
}

fn vector_signature(vector: &str) -> Vec<u8> {
    let header = fixture(&format!("vectors/{vector}/signature.b64"));
    STANDARD.decode(header).unwrap()
}

const ECDSA_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
const ECDSA_SHA384: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03";

#[test]
fn takes_id_ec_public_key_as_signature_algorithm_and_goes_by_digest_algorithm() {
    let es = || ("ES", text("vectors/pki/ES/ES-signing.pem"));
    let nl = || ("NL", text("vectors/pki/NL/NL-signing.pem"));
    let bare = b"\x30\x09\x06\x07\x2a\x86\x48\xce\x3d\x02\x01".as_slice();
    let with_null = b"\x30\x0b\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x05\x00".as_slice();
    let with_curve = b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
        \x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"
        .as_slice();
    for (vector, signer, named) in [
        ("113-openssl-cms-p256", es(), ECDSA_SHA256),
        ("114-openssl-cms-p384-noattr", nl(), ECDSA_SHA384),
    ] {
        let message = vector_signature(vector);
        // Not in the certificate: what is replaced there changes its thumbprint.
        let certificate = Certificate::der_of_pem(&signer.1).unwrap();
        for algorithm in [bare, with_null, with_curve] {
            let changed = replace_outside(&message, &certificate, named, algorithm);
            assert_ne!(changed, message);
            assert_eq!(
                verdict(vector, signer.clone(), &changed, false),
                Ok(()),
                "{vector}"
            );
        }
        let tagged = b"\x30\x0b\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x45\x00";
        let changed = replace_outside(&message, &certificate, named, tagged);
        let refused = Err(SignatureError::NotCms);
        assert_eq!(
            verdict(vector, signer, &changed, false),
            refused,
            "{vector}"
        );
    }
}

/// As [`replace`], but for what is in the certificate.
fn replace_outside(message: &[u8], certificate: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let placeholder = b"\xc0\x00".as_slice();
    let without = replace(message, certificate, placeholder);
    assert_ne!(without, message, "the certificate is inside");
    replace(&replace(&without, from, to), placeholder, certificate)
}

#[test]
fn goes_by_digest_algorithm_without_signed_attributes() {
    check("direct-named-sha1-made-with-sha256", Ok(()), Ok(()));
    let wrong = Err(SignatureError::Wrong);
    check("direct-named-sha1-made-with-sha1", wrong, wrong);
}

#[test]
fn takes_pss_only_where_it_is_allowed() {
    let vector = "009-bc-rsapss-sha256-attrs-ber";
    let signer = || ("DE", text("vectors/pki/DE/DE-signing.pem"));
    let signature = vector_signature(vector);
    let refused = Err(SignatureError::PssNotAllowed);
    assert_eq!(verdict(vector, signer(), &signature, true), refused);
    let pss = Exceptions {
        sha1: false,
        pss: true,
    };
    assert_eq!(verdict_with(vector, signer(), &signature, pss), Ok(()));
    assert!(
        SignatureError::PssNotAllowed
            .to_string()
            .contains("[signatures] pss")
    );
    assert!(
        SignatureError::WeakDigest
            .to_string()
            .contains("[signatures] legacy_sha1")
    );
}

#[test]
fn refuses_algorithms_other_than_the_protected_ones() {
    let vector = "001-bc-rsa2048-sha256-attrs-ber";
    let signer = || ("DE", text("vectors/pki/DE/DE-signing.pem"));
    let mut signature = STANDARD
        .decode(fixture(&format!("vectors/{vector}/signature.b64")))
        .unwrap();
    assert_eq!(verdict(vector, signer(), &signature, false), Ok(()));
    // SHA-256 in digestAlgorithms, digestAlgorithm, and BouncyCastle's cmsAlgorithmProtection.
    let sha256 = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01";
    let found = (0..signature.len()).filter(|&at| signature[at..].starts_with(sha256));
    let found: Vec<_> = found.collect();
    assert_eq!(found.len(), 3);
    signature[found[1] + sha256.len() - 1] = 2;
    let refused = Err(SignatureError::SignedAttributes);
    assert_eq!(verdict(vector, signer(), &signature, false), refused);
}

const FI: &str = "329-p521-sha512";

fn fi_signer() -> (&'static str, String) {
    ("FI", text("legacy/fi-negative-serial.pem"))
}

#[test]
fn takes_a_certificate_with_a_negative_serial_number() {
    assert_eq!(
        verdict(FI, fi_signer(), &legacy("fi-negative-serial"), false),
        Ok(())
    );
}

#[test]
fn finds_the_certificate_when_the_signer_wrote_its_issuer_another_way() {
    let mut signature = legacy("fi-negative-serial");
    let name = b"\x0c\x0aEfgs  Test";
    let last = signature
        .windows(name.len())
        .rposition(|window| window == name)
        .unwrap();
    // PrintableString instead of UTF8String; other letter case.
    signature[last] = 0x13;
    signature[last + 2] = b'e';
    assert_eq!(verdict(FI, fi_signer(), &signature, false), Ok(()));
    // Another name.
    signature[last + 2] = b'g';
    let refused = Err(SignatureError::NoCertificate);
    assert_eq!(verdict(FI, fi_signer(), &signature, false), refused);
}

#[test]
fn names_the_first_key_of_another_country() {
    let vector = "001-bc-rsa2048-sha256-attrs-ber";
    let signer = ("ES", text("vectors/pki/ES/ES-signing.pem"));
    let verdict = verdict(vector, signer, &legacy("cz-sha1-p256"), true);
    assert!(matches!(
        verdict,
        Err(SignatureError::ForeignOrigin { index: 0, .. })
    ));
}

#[test]
fn refuses_a_certificate_that_is_listed_for_another_country() {
    let signer = ("IT", text("legacy/fi-negative-serial.pem"));
    // `openssl x509 -in fi-negative-serial.pem -outform der | sha256sum`
    let thumbprint = "96c35197835287e2446a2b2f7f245bb67bfc8b4ed28947c7a5c4662407560662";
    let thumbprint = Thumbprint::parse_hex(thumbprint).unwrap();
    let refused = Err(SignatureError::UnknownCertificate(thumbprint));
    assert_eq!(
        verdict(FI, signer, &legacy("fi-negative-serial"), false),
        refused
    );
}

#[test]
fn reads_base64_with_all_its_padding_or_none() {
    for (header, bytes) in [("MA==", Ok(vec![0x30])), ("MA", Ok(vec![0x30]))] {
        assert_eq!(decode_base64(header), bytes, "{header:?}");
    }
    for header in [
        "", "MA=", "MA===", "M", "MB==", " MA==", "MA==\n", "M-A_", "MA==MA==", "====",
    ] {
        assert_eq!(
            decode_base64(header),
            Err(SignatureError::NotBase64),
            "{header:?}"
        );
    }
}
