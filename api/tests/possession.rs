//! The public port accepts every client that has the key of a listed certificate, whatever else the
//! certificate contains.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io;
use std::time::{Duration, Instant};

use rustls::SupportedProtocolVersion;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use support::{Gateway, TODAY, read};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The unusual certificates and their keys.
const ODD: [(&str, &str); 3] = [
    ("v1-p256", "DE-p256"),
    ("v1-rsa", "DE-special"),
    ("critical-extension", "DE-p256"),
];

fn odd(name: &str) -> String {
    read(&format!("../odd-certificates/{name}.pem"))
}

/// A certificate with a key that may not match, a combination that rustls would refuse.
fn shown(pem: &str, key: &str) -> CertifiedKey {
    let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
    let key = read(&format!("keys/TEST-ONLY-{key}.key.pem"));
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    CertifiedKey::new(chain, key)
}

/// Requests today's first batch; there may be no response.
async fn ask(
    gateway: &Gateway,
    version: &'static SupportedProtocolVersion,
    shown: CertifiedKey,
) -> io::Result<String> {
    let mut stream = gateway.tls_showing(version, Some(shown)).await?;
    let head = format!("GET /diagnosiskeys/download/{TODAY} HTTP/1.1\r\nHost: gateway\r\n");
    let request = format!("{head}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn accepts_certificates_that_the_web_pki_rejects() {
    let gateway = Gateway::start().await;
    for (name, key) in ODD {
        for version in rustls::ALL_VERSIONS {
            let answer = ask(&gateway, version, shown(&odd(name), key))
                .await
                .unwrap();
            assert!(answer.starts_with("HTTP/1.1 403 "), "{name}: {answer}");
            assert!(answer.contains("unknown_certificate"), "{name}: {answer}");
        }
        gateway.list(&odd(name));
    }
    let listed = Instant::now();
    for (name, key) in ODD {
        for version in rustls::ALL_VERSIONS {
            let answer = loop {
                let answer = ask(&gateway, version, shown(&odd(name), key))
                    .await
                    .unwrap();
                if !answer.contains("unknown_certificate") {
                    break answer;
                }
                assert!(listed.elapsed() < Duration::from_secs(60), "{name}");
            };
            // There is no batch: the request was authenticated.
            assert!(answer.starts_with("HTTP/1.1 404 "), "{name}: {answer}");
        }
    }
}

#[tokio::test]
async fn rejects_clients_without_the_key() {
    let gateway = Gateway::start().await;
    for (certificate, key) in [
        (odd("v1-p256"), "DE-authentication"),
        (odd("v1-p256"), "DE-special"),
        (odd("v1-rsa"), "DE-rsa3072"),
        (odd("v1-rsa"), "DE-p256"),
        (odd("critical-extension"), "ES-authentication"),
        // Explicit curve parameters are refused, even with the right key.
        (odd("explicit-parameters"), "DE-p256"),
        (read("pki/DE/DE-authentication.pem"), "ES-authentication"),
        (read("pki/DE/DE-authentication.pem"), "DE-p256"),
    ] {
        for version in rustls::ALL_VERSIONS {
            let answer = ask(&gateway, version, shown(&certificate, key)).await;
            assert!(answer.is_err(), "{key}: {answer:?}");
        }
    }
}
