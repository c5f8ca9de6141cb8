//! A practice gateway: its peers upload by themselves, and end with it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use efgs_client::decode;
use support::{BACKEND, configuration, efgs};
use testkit::local::{Gateway, GatewayOptions, initialise_for};
use testkit::poll::holds_within;

/// On a busy machine.
const WITHIN: Duration = Duration::from_secs(60);

/// A practice gateway whose peers upload every second.
fn practice(folder: &Path) -> Gateway {
    let program = efgs();
    let made = Command::new(&program)
        .args(["init", "--practice", "--participants", "DE", "--dir"])
        .arg(folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let mut options = GatewayOptions::new(&program, folder);
    for (name, value) in [
        ("EFGS__PRACTICE__UPLOAD_SECONDS", "1"),
        ("EFGS__BUNDLE__MAX_DELAY_MS", "50"),
        ("EFGS__BUNDLE__PACED", "false"),
    ] {
        options
            .environment
            .push((name.to_owned(), value.to_owned()));
    }
    Gateway::start(options).unwrap()
}

/// Downloads and verifies what is new, as DE; the countries whose keys have arrived.
fn countries(home: &Path) -> BTreeSet<String> {
    let out = home.join("in");
    let downloaded = Command::new(BACKEND)
        .args(["download", "--since", "2020-10-01", "--config"])
        .arg(home.join("de.toml"))
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert!(downloaded.status.success(), "{downloaded:?}");
    let files = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|e| e == "pb"))
        .collect();
    let is_unproven = |path: &PathBuf| path.to_string_lossy().contains("unproven");
    assert!(!files.iter().any(is_unproven), "{files:?}");
    let keys = files
        .iter()
        .flat_map(|path| decode(&fs::read(path).unwrap()).unwrap());
    keys.map(|key| key.origin).collect()
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Processes that this one has started.
fn children(parent: u32) -> Vec<PathBuf> {
    let is_child = |path: &PathBuf| {
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        status
            .lines()
            .any(|line| line == format!("PPid:\t{parent}"))
    };
    let entries = fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries.filter(is_child).collect()
}

/// Not even as a zombie that its new parent has not waited for.
fn runs(process: &Path) -> bool {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[test]
fn has_peers_that_upload_by_themselves_and_end_with_it() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("practice");
    let mut gateway = practice(&folder);
    let text = configuration("DE", gateway.public().port(), &folder.join("pki"));
    fs::write(home.path().join("de.toml"), text).unwrap();
    let expected: BTreeSet<_> = ["ES", "FR", "PL"].map(str::to_owned).into();
    let log = || fs::read_to_string(gateway.log()).unwrap_or_default();
    let all = || countries(home.path()) == expected;
    assert!(holds_within(WITHIN, all), "{}", log());

    let ready = get(gateway.operations(), "/ready");
    assert!(ready.contains("\"practice\":true"), "{ready}");
    assert!(ready.contains("this is a practice gateway"), "{ready}");
    assert!(log().contains("this is a practice gateway"), "{}", log());

    let peers = children(gateway.process_id().unwrap());
    assert_eq!(peers.len(), 1);
    gateway.kill9().unwrap();
    let ended = || !runs(&peers[0]);
    assert!(holds_within(WITHIN, ended));
}

/// Whatever they could write their complaints to.
#[test]
fn peers_end_with_their_standard_input() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("efgs");
    initialise_for(&efgs(), &folder, None, &["ES"]).unwrap();
    let mut peers = Command::new(BACKEND)
        .args(["peers", "--countries", "ES", "--gateway"])
        .arg("https://localhost:1")
        .arg("--pki")
        .arg(folder.join("pki"))
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(peers.stdin.take());
    let mut status = None;
    let ended = || {
        status = peers.try_wait().unwrap();
        status.is_some()
    };
    let has_ended = holds_within(WITHIN, ended);
    let _ = peers.kill();
    assert!(has_ended && status.unwrap().success(), "{status:?}");
}

#[test]
fn peers_take_no_certificates_of_a_real_installation() {
    let home = tempfile::tempdir().unwrap();
    let made = Command::new(BACKEND)
        .args(["keygen", "--country", "DE", "--dir"])
        .arg(home.path().join("DE"))
        .status();
    assert!(made.unwrap().success());
    let refused = Command::new(BACKEND)
        .args([
            "peers",
            "--countries",
            "DE",
            "--gateway",
            "https://localhost:1",
            "--pki",
        ])
        .arg(home.path())
        .output()
        .unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains("made-up keys must not reach a real gateway"),
        "{said}"
    );
}

fn upload(home: &Path, file: &str) -> (bool, String) {
    let output = Command::new(BACKEND)
        .args(["upload", "--config"])
        .arg(home.join("de.toml"))
        .arg(home.join(file))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn says_what_was_there_already_and_where_refused_keys_stand() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("practice");
    let gateway = practice(&folder);
    let text = configuration("DE", gateway.public().port(), &folder.join("pki"));
    fs::write(home.path().join("de.toml"), text).unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let key = |data: &str, period: u32| {
        let start = now / 86_400 * 144 - 144;
        format!(
            "{{\"keyData\":\"{data}\",\"rollingStartIntervalNumber\":{start},\
             \"rollingPeriod\":{period},\"origin\":\"DE\"}}\n"
        )
    };
    let one = key("ABEiM0RVZneImaq7zN3u/w==", 144);
    fs::write(home.path().join("one.jsonl"), &one).unwrap();
    let stored = (true, "1 keys stored, 0 refused\n".to_owned());
    assert_eq!(upload(home.path(), "one.jsonl"), stored);
    let known = "0 keys stored, 1 were there already, 0 refused\n";
    assert_eq!(upload(home.path(), "one.jsonl"), (true, known.to_owned()));
    let more = one + "\n" + &key("CAARIjNEVWZ3iJkAqrvM3Q==", 145);
    fs::write(home.path().join("more.jsonl"), more).unwrap();
    let (ok, said) = upload(home.path(), "more.jsonl");
    assert!(!ok, "{said}");
    assert!(
        said.contains("0 keys stored, 1 were there already, 1 refused\n"),
        "{said}"
    );
    assert!(
        said.contains("more.jsonl: line 3: rollingPeriod is not 1 to 144\n"),
        "{said}"
    );
}
