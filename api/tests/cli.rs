//! The command line without a running gateway: help, `efgs init`, refusals.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod cli_support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use cli_support::{Installation, efgs, openssl, refuses, succeeds, texts};

#[test]
fn explains_every_command_with_an_example() {
    for command in [
        &["init"][..],
        &["serve"],
        &["cert", "add"],
        &["cert", "list"],
        &["cert", "revoke"],
        &["cert", "verify"],
        &["db", "migrate"],
        &["db", "status"],
        &["key", "rotate"],
    ] {
        let help = succeeds(efgs(command).arg("--help"));
        let example = help.split_once("Example").unwrap().1;
        let call = format!("efgs {}", command.join(" "));
        assert!(example.contains(&call), "{help}");
        assert!(help.contains("Usage:"), "{help}");
    }
}

#[test]
fn prints_its_version() {
    let version = succeeds(&mut efgs(&["--version"]));
    assert_eq!(version, format!("efgs {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn initializes_a_folder_with_everything() {
    let installation = Installation::new("DE,IT");
    let mut expected = vec![
        ".gitignore",
        "efgs.toml",
        "efgs.sqlite",
        "keys",
        "loadgen.toml",
        "pki/trust-anchor.pem",
        "pki/trust-anchor.key",
        "pki/server-ca.pem",
        "pki/server.pem",
        "pki/server.key",
        "pki/gateway-callback.pem",
        "pki/gateway-callback.key",
    ];
    let participants: Vec<String> = ["DE", "IT"]
        .iter()
        .flat_map(|country| {
            ["authentication", "signing", "callback"]
                .iter()
                .flat_map(move |kind| {
                    [
                        format!("pki/{country}/{kind}.pem"),
                        format!("pki/{country}/{kind}.key"),
                    ]
                })
        })
        .collect();
    expected.extend(participants.iter().map(String::as_str));
    for name in expected {
        let metadata = fs::metadata(installation.path(name));
        let mode = metadata
            .unwrap_or_else(|error| panic!("{name}: {error}"))
            .permissions()
            .mode();
        let secret = name.ends_with(".key") || ["keys", "efgs.toml"].contains(&name);
        if secret {
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
    assert!(
        installation
            .read(".gitignore")
            .lines()
            .any(|line| line == "*")
    );
}

/// The signature is the one that the certificate list holds; OpenSSL verifies it over the exact
/// bytes of the file.
#[test]
fn makes_certificates_that_openssl_accepts() {
    let installation = Installation::new("DE");
    let pki = installation.path("pki");
    let server = [
        "verify",
        "-CAfile",
        "server-ca.pem",
        "-purpose",
        "sslserver",
    ];
    let local = ["-verify_hostname", "localhost", "server.pem"];
    if openssl(&[&server[..], &local].concat(), &pki).is_none() {
        return;
    }
    openssl(
        &[
            "verify",
            "-CAfile",
            "server-ca.pem",
            "-verify_ip",
            "127.0.0.1",
            "server.pem",
        ],
        &pki,
    );
    let signed = engine::admin::sign_with_trust_anchor(
        &installation.read("pki/trust-anchor.key"),
        &installation.read("pki/DE/signing.pem"),
    );
    fs::write(pki.join("signature.b64"), signed.unwrap()).unwrap();
    openssl(
        &[
            "base64",
            "-d",
            "-A",
            "-in",
            "signature.b64",
            "-out",
            "signature",
        ],
        &pki,
    );
    openssl(
        &[
            "x509",
            "-in",
            "trust-anchor.pem",
            "-pubkey",
            "-noout",
            "-out",
            "anchor.pub",
        ],
        &pki,
    );
    let verify = [
        "dgst",
        "-sha256",
        "-verify",
        "anchor.pub",
        "-signature",
        "signature",
    ];
    openssl(&[&verify[..], &["DE/signing.pem"]].concat(), &pki);
}

#[test]
fn refuses_to_overwrite_an_installation() {
    let installation = Installation::new("DE");
    let dir = installation.path("");
    let mut again = efgs(&["init", "--dir", dir.to_str().unwrap()]);
    refuses(&mut again, &["efgs.toml exists already", "--dir"]);
    fs::remove_file(installation.path("efgs.toml")).unwrap();
    refuses(&mut again, &["keys exists already", "--dir"]);
    fs::remove_file(installation.path("keys")).unwrap();
    refuses(&mut again, &["lists certificates already", "--database"]);
}

#[test]
fn refuses_wrong_arguments_with_usage() {
    for arguments in [
        &["init"][..],
        &["init", "--dir", "x", "--participants", "DEU"],
        &["init", "--dir", "x", "--listen", "8443"],
        &[
            "cert",
            "add",
            "--country",
            "DE",
            "--kind",
            "signing",
            "--certificate",
            "x",
        ],
        &[
            "cert",
            "add",
            "--country",
            "DE",
            "--kind",
            "server",
            "--certificate",
            "x",
            "--signature",
            "y",
        ],
        &["cert", "revoke", "abc"],
        &["stop"],
        &["serve", "--port", "1"],
    ] {
        let output = efgs(arguments).output().unwrap();
        let (_, errors) = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains("error:"), "{errors}");
    }
    assert!(!fs::exists("x").unwrap(), "nothing was made");
}

#[test]
fn refuses_other_databases_and_folders_that_cannot_be_made() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("a");
    let init = |dir: &std::path::Path| efgs(&["init", "--dir", dir.to_str().unwrap()]);
    refuses(
        init(&dir).args(["--database", "postgres://x:s3cret@y"]),
        &["sqlite:PATH or mysql://"],
    );
    fs::write(folder.path().join("file"), "").unwrap();
    refuses(
        &mut init(&folder.path().join("file/a")),
        &["cannot make the folder"],
    );
}

#[test]
fn refuses_a_missing_or_wrong_configuration() {
    for command in [
        &["serve"][..],
        &["cert", "list"],
        &["cert", "verify"],
        &["db", "migrate"],
        &["db", "status"],
        &["key", "rotate"],
    ] {
        let mut missing = efgs(command);
        missing.args(["--config", "/nowhere/efgs.toml"]);
        refuses(&mut missing, &["/nowhere/efgs.toml", "efgs init"]);
    }
    let installation = Installation::new("DE");
    let mut unknown = installation.efgs(&["serve"]);
    refuses(
        unknown.env("EFGS__UPLOAD__KEYS", "1"),
        &["EFGS__UPLOAD__KEYS", "names no setting"],
    );
    let text = installation
        .read("efgs.toml")
        .replace("[operations]\n", "[operations]\nport = 1\n");
    fs::write(installation.path("efgs.toml"), text).unwrap();
    refuses(
        &mut installation.efgs(&["serve"]),
        &["unknown setting port in [operations]"],
    );
    refuses(
        &mut installation.efgs(&["db", "status"]),
        &["unknown setting port in [operations]"],
    );
}
