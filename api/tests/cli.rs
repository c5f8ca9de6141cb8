//! The command line without a running gateway: help, `efgs init`, refusals.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod cli_support;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use cli_support::{Gateway, Installation, TIMEOUT, efgs, openssl, refuses, succeeds, texts};
use testkit::poll::holds_within;
use testkit::ports::free_port;

#[test]
fn explains_every_command_with_an_example() {
    for command in [
        &["init"][..],
        &["serve"],
        &["check"],
        &["cert", "add"],
        &["cert", "list"],
        &["cert", "revoke"],
        &["cert", "verify"],
        &["db", "migrate"],
        &["db", "status"],
        &["db", "verify"],
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

/// A pipe that nobody reads, as after `| head`.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn ends_quietly_when_nobody_reads_its_output() {
    let installation = Installation::new("DE");
    for command in [
        &["cert", "list"][..],
        &["participant", "list"],
        &["db", "status"],
        &["stats"],
        &["check"],
    ] {
        let mut command = installation.efgs(command);
        let output = command.stdout(closed()).output().unwrap();
        let (_, errors) = texts(&output);
        assert_eq!(errors, "", "{command:?}");
        assert_eq!(output.status.code(), Some(141), "{command:?}");
    }
    let mut refused = efgs(&["cert", "list", "--config", "/nowhere.toml"]);
    let output = refused.stdout(closed()).stderr(closed()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "no panic");
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
    let init = |dir: &Path| efgs(&["init", "--dir", dir.to_str().unwrap()]);
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

/// What `efgs check` finds, as JSON, and whether it succeeds.
#[track_caller]
fn check(command: &mut Command) -> (bool, serde_json::Value) {
    let output = command.arg("--json").output().unwrap();
    let (out, errors) = texts(&output);
    let report: serde_json::Value =
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{errors}"));
    assert_eq!(report["ok"], output.status.success(), "{report}");
    (output.status.success(), report)
}

fn checking(installation: &Installation) -> Command {
    installation.efgs(&["check"])
}

#[test]
fn checks_an_installation_that_is_whole_and_names_all_that_is_wrong() {
    let installation = Installation::new("DE");
    let (ok, report) = check(&mut checking(&installation));
    assert!(ok, "{report}");
    let findings = report["findings"].as_array().unwrap();
    let looked: Vec<_> = findings
        .iter()
        .filter(|finding| finding["severity"] == "ok")
        .map(|finding| finding["check"].as_str().unwrap())
        .collect();
    let all = [
        "configuration",
        "server",
        "database",
        "schema",
        "certificates",
    ];
    assert_eq!(looked, all, "{report}");

    // Several at once: a port in use, and a key that is another certificate's.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut wrong = checking(&installation);
    wrong.env(
        "EFGS__OPERATIONS__LISTEN",
        taken.local_addr().unwrap().to_string(),
    );
    wrong.env("EFGS__PUBLIC__PRIVATE_KEY", "pki/gateway-callback.key");
    let (ok, report) = check(&mut wrong);
    let text = report.to_string();
    assert!(!ok, "{report}");
    assert!(text.contains("set another [operations] listen"), "{text}");
    assert!(
        text.contains("is not the key of the first certificate"),
        "{text}"
    );
}

/// Its ports are not in the way, and what a start would refuse is found.
#[test]
fn checks_an_installation_whose_gateway_runs_and_what_it_remembers() {
    let installation = Installation::new("DE");
    let ports = [free_address(), free_address()].map(|address| address.to_string());
    let on_ports = |mut command: Command| {
        command.env("EFGS__PUBLIC__LISTEN", &ports[0]);
        command.env("EFGS__OPERATIONS__LISTEN", &ports[1]);
        command.env("EFGS__DATABASE__STATE_FILE", "state");
        command
    };
    let (gateway, _) = Gateway::start(&mut on_ports(installation.serve()));
    let look = || check(&mut on_ports(checking(&installation)));
    let (ok, report) = look();
    assert!(ok, "{report}");
    assert!(report.to_string().contains("a running gateway holds them"));

    // Another gateway has rotated the key file, and this one has that of before.
    let before = installation.read("keys");
    succeeds(&mut installation.efgs(&["key", "rotate"]));
    gateway.signal("HUP");
    let knows = || {
        let database = rusqlite::Connection::open(installation.path("efgs.sqlite")).unwrap();
        let count = "SELECT COUNT(*) FROM installation WHERE name LIKE 'sealing key %'";
        database
            .query_row(count, [], |row| row.get::<_, u32>(0))
            .unwrap()
            == 2
    };
    assert!(holds_within(TIMEOUT, knows));
    assert!(gateway.stop("TERM").status.success());
    fs::write(installation.path("keys"), before).unwrap();
    let (ok, report) = look();
    assert!(
        !ok && report.to_string().contains("lacks the sealing keys [2]"),
        "{report}"
    );

    // As if an upload had been stored that the database lacks.
    let digest = "ab".repeat(32);
    let ahead = format!(
        "{}row 7 1600000000000 {digest}\n",
        installation.read("state")
    );
    fs::write(installation.path("state"), ahead).unwrap();
    let (ok, report) = look();
    assert!(
        !ok && report.to_string().contains("efgs db recovered"),
        "{report}"
    );
}

/// Each with the name of its setting, and with what to do.
#[test]
fn says_what_to_do_about_each_mistake_of_a_first_start() {
    let installation = Installation::new("DE");
    let der = fs::read_to_string(installation.path("pki/server.pem")).unwrap();
    let der = pem::parse(der).unwrap().into_contents();
    fs::write(installation.path("pki/server.der"), der).unwrap();
    for (variable, value, says) in [
        (
            "EFGS__DATABASE__URL",
            "mysql://efgs:secret@127.0.0.1:3306",
            &["[database] url", "mysql://USER:PASSWORD@HOST:PORT/NAME"][..],
        ),
        (
            "EFGS__DATABASE__URL",
            "mysql://efgs:secret@127.0.0.1:1/efgs",
            &["[database] url", "that the server runs"],
        ),
        (
            "EFGS__ENCRYPTION__KEY_FILE",
            "no-keys",
            &[
                "[encryption] key_file",
                "no-keys",
                "correct the path",
                "efgs init",
            ],
        ),
        (
            "EFGS__PUBLIC__PRIVATE_KEY",
            "pki/gateway-callback.key",
            &[
                "[public] certificate and private_key",
                "the TLS private key is not the key of the first certificate",
            ],
        ),
        (
            "EFGS__CALLBACK__PRIVATE_KEY",
            "pki/server.key",
            &[
                "[callback] certificate and private_key",
                "the TLS private key is not the key of the first certificate",
            ],
        ),
        (
            "EFGS__OPERATIONS__HOSTS",
            "efgs.example.eu:9090",
            &["[operations] hosts", "without scheme and port"],
        ),
        (
            "EFGS__DATABASE__STATE_FILE",
            "/nowhere/state",
            &["state_file", "make its folder"],
        ),
        (
            "EFGS__PUBLIC__CERTIFICATE",
            "pki/server.der",
            &["[public] certificate", "server.der", "-inform DER"],
        ),
        (
            "EFGS__PUBLIC__LISTEN",
            "localhost:24002",
            &[
                "[public] listen",
                "127.0.0.1:8443",
                "neither a name nor the port alone",
            ],
        ),
        (
            "EFGS__PUBLIC__LISTEN",
            "24002",
            &["[public] listen", "neither a name nor the port alone"],
        ),
        (
            "EFGS__DATABASE__URL",
            "sqlite:/proc/efgs.sqlite",
            &["never set up", "[database] url"],
        ),
    ] {
        let mut serve = installation.serve();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            refuses(serve.env(variable, value), says);
        }));
        assert!(result.is_ok(), "{variable}={value}");
        let mut check_it = checking(&installation);
        let (ok, report) = check(check_it.env(variable, value));
        assert!(!ok, "{variable}={value}: {report}");
        for part in says {
            assert!(report.to_string().contains(part), "{part:?}: {report}");
        }
    }
    // A gateway does not make a database; a migration would.
    let mut migrate = installation.efgs(&["db", "migrate"]);
    refuses(
        migrate.env("EFGS__DATABASE__URL", "sqlite:/proc/efgs.sqlite"),
        &["[database] url must exist", "able to write there"],
    );
    for (setting, says) in [
        ("[signatures]\nlegacy_sha1 = \"CZ,IE\"\n", "legacy_sha1"),
        ("[signatures]\nlegacy_sha1: [\"CZ\"]\n", "is not TOML"),
    ] {
        let text = installation.read("efgs.toml");
        let without = text.replace("[signatures]\n", "");
        fs::write(
            installation.path("efgs.toml"),
            format!("{without}\n{setting}"),
        )
        .unwrap();
        refuses(&mut installation.serve(), &[says]);
        fs::write(installation.path("efgs.toml"), text).unwrap();
    }
}

/// The blocks of a page between fences, with their language; those within a list are indented.
fn fenced_blocks(page: &str) -> Vec<(&str, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let block = lines.by_ref().take_while(|line| line.trim() != "```");
        let block = block.map(|line| line.get(indent..).unwrap_or_default().to_owned() + "\n");
        blocks.push((language, block.collect()));
    }
    blocks
}

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()))
}

/// Runs the commands of `docs/connect.md`, in the order in which they stand, in one shell: each
/// prints what the page says.
#[test]
fn the_page_for_national_backends_works_as_written() {
    const PAGE: &str = include_str!("../../docs/connect.md");
    let (public, operations) = (free_address(), free_address());
    let mut script = "set -euo pipefail\ntrap 'kill $(jobs -p); wait' EXIT\n".to_owned();
    let mut expected = String::new();
    for (language, block) in fenced_blocks(PAGE) {
        match language {
            "sh" => {
                script += &block;
                script += "echo end of block\n";
                expected += "end of block\n";
            }
            "output" => {
                let at = expected.len() - "end of block\n".len();
                expected.insert_str(at, &block);
            }
            other => panic!("a block of {other:?} on the page"),
        }
    }
    for (on_the_page, here) in [
        ("127.0.0.1:8443", public.to_string()),
        ("127.0.0.1:9090", operations.to_string()),
    ] {
        assert!(script.contains(on_the_page), "{on_the_page}");
        script = script.replace(on_the_page, &here);
    }
    let folder = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_efgs")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("EFGS__PUBLIC__LISTEN", public.to_string())
        .env("EFGS__OPERATIONS__LISTEN", operations.to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (printed, errors) = texts(&output);
    assert_eq!(printed, expected, "{errors}");
    assert!(output.status.success(), "{errors}");
}

#[test]
fn lists_which_sealing_key_seals() {
    let installation = Installation::new("DE");
    let list = || succeeds(&mut installation.efgs(&["key", "list"]));
    assert_eq!(list(), "key 1  seals\n");
    succeeds(&mut installation.efgs(&["key", "rotate"]));
    succeeds(&mut installation.efgs(&["key", "rotate", "--standby"]));
    let expected = "key 1  opens what was sealed with it before\nkey 2  seals\n\
         key 3  stands by for the next rotation\n";
    assert_eq!(list(), expected);
}

/// Runs the commands of the operators' pages, each page in a shell and a folder of its own.
#[test]
fn the_operators_pages_work_as_written() {
    for (name, page) in [
        ("install", include_str!("../../docs/operate/install.md")),
        ("onboard", include_str!("../../docs/operate/onboard.md")),
        ("rotate", include_str!("../../docs/operate/rotate.md")),
        ("backup", include_str!("../../docs/operate/backup.md")),
    ] {
        let mut script = "set -euo pipefail\n".to_owned();
        for (language, block) in fenced_blocks(page) {
            assert_eq!(language, "sh", "{name}");
            script += &block;
        }
        let folder = tempfile::tempdir().unwrap();
        let programs = Path::new(env!("CARGO_BIN_EXE_efgs")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(folder.path())
            .env("PATH", path)
            .env("EFGS__PUBLIC__LISTEN", "127.0.0.1:0")
            .env("EFGS__OPERATIONS__LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let (printed, errors) = texts(&output);
        assert!(output.status.success(), "{name}: {printed}{errors}");
    }
}
