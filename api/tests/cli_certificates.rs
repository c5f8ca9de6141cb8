//! `efgs cert add`: what the gateway could not use later is told at once, in one sentence.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first unexpected result"
)]

mod cli_support;

use std::fs;

use rcgen::{
    CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm,
    date_time_ymd,
};

use cli_support::{Installation, openssl, refuses, succeeds};

fn certificate(algorithm: &'static SignatureAlgorithm, last_year: i32) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CountryName, "IT");
    params.not_after = date_time_ymd(last_year, 1, 1);
    let key = KeyPair::generate_for(algorithm).unwrap();
    params.self_signed(&key).unwrap().pem()
}

/// Adds a certificate on the spot.
fn add(ours: &Installation, kind: &str, anchor_key: &str) -> std::process::Command {
    let mut command = ours.efgs(&["cert", "add", "--country", "IT", "--kind", kind]);
    command.arg("--certificate").arg(ours.path("it.pem"));
    command.arg("--trust-anchor-key").arg(ours.path(anchor_key));
    command
}

const ANCHOR_KEY: &str = "pki/trust-anchor.key";

#[test]
fn refuses_what_the_gateway_would_refuse_later() {
    let ours = Installation::new("DE");
    let refuses_all = |kinds: &[&str], pem: &str, sentences: &[&str]| {
        fs::write(ours.path("it.pem"), pem).unwrap();
        for kind in kinds {
            refuses(&mut add(&ours, kind, ANCHOR_KEY), sentences);
        }
    };
    let good = certificate(&PKCS_ECDSA_P256_SHA256, 4000);
    let expired = certificate(&PKCS_ECDSA_P256_SHA256, 2021);
    let kinds = ["authentication", "signing", "callback"];
    let gone = "it expired 2021-01-01T00:00:00Z: ask its owner for a new one";
    refuses_all(&kinds, &expired, &["cannot list ", gone]);
    refuses_all(&kinds, &format!("\u{feff}{good}"), &["byte order mark"]);
    let ed25519 = certificate(&PKCS_ED25519, 4000);
    let kind_of_key = [
        "cannot list ",
        "neither RSA of 2048 to 8192 bits nor on the curves",
    ];
    refuses_all(&["signing"], &ed25519, &kind_of_key);
    for (new_key, sentence) in [
        (&["-newkey", "rsa:1024"][..], "fewer than 2048 bits"),
        (
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp224r1"],
            "nor on the curves",
        ),
    ] {
        let request = [
            &[
                "req", "-x509", "-nodes", "-subj", "/C=IT", "-keyout", "it.key", "-out", "weak.pem",
            ],
            new_key,
        ];
        if openssl(&request.concat(), &ours.path("")).is_some() {
            refuses_all(&["signing"], &ours.read("weak.pem"), &[sentence]);
        }
    }

    fs::write(ours.path("it.pem"), &good).unwrap();
    for encrypted in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    ] {
        fs::write(ours.path("locked.key"), encrypted).unwrap();
        let sentences = ["locked.key", "encrypted private key", "openssl pkey"];
        refuses(&mut add(&ours, "signing", "locked.key"), &sentences);
    }
    succeeds(&mut add(&ours, "signing", ANCHOR_KEY));
}
