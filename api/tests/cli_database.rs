//! The command line with a real database: certificates, schema, keys, the gateway as a process.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod cli_support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use api::settings::Settings;
use engine::admin::{Admin, sign_with_trust_anchor};
use engine::callbacks::{CallbackId, Subscribed};
use engine::domain::Country;
use engine::settings::DatabaseUrl;
use engine::{Engine, SystemClock};

use cli_support::{Gateway, Installation, efgs, openssl, refuses, succeeds, texts};

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
    refuses(&mut wrong_anchor, &["signature does not hold"]);

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
            &["signature does not hold"],
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

#[test]
fn migrates_once_and_reports_it() {
    let installation = Installation::new("DE");
    let status = succeeds(&mut installation.efgs(&["db", "status"]));
    assert!(status.ends_with("which is up to date\n"), "{status}");
    let migrated = succeeds(&mut installation.efgs(&["db", "migrate"]));
    assert!(migrated.ends_with("already\n"), "{migrated}");
    let mut fresh = installation.efgs(&["db", "migrate"]);
    let migrated = succeeds(fresh.env("EFGS__DATABASE__URL", "sqlite:new.sqlite"));
    assert!(migrated.contains("had schema version 0"), "{migrated}");
}

#[test]
fn refuses_a_database_that_was_never_set_up_and_makes_none() {
    let installation = Installation::new("DE");
    let (missing, empty) = (installation.path("missing"), installation.path("empty"));
    fs::write(&empty, "").unwrap();
    for path in [&missing, &empty] {
        let url = format!("sqlite:{}", path.display());
        for command in [
            &["serve"][..],
            &["cert", "list"],
            &["stats"],
            &["db", "status"],
            &["db", "recovered"],
        ] {
            let mut command = installation.efgs(command);
            let says = ["was never set up", "that its volume is mounted"];
            refuses(command.env("EFGS__DATABASE__URL", &url), &says);
        }
    }
    assert!(!missing.exists());
}

#[test]
fn keeps_the_database_and_its_folder_to_their_owner_whatever_the_umask() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("demo");
    let without_umask = |arguments: &[&str]| {
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "umask 0; exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_efgs"),
        ]);
        shell.args(arguments);
        shell
    };
    let dir = home.to_str().unwrap();
    succeeds(&mut without_umask(&[
        "init",
        "--dir",
        dir,
        "--participants",
        "DE",
    ]));
    let settings = home.join("efgs.toml");
    let mut serve = without_umask(&["serve", "--config", settings.to_str().unwrap()]);
    serve.env("EFGS__PUBLIC__LISTEN", "127.0.0.1:0");
    serve.env("EFGS__OPERATIONS__LISTEN", "127.0.0.1:0");
    let (_gateway, _addresses) = Gateway::start(&mut serve);
    for (name, expected) in [
        ("", 0o700),
        ("pki", 0o700),
        ("efgs.sqlite", 0o600),
        ("efgs.sqlite-wal", 0o600),
        ("efgs.sqlite-shm", 0o600),
    ] {
        let mode = fs::metadata(home.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, expected, "{name:?}");
    }
}

#[test]
fn reads_the_address_of_a_database_without_the_line_feed_behind_it() {
    let installation = Installation::new("DE");
    let url = format!("sqlite:{}\n", installation.path("efgs.sqlite").display());
    let mut status = installation.efgs(&["db", "status"]);
    let said = succeeds(status.env("EFGS__DATABASE__URL", url));
    assert!(said.ends_with("which is up to date\n"), "{said}");
}

#[test]
fn refuses_a_database_that_cannot_be_reached_without_showing_its_password() {
    let installation = Installation::new("DE");
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("mysql://efgs:s3cret@127.0.0.1:{port}/efgs");
    for command in [
        &["serve"][..],
        &["cert", "list"],
        &["db", "migrate"],
        &["db", "status"],
    ] {
        let mut command = installation.efgs(command);
        command.env("EFGS__DATABASE__URL", &url);
        refuses(
            &mut command,
            &["cannot open the database", "[database] url"],
        );
        assert!(!texts(&command.output().unwrap()).1.contains("s3cret"));
    }
}

#[test]
fn rotates_keys_in_one_step_or_in_two() {
    let installation = Installation::new("DE");
    let before = installation.read("keys");
    let rotated = succeeds(&mut installation.efgs(&["key", "rotate"]));
    assert!(rotated.starts_with("key 2 of "), "{rotated}");
    let after = installation.read("keys");
    assert!(
        after.starts_with(&before) && after.contains("\nsealing 2 "),
        "lines are kept"
    );
    succeeds(&mut installation.efgs(&["key", "rotate", "--standby"]));
    assert!(installation.read("keys").contains("\nstandby 3 "));
    let rotated = succeeds(&mut installation.efgs(&["key", "rotate"]));
    assert!(rotated.starts_with("key 3 of "), "{rotated}");
    assert!(!installation.read("keys").contains("standby"));
    let (gateway, _) = Gateway::start(&mut installation.serve());
    assert!(gateway.stop("TERM").status.success());
}

#[test]
fn prints_its_addresses_and_stops_on_a_signal() {
    let installation = Installation::new("DE");
    for signal in ["TERM", "INT"] {
        let mut serve = installation.serve();
        let (gateway, addresses) = Gateway::start(serve.env("EFGS__PROXY__LISTEN", "127.0.0.1:0"));
        let names: Vec<_> = addresses.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["public", "proxy", "operations"]);
        assert!(addresses.iter().all(|(_, address)| address.port() != 0));
        let output = gateway.stop(signal);
        assert!(output.status.success(), "{signal}: {:?}", texts(&output));
    }
}

/// DE's certificate has a P-256 key, IT's an RSA key.
#[test]
fn lets_every_onboarded_backend_connect_with_the_certificates_of_init() {
    let installation = Installation::new("DE,IT");
    let (gateway, addresses) = Gateway::start(&mut installation.serve());
    let address = addresses[0].1.to_string();
    for country in ["DE", "IT"] {
        let (certificate, key) = (
            format!("{country}/authentication.pem"),
            format!("{country}/authentication.key"),
        );
        let arguments = [
            "s_client",
            "-connect",
            &address,
            "-CAfile",
            "server-ca.pem",
            "-verify_return_error",
            "-verify_hostname",
            "localhost",
            "-cert",
            &certificate,
            "-key",
            &key,
        ];
        if let Some(said) = openssl(&arguments, &installation.path("pki")) {
            assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        }
    }
    let (_, operations) = &addresses[1];
    let mut connection = TcpStream::connect(operations).unwrap();
    let request = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    connection.write_all(request).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(gateway.stop("TERM").status.success());
}

/// Subscribes without a gateway.
fn subscribe(installation: &Installation, country: &str, id: &str, url: &str) {
    let settings = Settings::load(&installation.path("efgs.toml"), []).unwrap();
    let engine = Engine::start(settings.engine, Arc::new(SystemClock)).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let country = Country::parse(country).unwrap();
    let id = CallbackId::parse(id).unwrap();
    let callbacks = engine.callbacks();
    callbacks.subscribe(country, id, url.into(), move |done| {
        sender.send(done).unwrap();
    });
    assert_eq!(receiver.recv().unwrap().unwrap(), Subscribed::Taken);
}

#[test]
fn shows_callback_subscriptions_and_enables_them() {
    let installation = Installation::new("DE");
    let callback = |arguments: &[&str]| {
        let mut all = vec!["callback"];
        all.extend(arguments);
        installation.efgs(&all)
    };
    assert_eq!(succeeds(&mut callback(&["list"])), "");
    assert_eq!(
        succeeds(&mut callback(&["list", "--format", "json"])),
        "[]\n"
    );
    subscribe(&installation, "DE", "main", "https://example.org/cb");
    let active = "DE  main  active  nothing to tell  0 behind  https://example.org/cb\n";
    assert_eq!(succeeds(&mut callback(&["list"])), active);
    let disabled = succeeds(&mut callback(&["disable", "--country", "DE", "main"]));
    assert_eq!(disabled, "disabled DE main\n");
    let list = succeeds(&mut callback(&["list"]));
    assert!(list.starts_with("DE  main  disabled 20"), "{list}");
    let json = succeeds(&mut callback(&["list", "--format", "json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json[0]["disabledSince"].as_str().unwrap().starts_with("20"));
    assert_eq!(
        (&json[0]["callbackId"], &json[0]["lastError"]),
        (&"main".into(), &().into())
    );
    let enabled = succeeds(&mut callback(&["enable", "--country", "DE", "main"]));
    assert_eq!(enabled, "enabled DE main\n");
    assert_eq!(succeeds(&mut callback(&["list"])), active);
    succeeds(&mut callback(&["remove", "--country", "DE", "main"]));
    refuses(
        &mut callback(&["enable", "--country", "DE", "main"]),
        &["DE has no callback subscription main", "efgs callback list"],
    );
}

#[test]
fn refuses_a_busy_port() {
    let installation = Installation::new("DE");
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let mut serve = installation.serve();
    serve
        .env("EFGS__LOG__LEVEL", "error")
        .env("EFGS__PUBLIC__LISTEN", &address);
    refuses(&mut serve, &[&address, "[public] listen"]);
}

#[test]
fn refuses_missing_and_wrong_encryption_keys() {
    let installation = Installation::new("DE");
    let (gateway, _) = Gateway::start(&mut installation.serve());
    assert!(gateway.stop("TERM").status.success());
    let keys = installation.read("keys");
    let mut serve = installation.serve();
    serve.env("EFGS__LOG__LEVEL", "error");
    fs::remove_file(installation.path("keys")).unwrap();
    refuses(&mut serve, &["[encryption] key_file", "cannot be read"]);
    fs::write(installation.path("keys"), "identity x").unwrap();
    refuses(&mut serve, &["[encryption] key_file", "line 1"]);
    let others = Installation::new("DE");
    fs::copy(others.path("keys"), installation.path("keys")).unwrap();
    refuses(&mut serve, &["key"]);
    fs::write(installation.path("keys"), keys).unwrap();
    let (gateway, _) = Gateway::start(&mut installation.serve());
    assert!(gateway.stop("TERM").status.success());
}

#[test]
fn onboards_all_members_of_the_eu_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let made = succeeds(&mut efgs(&["init", "--dir", dir.to_str().unwrap()]));
    assert!(made.contains("for 27 participants"), "{made}");
    let mut list = efgs(&["cert", "list", "--config"]);
    let list = succeeds(list.arg(dir.join("efgs.toml")));
    assert_eq!(list.lines().count(), 81);
}
