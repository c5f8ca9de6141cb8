//! The peers of a practice gateway: countries that upload made-up keys.
//!
//! The gateway's program cannot sign or upload. `efgs-backend peers` does, with the peers' own
//! certificates, through the participants' port; it ends when its standard input does, however this
//! process ends.

use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use api::settings::PracticeSettings;
use engine::domain::Country;

/// The program that uploads for them.
const PROGRAM: &str = "efgs-backend";

/// Runs until it is dropped.
#[derive(Debug)]
pub(super) struct Peers {
    _stdin: ChildStdin,
}

impl Peers {
    /// Starts them on the participants' port. Nothing if there are none, or they cannot be started, which
    /// is logged: the gateway is of use without them.
    pub(super) fn start(practice: &PracticeSettings, public: Option<SocketAddr>) -> Option<Self> {
        if practice.peers.is_empty() {
            return None;
        }
        let Some(public) = public else {
            tracing::warn!("the practice peers do not upload: [public] listen is off");
            return None;
        };
        let program = program();
        let started = command(&program, practice, public).spawn();
        match started.and_then(Self::watch) {
            Ok(peers) => Some(peers),
            Err(error) => {
                let program = program.display();
                tracing::warn!(
                    "the practice peers do not upload: cannot run {program}: {error}; install \
                     efgs-backend beside efgs or in PATH"
                );
                None
            }
        }
    }

    /// Logs what they say, and that they end.
    fn watch(mut child: Child) -> io::Result<Self> {
        let piped = child.stdin.take().zip(child.stderr.take());
        let (stdin, stderr) = piped.ok_or(io::ErrorKind::BrokenPipe)?;
        let log = move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                tracing::info!("practice peers: {line}");
            }
            if let Ok(status) = child.wait() {
                tracing::info!("the practice peers have ended: {status}");
            }
        };
        thread::Builder::new().name("peers".to_owned()).spawn(log)?;
        Ok(Self { _stdin: stdin })
    }
}

/// Beside this program, otherwise in `PATH`.
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.with_file_name(PROGRAM);
    if beside.is_file() {
        beside
    } else {
        PROGRAM.into()
    }
}

fn command(program: &Path, practice: &PracticeSettings, public: SocketAddr) -> Command {
    let peers: Vec<_> = practice.peers.iter().map(Country::as_str).collect();
    let mut command = Command::new(program);
    command.arg("peers").arg("--pki").arg(&practice.pki);
    command.args(["--gateway", &format!("https://{}", reachable(public))]);
    command.args(["--countries", &peers.join(",")]);
    let seconds = practice.upload_interval.as_secs().to_string();
    command.args(["--upload-seconds", &seconds]);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    command.stderr(Stdio::piped());
    command
}

/// Where to connect on this machine, by a name that the development PKI's certificate has.
fn reachable(public: SocketAddr) -> String {
    let ip = public.ip();
    match ip.is_unspecified() || ip.is_loopback() {
        true => format!("localhost:{}", public.port()),
        false => public.to_string(),
    }
}
