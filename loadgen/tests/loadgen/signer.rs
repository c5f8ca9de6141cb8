//! Batch signatures, judged by OpenSSL and by the verifier of this package.

use std::fs;

use engine::domain::{Day, UnixMillis};
use loadgen::keys::{KeyGenerator, Seed};
use loadgen::participants::Participant;
use loadgen::signer::Encoding;
use loadgen::verify::{SignatureError, SigningCertificate};
use loadgen::workload::signed_bytes;

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
    assert_eq!(certificate.check(&signature, &content), Ok(()));
    assert_eq!(
        certificate.check(&signature, &tampered),
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
        certificate.check(&signature, b"content"),
        Err(SignatureError::Signature)
    );
    assert_eq!(
        certificate.check(b"\x30\x00", b"content"),
        Err(SignatureError::Shape)
    );
}
