//! The command line with a real database: certificates, schema, keys, the gateway as a process.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod cli_support;
#[path = "cli_database/gateways.rs"]
mod gateways;
#[path = "cli_database/key_files.rs"]
mod key_files;
#[path = "cli_database/maintenance.rs"]
mod maintenance;

use api::settings::Settings;
use cli_support::{Gateway, Installation, efgs, openssl, refuses, succeeds, texts};
use engine::admin::{Admin, sign_with_trust_anchor};
use engine::callbacks::{CallbackId, Subscribed};
use engine::domain::Country;
use engine::settings::DatabaseUrl;
use engine::{Clock as _, Engine, SystemClock};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use testkit::local::MariaDb;

/// Thumbprints in the certificate list, in its order.
fn thumbprints(list: &str) -> Vec<String> {
    let words = list
        .lines()
        .map(|line| line.split_whitespace().nth(2).unwrap());
    words.map(str::to_owned).collect()
}

#[test]
fn lists_what_init_onboarded() {
    let installation = Installation::new("IT,DE");
    let list = succeeds(&mut installation.efgs(&["cert", "list"]));
    let rows: Vec<Vec<&str>> = list
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let of: Vec<_> = rows.iter().map(|row| (row[0], row[1], row[3])).collect();
    assert_eq!(
        of,
        [
            ("DE", "authentication", "listed"),
            ("DE", "callback", "listed"),
            ("DE", "signing", "listed"),
            ("IT", "authentication", "listed"),
            ("IT", "callback", "listed"),
            ("IT", "signing", "listed"),
        ]
    );
    let fingerprint = [
        "x509",
        "-noout",
        "-fingerprint",
        "-sha256",
        "-in",
        "pki/DE/signing.pem",
    ];
    if let Some(text) = openssl(&fingerprint, &installation.path("")) {
        let expected = text
            .trim()
            .rsplit('=')
            .next()
            .unwrap()
            .replace(':', "")
            .to_lowercase();
        assert_eq!(thumbprints(&list)[2], expected);
    }
    let verified = succeeds(&mut installation.efgs(&["cert", "verify"]));
    assert_eq!(verified.matches("valid until").count(), 6, "{verified}");
    assert!(
        verified.ends_with("6 certificates, all signed by the trust anchor\n"),
        "{verified}"
    );
}

#[test]
fn revokes_a_certificate() {
    let installation = Installation::new("DE");
    let list = succeeds(&mut installation.efgs(&["cert", "list"]));
    let thumbprint = &thumbprints(&list)[0];
    for _ in 0..2 {
        let revoked = succeeds(&mut installation.efgs(&["cert", "revoke", thumbprint]));
        assert_eq!(revoked, format!("revoked {thumbprint}\n"));
    }
    let list = succeeds(&mut installation.efgs(&["cert", "list"]));
    let first = list.lines().next().unwrap();
    assert!(
        first.contains(thumbprint) && first.contains("revoked 20"),
        "{list}"
    );
    assert_eq!(list.matches("revoked").count(), 1);
    let unknown = "0".repeat(64);
    refuses(
        &mut installation.efgs(&["cert", "revoke", &unknown]),
        &[&unknown, "is listed"],
    );
}

#[test]
fn adds_certificates_signed_locally_or_on_another_machine() {
    let (ours, theirs) = (Installation::new("DE"), Installation::new("FR,IT"));
    let add = |country: &str, kind: &str, certificate: &str| {
        let mut command = ours.efgs(&["cert", "add", "--country", country, "--kind", kind]);
        command.arg("--certificate").arg(theirs.path(certificate));
        command
    };
    let anchor_key = ours.path("pki/trust-anchor.key");
    let mut on_the_spot = add("FR", "signing", "pki/FR/signing.pem");
    on_the_spot.arg("--trust-anchor-key").arg(&anchor_key);
    let listed = succeeds(&mut on_the_spot);
    assert!(listed.starts_with("listed FR signing "), "{listed}");
    refuses(&mut on_the_spot, &["listed already"]);

    let mut wrong_country = add("DE", "signing", "pki/IT/signing.pem");
    wrong_country.arg("--trust-anchor-key").arg(&anchor_key);
    refuses(&mut wrong_country, &["does not name the country DE"]);
    let mut no_certificate = add("IT", "signing", "pki/IT/signing.key");
    no_certificate.arg("--trust-anchor-key").arg(&anchor_key);
    refuses(
        &mut no_certificate,
        &["not the PEM of one X.509 certificate"],
    );
    let mut wrong_anchor = add("IT", "signing", "pki/IT/signing.pem");
    wrong_anchor
        .arg("--trust-anchor-key")
        .arg(theirs.path("pki/trust-anchor.key"));
    refuses(&mut wrong_anchor, &["none of the trust anchors"]);

    let folder = ours.path("");
    let certificate = theirs.path("pki/IT/authentication.pem");
    let sign = [
        "dgst",
        "-sha256",
        "-sign",
        "pki/trust-anchor.key",
        "-out",
        "it.sig",
    ];
    let signed = openssl(
        &[&sign[..], &[certificate.to_str().unwrap()]].concat(),
        &folder,
    );
    if signed.is_some() {
        openssl(
            &["base64", "-A", "-in", "it.sig", "-out", "it.b64"],
            &folder,
        );
        let mut signed_remotely = add("IT", "authentication", "pki/IT/authentication.pem");
        succeeds(signed_remotely.arg("--signature").arg(ours.path("it.b64")));
        let mut other = add("IT", "callback", "pki/IT/callback.pem");
        refuses(
            other.arg("--signature").arg(ours.path("it.b64")),
            &["none of the trust anchors"],
        );
    }
}

/// A certificate as operators receive it: every difference from what OpenSSL and BouncyCastle
/// write.
fn other_forms(canonical: &str) -> [(&'static str, String); 6] {
    let body: String = canonical
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let columns = |count: usize| {
        let lines = body.as_bytes().chunks(count);
        let lines: Vec<_> = lines.map(|line| str::from_utf8(line).unwrap()).collect();
        lines.join("\n")
    };
    let wrap =
        |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    assert_eq!(wrap(&columns(64)), canonical);
    [
        ("CRLF", canonical.replace('\n', "\r\n")),
        ("no end", canonical.trim_end().to_owned()),
        (
            "-text",
            format!("Certificate:\n    Data:\n        Version: 3 (0x2)\n{canonical}"),
        ),
        (
            "PKCS#12",
            format!("Bag Attributes\n    friendlyName: it\nsubject=C = IT\n\n{canonical}"),
        ),
        ("two ends", format!("{canonical}\n")),
        ("76 columns", wrap(&columns(76))),
    ]
}

#[test]
fn lists_certificates_only_as_italy_writes_them() {
    let ours = Installation::new("DE");
    let (canonical, anchor_key) = (Installation::new("IT"), ours.path("pki/trust-anchor.key"));
    let canonical = canonical.read("pki/IT/signing.pem");
    let file = ours.path("it.pem");
    let add = || {
        let mut command = ours.efgs(&["cert", "add", "--country", "IT", "--kind", "signing"]);
        command.arg("--certificate").arg(&file);
        command
    };
    for (form, text) in other_forms(&canonical) {
        fs::write(&file, &text).unwrap();
        // Signed on another machine, without a check.
        let signature = sign_with_trust_anchor(&ours.read("pki/trust-anchor.key"), &text).unwrap();
        let signed = ours.path("it.b64");
        fs::write(&signed, signature).unwrap();
        let command = format!("openssl x509 -in {} -out NEW", file.display());
        refuses(
            add().arg("--signature").arg(&signed),
            &["64 columns", &command],
        );
        // The command in the message writes the canonical form.
        let remedy = ["x509", "-in", "it.pem", "-out", "new.pem"];
        if openssl(&remedy, &ours.path("")).is_some() {
            assert_eq!(ours.read("new.pem"), canonical, "{form}");
        }
    }
    // `cert add` normalises it before it signs.
    for (form, text) in other_forms(&canonical) {
        let ours = Installation::new("DE");
        fs::write(&file, &text).unwrap();
        let mut add = ours.efgs(&["cert", "add", "--country", "IT", "--kind", "signing"]);
        add.arg("--certificate").arg(&file);
        succeeds(
            add.arg("--trust-anchor-key")
                .arg(ours.path("pki/trust-anchor.key")),
        );
        let database = DatabaseUrl::Sqlite(ours.path("efgs.sqlite"));
        let rows = Admin::open(&database).unwrap().certificates().unwrap();
        let italian = Country::parse("IT").unwrap();
        let row = rows.iter().find(|row| row.country == italian).unwrap();
        assert_eq!(&*row.pem, canonical, "{form}");
        let verified = succeeds(&mut ours.efgs(&["cert", "verify"]));
        assert!(
            verified.ends_with("4 certificates, all signed by the trust anchor\n"),
            "{form}: {verified}"
        );
    }
    fs::write(&file, &canonical).unwrap();
    succeeds(add().arg("--trust-anchor-key").arg(anchor_key));
}

#[test]
fn reports_keys_that_tls_cannot_use() {
    let ours = Installation::new("DE");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/fixtures");
    for (name, kind, noted) in [
        ("explicit-parameters", "authentication", true),
        ("explicit-parameters", "callback", true),
        ("v1-p256", "authentication", false),
        ("v1-rsa", "callback", false),
    ] {
        let mut add = ours.efgs(&["cert", "add", "--country", "DE", "--kind", kind]);
        add.arg("--certificate")
            .arg(fixtures.join(format!("odd-certificates/{name}.pem")))
            .arg("--trust-anchor-key")
            .arg(ours.path("pki/trust-anchor.key"));
        let said = succeeds(&mut add);
        assert_eq!(said.contains("note: TLS has no use"), noted, "{said}");
        assert!(said.contains(&format!("listed DE {kind} ")), "{said}");
    }
    // Signatures by such a key are refused, and so is the certificate.
    let mut add = ours.efgs(&["cert", "add", "--country", "DE", "--kind", "signing"]);
    add.arg("--certificate")
        .arg(fixtures.join("odd-certificates/explicit-parameters.pem"))
        .arg("--trust-anchor-key")
        .arg(ours.path("pki/trust-anchor.key"));
    refuses(
        &mut add,
        &["its key is neither RSA of 2048 to 8192 bits nor"],
    );
}

#[test]
fn reports_rows_that_another_trust_anchor_signed() {
    let (ours, theirs) = (Installation::new("DE"), Installation::new("DE"));
    fs::copy(
        theirs.path("pki/trust-anchor.pem"),
        ours.path("pki/trust-anchor.pem"),
    )
    .unwrap();
    let mut verify = ours.efgs(&["cert", "verify"]);
    refuses(
        &mut verify,
        &["3 of 3 certificates are not as the operator listed them"],
    );
}
