use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::decode::decode;
use crate::trust::{CertificateRow, TrustAnchor, sign};
use crate::wire::canonical::CanonicalBytes;

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
    let anchor = TrustAnchor::from_pem(&anchor).unwrap();
    Trust::load(certificates.iter().map(row), &anchor, None)
}

/// Judges a signature over the batch of a vector by a certificate listed for `country`.
fn judge(
    vector: &str,
    (country, pem): (&str, String),
    signature: &[u8],
    sha1_allowed: bool,
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
        exceptions: Exceptions {
            sha1: sha1_allowed,
            pss: false,
        },
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
        judge(vector, signer(), &legacy(name), true),
        allowed,
        "{name}, allowed"
    );
    assert_eq!(
        judge(vector, signer(), &legacy(name), false),
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

#[test]
fn goes_by_digest_algorithm_without_signed_attributes() {
    check("direct-named-sha1-made-with-sha256", Ok(()), Ok(()));
    let wrong = Err(SignatureError::Wrong);
    check("direct-named-sha1-made-with-sha1", wrong, wrong);
}

#[test]
fn refuses_algorithms_other_than_the_protected_ones() {
    let vector = "001-bc-rsa2048-sha256-attrs-ber";
    let signer = || ("DE", text("vectors/pki/DE/DE-signing.pem"));
    let mut signature = STANDARD
        .decode(fixture(&format!("vectors/{vector}/signature.b64")))
        .unwrap();
    assert_eq!(judge(vector, signer(), &signature, false), Ok(()));
    // SHA-256 in digestAlgorithms, digestAlgorithm, and BouncyCastle's cmsAlgorithmProtection.
    let sha256 = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01";
    let found = (0..signature.len()).filter(|&at| signature[at..].starts_with(sha256));
    let found: Vec<_> = found.collect();
    assert_eq!(found.len(), 3);
    signature[found[1] + sha256.len() - 1] = 2;
    let refused = Err(SignatureError::SignedAttributes);
    assert_eq!(judge(vector, signer(), &signature, false), refused);
}

const FI: &str = "329-p521-sha512";

fn fi_signer() -> (&'static str, String) {
    ("FI", text("legacy/fi-negative-serial.pem"))
}

#[test]
fn takes_a_certificate_with_a_negative_serial_number() {
    assert_eq!(
        judge(FI, fi_signer(), &legacy("fi-negative-serial"), false),
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
    assert_eq!(judge(FI, fi_signer(), &signature, false), Ok(()));
    // Another name.
    signature[last + 2] = b'g';
    let refused = Err(SignatureError::NoCertificate);
    assert_eq!(judge(FI, fi_signer(), &signature, false), refused);
}

#[test]
fn names_the_first_key_of_another_country() {
    let vector = "001-bc-rsa2048-sha256-attrs-ber";
    let signer = ("ES", text("vectors/pki/ES/ES-signing.pem"));
    let refused = Err(SignatureError::ForeignOrigin { index: 0 });
    assert_eq!(
        judge(vector, signer, &legacy("cz-sha1-p256"), true),
        refused
    );
}

#[test]
fn refuses_a_certificate_that_is_listed_for_another_country() {
    let signer = ("IT", text("legacy/fi-negative-serial.pem"));
    // `openssl x509 -in fi-negative-serial.pem -outform der | sha256sum`
    let thumbprint = "96c35197835287e2446a2b2f7f245bb67bfc8b4ed28947c7a5c4662407560662";
    let thumbprint = Thumbprint::parse_hex(thumbprint).unwrap();
    let refused = Err(SignatureError::UnknownCertificate(thumbprint));
    assert_eq!(
        judge(FI, signer, &legacy("fi-negative-serial"), false),
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
