//! `efgs cert`: what the gateway could not use later is told at once, in one sentence; and what
//! something else than `efgs` has done to the list is found.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first unexpected result"
)]

mod cli_support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rcgen::{
    CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm,
    date_time_ymd,
};

use cli_support::{Gateway, Installation, openssl, refuses, succeeds};

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
fn lists_subject_and_days_left_also_as_json() {
    let ours = Installation::new("DE");
    let text = succeeds(&mut ours.efgs(&["cert", "list"]));
    assert_eq!(text.matches(" days left  ").count(), 3, "{text}");
    let json = succeeds(&mut ours.efgs(&["cert", "list", "--json"]));
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    let row = &rows[2];
    assert_eq!(
        (row["country"].as_str(), row["kind"].as_str()),
        (Some("DE"), Some("signing"))
    );
    assert_eq!(row["state"], "listed");
    assert!(row["subject"].as_str().unwrap().contains("C=DE"), "{row}");
    assert!(row["daysLeft"].as_i64().unwrap() > 30, "{row}");
    let [from, until] = ["from", "until"].map(|name| row[name].as_str().unwrap());
    assert!(from < until && until.ends_with('Z'), "{row}");
}

/// Revoked by mistake, and listed again: by the thumbprint as OpenSSL prints it, and by its first digits.
#[test]
fn undoes_a_revocation_and_takes_thumbprints_as_openssl_prints_them() {
    let ours = Installation::new("DE");
    let rows = succeeds(&mut ours.efgs(&["cert", "list", "--json"]));
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    let thumbprint = rows[2]["thumbprint"].as_str().unwrap().to_owned();
    let pairs: Vec<_> = (0..32)
        .map(|at| thumbprint[2 * at..2 * at + 2].to_uppercase())
        .collect();
    let as_openssl = format!("sha256 Fingerprint={}", pairs.join(":"));
    let again = || {
        let mut command = ours.efgs(&["cert", "add", "--country", "DE", "--kind", "signing"]);
        command
            .arg("--certificate")
            .arg(ours.path("pki/DE/signing.pem"));
        command.arg("--trust-anchor-key").arg(ours.path(ANCHOR_KEY));
        command
    };
    refuses(&mut again(), &["listed already", "--replace"]);
    for written in [
        &*as_openssl,
        &thumbprint[..8],
        thumbprint.to_uppercase().as_str(),
    ] {
        let said = succeeds(&mut ours.efgs(&["cert", "revoke", written]));
        assert_eq!(said, format!("revoked {thumbprint}\n"));
        let list = succeeds(&mut ours.efgs(&["cert", "list"]));
        assert_eq!(list.matches("revoked 20").count(), 1, "{list}");
        succeeds(&mut again());
        let list = succeeds(&mut ours.efgs(&["cert", "list"]));
        assert_eq!(list.matches("revoked").count(), 0, "{list}");
        succeeds(&mut ours.efgs(&["cert", "verify"]));
    }
    succeeds(again().arg("--replace"));
    succeeds(&mut ours.efgs(&["cert", "verify"]));
    let short = ours
        .efgs(&["cert", "revoke", &thumbprint[..7]])
        .output()
        .unwrap();
    assert_eq!(short.status.code(), Some(2), "seven digits are too few");
}

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

#[test]
fn tells_of_a_certificate_that_is_listed_for_two_uses() {
    let ours = Installation::new("DE");
    let pem = certificate(&PKCS_ECDSA_P256_SHA256, 4000);
    fs::write(ours.path("it.pem"), pem).unwrap();
    let listed = succeeds(&mut add(&ours, "signing", ANCHOR_KEY));
    assert!(listed.starts_with("listed IT signing "), "{listed}");
    let listed = succeeds(&mut add(&ours, "authentication", ANCHOR_KEY));
    let note = "note: the same certificate is listed for signing, too";
    assert!(listed.starts_with(note), "{listed}");
}

/// Changes the database as somebody does who has no key file.
fn write(ours: &Installation, sql: &str) {
    let database = rusqlite::Connection::open(ours.path("efgs.sqlite")).unwrap();
    database.execute_batch(sql).unwrap();
}

/// Asks the operations port; returns status and body.
fn ask(operations: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(operations).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// Asks until the body has a text; fails after 30 seconds.
fn await_text(operations: SocketAddr, path: &str, text: &str) -> u16 {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (status, body) = ask(operations, path);
        if body.contains(text) {
            return status;
        }
        assert!(Instant::now() < deadline, "{body}");
        std::thread::yield_now();
    }
}

/// Waits until a gateway is ready and says so with a text.
fn await_ready(operations: SocketAddr, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (status, body) = ask(operations, "/ready");
        if status == 200 && body.contains(text) {
            return;
        }
        assert!(Instant::now() < deadline, "{status} {body}");
        std::thread::yield_now();
    }
}

fn operations(addresses: &[(String, SocketAddr)]) -> SocketAddr {
    let mut addresses = addresses.iter();
    addresses.find(|(name, _)| name == "operations").unwrap().1
}

const FAULT: &str = "\"certificateListFault\":\"it is not as efgs has written it";
const NO_FAULT: &str = "\"certificateListFault\":null";
/// The kind of DE's signing certificate; and a new revision, so that gateways look at once.
const CHANGE_A_KIND: &str = "\
    DELETE FROM certificate WHERE kind = CAST('callback' AS BLOB);\
    UPDATE certificate SET kind = CAST('callback' AS BLOB) WHERE kind = CAST('signing' AS BLOB);\
    UPDATE installation SET value = CAST('1' AS BLOB) \
    WHERE name = CAST('certificate_revision' AS BLOB);";

#[test]
fn uses_no_list_that_something_else_has_changed_until_it_is_accepted() {
    let ours = Installation::new("DE");
    let (gateway, addresses) = Gateway::start(&mut ours.serve());
    let running = operations(&addresses);
    await_ready(running, NO_FAULT);
    write(&ours, CHANGE_A_KIND);
    assert_eq!(
        await_text(running, "/ready", FAULT),
        200,
        "the last good list is in force"
    );
    let metric = "efgs_certificate_list_refused 1";
    await_text(running, "/metrics", metric);
    assert!(ask(running, "/ready").1.contains("\"certificates\":3"));

    let (_second, addresses) = Gateway::start(&mut ours.serve());
    let started = operations(&addresses);
    assert_eq!(await_text(started, "/ready", FAULT), 503);

    let pem = certificate(&PKCS_ECDSA_P256_SHA256, 4000);
    fs::write(ours.path("it.pem"), pem).unwrap();
    let says = ["cannot be changed", "efgs cert verify --accept"];
    refuses(&mut add(&ours, "signing", ANCHOR_KEY), &says);
    let mut verify = ours.efgs(&["cert", "verify"]);
    refuses(
        &mut verify,
        &["gateways do not use this certificate list", "at 3 rows"],
    );
    let shown = String::from_utf8(verify.output().unwrap().stdout).unwrap();
    let named = shown.lines().filter(|line| line.contains("THAN EFGS"));
    let mut named: Vec<_> = named
        .map(|line| line.split_whitespace().nth(1).unwrap())
        .collect();
    named.sort_unstable();
    assert_eq!(named, ["callback", "callback", "signing"], "{shown}");

    let accepted = succeeds(&mut ours.efgs(&["cert", "verify", "--accept"]));
    assert!(accepted.contains("accepted: "), "{accepted}");
    succeeds(&mut ours.efgs(&["cert", "verify"]));
    for operations in [running, started] {
        await_ready(operations, NO_FAULT);
        await_ready(operations, "\"certificates\":2");
    }
    let log = String::from_utf8(gateway.stop("TERM").stderr).unwrap();
    let errors = log.matches("the certificate list in the database is not used");
    assert_eq!(errors.count(), 1, "{log}");
}

#[test]
fn takes_over_the_list_of_an_earlier_version_by_migrating() {
    let ours = Installation::new("DE");
    let earlier = "DELETE FROM certificate_digest;\
        DELETE FROM installation WHERE name = CAST('certificate_list' AS BLOB);\
        DELETE FROM schema_version WHERE version = (SELECT MAX(version) FROM schema_version);";
    write(&ours, earlier);
    let migrated = succeeds(&mut ours.efgs(&["db", "migrate"]));
    let says =
        "3 certificates, all signed by the trust anchor, are under this installation's digest";
    assert!(migrated.contains(says), "{migrated}");
    succeeds(&mut ours.efgs(&["cert", "verify"]));

    write(&ours, earlier);
    write(
        &ours,
        "UPDATE certificate SET operator_signature = CAST('AAAA' AS BLOB)",
    );
    let says = ["has no keyed digest", "efgs cert verify --accept"];
    refuses(&mut ours.efgs(&["db", "migrate"]), &says);
    // A second migration does nothing, no matter who removed the digests.
    let again = succeeds(&mut ours.efgs(&["db", "migrate"]));
    assert!(again.ends_with("already\n"), "{again}");
}

#[test]
fn fails_when_the_database_takes_a_revocation_back() {
    let ours = Installation::new("DE");
    write(
        &ours,
        "CREATE TRIGGER back AFTER UPDATE ON certificate WHEN NEW.revoked_at_ms IS NOT NULL BEGIN \
         UPDATE certificate SET revoked_at_ms = NULL WHERE thumbprint = NEW.thumbprint; END",
    );
    let list = succeeds(&mut ours.efgs(&["cert", "list"]));
    let thumbprint = list.split_whitespace().nth(2).unwrap();
    refuses(
        &mut ours.efgs(&["cert", "revoke", thumbprint]),
        &["the database does not hold what was written", "triggers"],
    );
}
