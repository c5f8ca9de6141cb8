//! A small PKI in the layout of `efgs init`, created for each test.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use engine::domain::Country;
use loadgen::participants::{self, Participant};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

/// Which key a participant signs with.
#[derive(Clone, Copy)]
pub(crate) enum Key {
    Rsa,
    P256,
}

pub(crate) struct Pki {
    pub(crate) folder: TempDir,
    pub(crate) participants: Vec<Participant>,
    /// PEM of the operator's private key.
    anchor_key: String,
}

impl Pki {
    /// The trust anchor's certificate, in DER.
    pub(crate) fn anchor(&self) -> CertificateDer<'static> {
        participants::read_trust_anchor(&self.folder.path().join("trust-anchor.pem")).unwrap()
    }

    /// A certificate's text and the operator's signature over it.
    pub(crate) fn certificate(&self, country: &str, name: &str) -> (String, String) {
        let path = self.folder.path().join(country).join(format!("{name}.pem"));
        let pem = fs::read_to_string(path).unwrap();
        let signature = engine::trust::sign(&self.anchor_key, &pem).unwrap();
        (pem, signature)
    }
}

pub(crate) fn country(code: &str) -> Country {
    Country::parse(code).unwrap()
}

/// `server-ca.pem`, `server.{pem,key}` for localhost, and a folder for each participant.
pub(crate) fn pki(participants: &[(&str, Key)]) -> Pki {
    let folder = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "server CA");
    let ca = CertifiedIssuer::self_signed(params, key_pair(Key::P256)).unwrap();
    fs::write(folder.path().join("server-ca.pem"), ca.pem()).unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let server_key = key_pair(Key::P256);
    let server = CertificateParams::new(names).unwrap();
    let server = server.signed_by(&server_key, &ca).unwrap();
    fs::write(folder.path().join("server.pem"), server.pem()).unwrap();
    fs::write(folder.path().join("server.key"), server_key.serialize_pem()).unwrap();
    for (code, key) in participants {
        write_identity(&folder.path().join(code), "authentication", code, Key::P256);
        write_identity(&folder.path().join(code), "signing", code, *key);
    }
    let anchor_key = key_pair(Key::P256);
    let mut params = CertificateParams::new([]).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "trust anchor");
    let anchor = params.self_signed(&anchor_key).unwrap();
    fs::write(folder.path().join("trust-anchor.pem"), anchor.pem()).unwrap();
    let participants = participants::read(folder.path()).unwrap();
    Pki {
        folder,
        participants,
        anchor_key: anchor_key.serialize_pem(),
    }
}

fn write_identity(folder: &Path, name: &str, code: &str, key: Key) {
    let key = key_pair(key);
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CountryName, code);
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{code} {name}"));
    let certificate = params.self_signed(&key).unwrap();
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

fn key_pair(key: Key) -> KeyPair {
    match key {
        Key::Rsa => rsa_key_pair(),
        Key::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
    }
}

/// Shared by all tests of a run: creating one takes a second.
fn rsa_key_pair() -> KeyPair {
    static PEM: OnceLock<String> = OnceLock::new();
    let generate = || KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let pem = PEM.get_or_init(|| generate().serialize_pem());
    KeyPair::from_pem(pem).unwrap()
}

/// Runs OpenSSL, which these tests hold our signatures against.
pub(crate) fn openssl(arguments: &[&str]) -> std::process::Output {
    Command::new("openssl")
        .args(arguments)
        .output()
        .expect("openssl is missing: install the package openssl, the tests compare with it")
}
