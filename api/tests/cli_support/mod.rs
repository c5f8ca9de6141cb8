//! Runs the real binary.

#![allow(dead_code, unused_imports, reason = "each suite uses its part")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod backend;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

pub(crate) use backend::{Backend, Traffic};

/// The command with the given arguments and none of the surrounding settings. It listens on free
/// ports: another program, such as an installed gateway, may have the default ones.
pub(crate) fn efgs(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_efgs"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("EFGS__") {
            command.env_remove(name);
        }
    }
    for port in ["PUBLIC", "OPERATIONS"] {
        command.env(format!("EFGS__{port}__LISTEN"), "127.0.0.1:0");
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command that succeeds; returns its standard output.
#[track_caller]
pub(crate) fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, errors) = texts(&output);
    assert!(output.status.success(), "{command:?}: {out}{errors}");
    out
}

/// Runs a command that ends with status 1 and one sentence that holds all of `says`.
#[track_caller]
pub(crate) fn refuses(command: &mut Command, says: &[&str]) {
    // `efgs serve` logs where operators can connect before it finds out.
    let output = ended(command.env("EFGS__LOG__LEVEL", "error"));
    let (_, errors) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{command:?}: {errors}");
    for part in says {
        assert!(errors.contains(part), "{errors:?} lacks {part:?}");
    }
    assert!(errors.starts_with("efgs: "), "{errors:?}");
    assert_eq!(errors.trim_end().lines().count(), 1, "{errors:?}");
}

/// The output of a command that ends by itself: one that begins to serve would be awaited for ever.
#[track_caller]
fn ended(command: &mut Command) -> Output {
    let (out, errors) = (Stdio::piped(), Stdio::piped());
    let process = command.stdout(out).stderr(errors).spawn().unwrap();
    let id = process.id().to_string();
    let (sender, output) = mpsc::sync_channel(1);
    thread::spawn(move || sender.send(process.wait_with_output()));
    output.recv_timeout(TIMEOUT).map_or_else(
        |_| {
            let killed = Command::new("kill").args(["-s", "KILL", &id]).status();
            panic!("{command:?} does not end; killed: {killed:?}");
        },
        Result::unwrap,
    )
}

pub(crate) fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// An installation that `efgs init` made.
pub(crate) struct Installation {
    folder: TempDir,
}

impl Installation {
    pub(crate) fn new(participants: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let dir = folder.path().join("demo");
        let dir = dir.to_str().unwrap();
        succeeds(&mut efgs(&[
            "init",
            "--dir",
            dir,
            "--participants",
            participants,
        ]));
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("demo").join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The backend of a participant of this installation, which connects there.
    pub(crate) fn backend(&self, country: &str, public: SocketAddr) -> Backend {
        let certificate = |kind: &str| self.path(&format!("pki/{country}/{kind}"));
        let certificates = [certificate("authentication"), certificate("signing")];
        let certificates = [&*certificates[0], &*certificates[1]];
        Backend::new(
            country,
            certificates,
            &self.path("pki/server-ca.pem"),
            public,
        )
    }

    /// A command on this installation.
    pub(crate) fn efgs(&self, arguments: &[&str]) -> Command {
        let mut command = efgs(arguments);
        command.arg("--config").arg(self.path("efgs.toml"));
        command
    }

    /// `efgs serve` as tests want it.
    pub(crate) fn serve(&self) -> Command {
        let mut command = self.efgs(&["serve"]);
        command.env("EFGS__BUNDLE__PACED", "false");
        // No load balancer has to notice that it stops.
        command.env("EFGS__OPERATIONS__SHUTDOWN_DELAY_MS", "0");
        command
    }
}

/// A running gateway; killed when dropped.
pub(crate) struct Gateway {
    process: Child,
    lines: mpsc::Receiver<String>,
}

impl Gateway {
    /// Starts, and waits only until operators can connect; returns their address.
    pub(crate) fn start_slowly(command: &mut Command, log: fs::File) -> (Self, SocketAddr) {
        let gateway = Self::spawn(command, log);
        let line = gateway.lines.recv_timeout(TIMEOUT).unwrap();
        let address = line.strip_prefix("listening operations ");
        let address = address.unwrap_or_else(|| panic!("{line:?}"));
        let address = address.parse().unwrap();
        (gateway, address)
    }

    /// Starts and waits until it is ready; returns its addresses by name.
    pub(crate) fn start(command: &mut Command) -> (Self, Vec<(String, SocketAddr)>) {
        Self::start_with_log(command, Stdio::piped())
    }

    /// The same, with the log elsewhere than in a pipe that is read at the end.
    pub(crate) fn start_with_log(
        command: &mut Command,
        log: impl Into<Stdio>,
    ) -> (Self, Vec<(String, SocketAddr)>) {
        let gateway = Self::spawn(command, log);
        let mut addresses = Vec::new();
        loop {
            let line = gateway.lines.recv_timeout(TIMEOUT).unwrap();
            if line == "ready" {
                return (gateway, addresses);
            }
            let words: Vec<&str> = line.split(' ').collect();
            let ["listening", name, address] = *words.as_slice() else {
                panic!("{line:?}");
            };
            addresses.push((name.to_owned(), address.parse().unwrap()));
        }
    }

    fn spawn(command: &mut Command, log: impl Into<Stdio>) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::sync_channel(100);
        thread::spawn(move || {
            for line in out.lines() {
                if sender.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { process, lines }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn stop(mut self, signal: &str) -> Output {
        self.signal(signal);
        // Its standard output closes when it ends.
        let ended = loop {
            if let Err(ended) = self.lines.recv_timeout(TIMEOUT) {
                break ended;
            }
        };
        assert_eq!(ended, RecvTimeoutError::Disconnected);
        let status = self.process.wait().unwrap();
        let mut errors = Vec::new();
        if let Some(mut pipe) = self.process.stderr.take() {
            std::io::Read::read_to_end(&mut pipe, &mut errors).unwrap();
        }
        Output {
            status,
            stdout: Vec::new(),
            stderr: errors,
        }
    }
}

/// Timeout of every wait, on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

impl Drop for Gateway {
    fn drop(&mut self) {
        // After a successful test it has already ended.
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

/// Runs OpenSSL; `None` if it is not installed.
#[track_caller]
pub(crate) fn openssl(arguments: &[&str], folder: &Path) -> Option<String> {
    let mut command = Command::new("openssl");
    command.args(arguments).current_dir(folder);
    let output = command.stdin(Stdio::null()).output().ok()?;
    let (out, errors) = texts(&output);
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {out}{errors}"
    );
    Some(out)
}
