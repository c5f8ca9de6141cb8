//! `vectors`: the script as it is written, against a practice gateway, and against servers that answer
//! wrongly.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use support::{BACKEND, configuration, efgs};
use testkit::local::{Gateway, GatewayOptions, initialise_for};

fn write_vectors(dir: &Path, more: &[&str]) -> Output {
    let written = Command::new(BACKEND)
        .arg("vectors")
        .arg(dir)
        .args(more)
        .output();
    written.unwrap()
}

/// Runs the script; whether it succeeded, and its lines.
fn try_on(gateway: &str, dir: &Path, variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(dir.join("try.sh"));
    command.env("GATEWAY", gateway);
    for (name, value) in variables {
        command.env(name, value);
    }
    let output = command.output().unwrap();
    let lines = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(lines).unwrap())
}

const CONSENT: (&str, &str) = ("MADE_UP_KEYS_MAY_BE_STORED", "yes");

#[test]
fn every_case_gets_its_answer_from_a_gateway() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("efgs");
    let program = efgs();
    initialise_for(&program, &folder, None, &["DE"]).unwrap();
    let gateway = Gateway::start(GatewayOptions::new(&program, &folder)).unwrap();
    let config = home.path().join("de.toml");
    let port = gateway.public().port();
    let text = configuration("DE", port, &folder.join("pki"));
    fs::write(&config, text).unwrap();
    let dir = home.path().join("vectors");
    let written = write_vectors(&dir, &["--config", config.to_str().unwrap()]);
    assert!(written.status.success(), "{written:?}");

    let address = format!("https://localhost:{port}");
    let (ok, said) = try_on(&address, &dir, &[]);
    assert!(!ok && said.contains("made-up keys"), "{said}");
    let (ok, said) = try_on(&address, &dir, &[CONSENT]);
    let count = fs::read_to_string(dir.join("cases.tsv"))
        .unwrap()
        .lines()
        .count();
    assert!(ok, "{said}");
    assert!(
        said.ends_with(&format!("{count} of {count} as expected\n")),
        "{said}"
    );

    let (ok, said) = try_on(&address, &dir, &[CONSENT]);
    assert!(!ok && said.contains("Write new vectors."), "{said}");

    // What a signer is compared with.
    let case = dir.join("cases/06-order");
    let canonical = |arguments: &[&str]| {
        let keys = case.join("keys.pb");
        let made = Command::new(BACKEND)
            .arg("canonical")
            .args(arguments)
            .arg(keys)
            .output();
        made.unwrap().stdout
    };
    assert_eq!(
        canonical(&[]),
        fs::read(case.join("canonical.txt")).unwrap()
    );
    assert_eq!(
        canonical(&["--bytes"]),
        fs::read(case.join("signed-bytes")).unwrap()
    );
}

/// Answers every request with the same status.
fn server(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), status);
        }
    });
    address
}

fn answer(mut stream: TcpStream, status: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 2 {
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
}

#[test]
fn says_which_answers_are_wrong() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("vectors");
    let written = write_vectors(&dir, &["--country", "SE"]);
    assert!(written.status.success(), "{written:?}");
    let table = fs::read_to_string(dir.join("cases.tsv")).unwrap();
    let expecting = |status: &str| {
        let statuses = table.lines().map(|line| line.split('\t').nth(5).unwrap());
        statuses
            .filter(|statuses| statuses.split(' ').any(|one| one == status))
            .count()
    };
    let total = table.lines().count();
    for status in ["201", "400", "500"] {
        let text = if status == "201" {
            "201 Created"
        } else {
            status
        };
        let (ok, said) = try_on(&server(text), &dir, &[("SERVER_CA", "/dev/null")]);
        let right = expecting(status);
        assert!(!ok && right < total, "{said}");
        assert!(
            said.ends_with(&format!("{right} of {total} as expected\n")),
            "{said}"
        );
        let failed = said
            .lines()
            .filter(|line| line.starts_with("FAIL "))
            .count();
        assert_eq!(failed, total - right, "{said}");
    }
    let again = write_vectors(&dir, &["--country", "SE"]);
    assert!(!again.status.success(), "nothing is overwritten");
    let nobody = write_vectors(&home.path().join("other"), &[]);
    let said = String::from_utf8(nobody.stderr).unwrap();
    assert!(
        said.contains("--country") && said.contains("--config"),
        "{said}"
    );
}

/// With such a configuration every key would be refused, one after another.
#[test]
fn refuses_certificates_of_another_country_than_the_configured_one() {
    let folder = tempfile::tempdir().unwrap();
    let run = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder.path());
        command.output().unwrap()
    };
    let backend = Path::new(BACKEND);
    for country in ["DE", "FR"] {
        let made = run(
            backend,
            &[
                "keygen",
                "--country",
                country,
                "--dir",
                &format!("pki/{country}"),
            ],
        );
        assert!(made.status.success(), "{made:?}");
    }
    fs::write(folder.path().join("key.jsonl"), "{}\n").unwrap();
    for (signing, says) in [("FR", "country is DE, but "), ("DE", "key.jsonl")] {
        let text = configuration("DE", 1, Path::new("pki"));
        let text = text.replace("pki/DE/signing", &format!("pki/{signing}/signing"));
        fs::write(folder.path().join("efgs-backend.toml"), text).unwrap();
        let signed = run(backend, &["sign", "key.jsonl"]);
        let errors = String::from_utf8(signed.stderr).unwrap();
        assert!(
            !signed.status.success() && errors.contains(says),
            "{errors}"
        );
    }
}
