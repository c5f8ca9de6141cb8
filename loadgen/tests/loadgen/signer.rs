//! Batch signatures, checked by OpenSSL and by the verifier of this package.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::domain::{Day, UnixMillis};
use loadgen::keys::{KeyGenerator, Seed};
use loadgen::participants::{self, Participant};
use loadgen::protocol::signed_bytes;
use loadgen::signer::Encoding;
use loadgen::verify::{Content, SignatureError, SigningCertificate};
use serde_json::Value;

use crate::support::{Key, country, openssl, pki};

const AT: UnixMillis = UnixMillis(1_622_548_800_000);

fn content() -> Vec<u8> {
    let day = Day::parse_iso("2021-06-01").unwrap();
    let seed = Seed {
        number: 1,
        keys_total: 50,
        upload_keys: 50,
        day,
    };
    let countries = [country("DE"), country("FR")];
    let body = KeyGenerator::new(seed, &countries).body(country("DE"), 0, 50);
    signed_bytes(&body).unwrap()
}

fn openssl_accepts(signature: &[u8], content: &[u8]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("signature"), signature).unwrap();
    fs::write(path("content"), content).unwrap();
    let mut arguments = vec!["cms", "-verify", "-binary", "-inform", "DER", "-noverify"];
    let (signature, content, out) = (path("signature"), path("content"), path("out"));
    arguments.extend(["-in", &signature, "-content", &content, "-out", &out]);
    openssl(&arguments).status.success()
}

fn check(participant: &Participant, encoding: Encoding) {
    let content = content();
    let signature = participant.signer.sign(&content, AT, encoding);
    let mut tampered = content.clone();
    tampered[7] ^= 1;
    assert!(
        openssl_accepts(&signature, &content),
        "{participant:?} {encoding:?}"
    );
    assert!(
        !openssl_accepts(&signature, &tampered),
        "{participant:?} {encoding:?}"
    );
    let certificate = SigningCertificate::from_der(participant.signer.certificate()).unwrap();
    assert_eq!(
        certificate.check(&signature, Content::Bytes(&content)),
        Ok(())
    );
    assert_eq!(
        certificate.check(&signature, Content::Bytes(&tampered)),
        Err(SignatureError::Digest)
    );
    let expected = match encoding {
        Encoding::Der => &[0x30, 0x82],
        Encoding::BerIndefinite => &[0x30, 0x80],
    };
    assert_eq!(
        &signature[..2],
        expected,
        "as OpenSSL and BouncyCastle begin"
    );
}

#[test]
fn makes_signatures_that_openssl_accepts_with_rsa_and_p256_in_der_and_ber() {
    let pki = pki(&[("DE", Key::Rsa), ("FR", Key::P256)]);
    for participant in &pki.participants {
        check(participant, Encoding::Der);
        check(participant, Encoding::BerIndefinite);
    }
}

#[test]
fn knows_a_signature_of_somebody_else() {
    let pki = pki(&[("DE", Key::P256), ("FR", Key::P256)]);
    let [de, fr] = pki.participants.as_slice() else {
        panic!("two participants")
    };
    let signature = de.signer.sign(b"content", AT, Encoding::Der);
    let certificate = SigningCertificate::from_der(fr.signer.certificate()).unwrap();
    assert_eq!(
        certificate.check(&signature, Content::Bytes(b"content")),
        Err(SignatureError::Signature)
    );
    assert_eq!(
        certificate.check(b"\x30\x00", Content::Bytes(b"content")),
        Err(SignatureError::Shape)
    );
}

/// Batches that BouncyCastle and OpenSSL signed and every backend that verifies accepts.
#[test]
fn proves_what_bouncycastle_and_openssl_signed() {
    let vectors = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../engine/tests/fixtures/vectors"
    ));
    let index = fs::read_to_string(vectors.join("index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    let mut proven = Vec::new();
    for case in index["cases"].as_array().unwrap() {
        if case["expected"] != "accept" || case["policy"] == true {
            continue;
        }
        let id = case["id"].as_str().unwrap();
        let read = |name: &str| fs::read(vectors.join(id).join(name)).unwrap();
        let pem = participants::read_trust_anchor(&vectors.join(id).join("signer.pem"));
        let certificate = SigningCertificate::from_der(&pem.unwrap()).unwrap();
        let cms = STANDARD.decode(read("signature.b64").trim_ascii()).unwrap();
        let content = read("canonical.bin");
        assert_eq!(
            certificate.check(&cms, Content::Bytes(&content)),
            Ok(()),
            "{id}"
        );
        proven.push(id);
    }
    // Salts that are not as long as the digest are among them.
    assert!(proven.contains(&"115-openssl-cms-pss-salt0"));
    assert!(proven.contains(&"317-pss-salt-max"));
    assert!(proven.len() > 80, "{}", proven.len());
}
