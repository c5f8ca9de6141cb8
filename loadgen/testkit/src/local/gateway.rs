//! A gateway as a separate process, which can be killed at any instant.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::error::LocalError;
use super::mariadb::free_port;
use super::process::Process;
use super::program::{READY_WITHIN, tail};
use crate::target::Target;

/// How long a gateway may take to drain on shutdown.
const DRAIN_WITHIN: Duration = Duration::from_secs(20);
/// Capacity of the channel for lines of the gateway's output.
const QUEUE_LINES: usize = 16;
/// Prefix of variables that override a gateway's settings; ours come only from the options.
const VARIABLE_PREFIX: &str = "EFGS__";

/// Where and how to run a gateway.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// The program `efgs`.
    pub program: PathBuf,
    /// The folder that `efgs init` wrote.
    pub folder: PathBuf,
    /// Names the log, `FOLDER/NAME.log`: several gateways can share a folder.
    pub name: String,
    /// Overrides of settings, as `EFGS__BUNDLE__MAX_DELAY_MS`. Free ports are chosen by default.
    pub environment: Vec<(String, String)>,
}

impl GatewayOptions {
    /// A gateway named `efgs` with the settings of its folder, on free ports.
    pub fn new(program: &Path, folder: &Path) -> Self {
        Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            name: "efgs".to_owned(),
            environment: Vec::new(),
        }
    }
}

/// A running gateway, or one that was killed and can run again. Dropping it ends it.
#[derive(Debug)]
pub struct Gateway {
    process: Option<Process>,
    public: SocketAddr,
    operations: SocketAddr,
    options: GatewayOptions,
}

impl Gateway {
    /// Runs `efgs serve --config FOLDER/efgs.toml` and waits until it reports that it is ready.
    ///
    /// # Errors
    /// When it ends before, with the last lines of its log.
    pub fn start(options: GatewayOptions) -> Result<Self, LocalError> {
        let free = || free_port().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut gateway = Self {
            process: None,
            public: free()?,
            operations: free()?,
            options,
        };
        gateway.restart()?;
        Ok(gateway)
    }

    /// Where participants connect, with mutual TLS.
    pub const fn public(&self) -> SocketAddr {
        self.public
    }

    /// Where health and metrics are.
    pub const fn operations(&self) -> SocketAddr {
        self.operations
    }

    /// The same as a target of a client. The server certificate is for `localhost`, too.
    pub fn target(&self) -> Target {
        Target {
            tls: true,
            host: self.public.ip().to_string(),
            port: self.public.port(),
        }
    }

    /// What it wrote to standard error, over all restarts.
    pub fn log(&self) -> PathBuf {
        self.options
            .folder
            .join(format!("{}.log", self.options.name))
    }

    /// Its process id, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Its exit status, if it ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().and_then(Process::ended)
    }

    /// Ends it with SIGKILL, as a power cut would.
    ///
    /// # Errors
    /// When the process cannot be killed.
    pub fn kill9(&mut self) -> Result<(), LocalError> {
        match self.process.take() {
            Some(mut process) => process
                .kill()
                .map(drop)
                .map_err(LocalError::io("cannot kill the gateway")),
            None => Ok(()),
        }
    }

    /// Starts it and kills it with SIGKILL after that time, wherever it is by then.
    ///
    /// # Errors
    /// When it cannot be run or killed.
    pub fn kill9_while_starting(&mut self, after: Duration) -> Result<(), LocalError> {
        self.terminate()?;
        self.process = Some(self.spawn()?);
        std::thread::sleep(after);
        self.kill9()
    }

    /// Limits the size of files that it writes from now on, as a full disk would; `None` lifts the
    /// limit. A write beyond it fails if the process ignores SIGXFSZ, otherwise it ends the process.
    ///
    /// # Errors
    /// When the process does not run, or the limit cannot be set.
    pub fn limit_file_bytes(&self, bytes_max: Option<u64>) -> Result<(), LocalError> {
        let refused = LocalError::io("cannot limit the gateway's files");
        let id = self.process_id().and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(Pid::from_raw);
        let Some(id) = id else {
            return Err(refused(std::io::ErrorKind::NotFound.into()));
        };
        let limit = Rlimit {
            current: bytes_max,
            maximum: None,
        };
        let set = prlimit(Some(id), Resource::Fsize, limit);
        set.map(drop).map_err(|error| refused(error.into()))
    }

    /// Asks it to end with SIGTERM and waits; SIGKILL when it does not drain in time.
    ///
    /// # Errors
    /// When the process cannot be signalled.
    pub fn terminate(&mut self) -> Result<Option<ExitStatus>, LocalError> {
        let Some(mut process) = self.process.take() else {
            return Ok(None);
        };
        let status = process.terminate(DRAIN_WITHIN);
        status
            .map(Some)
            .map_err(LocalError::io("cannot end the gateway"))
    }

    /// Restarts it on the same ports, after a graceful shutdown if it is running.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn restart(&mut self) -> Result<(), LocalError> {
        self.terminate()?;
        let mut process = self.spawn()?;
        let output = process
            .child()
            .stdout
            .take()
            .expect("the command pipes its output");
        let lines = read_lines(output);
        self.wait_until_ready(&lines)?;
        self.process = Some(process);
        Ok(())
    }

    fn spawn(&self) -> Result<Process, LocalError> {
        let process = Process::start(&mut self.command()?);
        let what = format!("cannot run {}", self.options.program.display());
        process.map_err(LocalError::io(what))
    }

    fn command(&self) -> Result<Command, LocalError> {
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.map_err(LocalError::io("cannot write the gateway's log"))?;
        let mut command = Command::new(&self.options.program);
        command
            .args(["serve", "--config"])
            .arg(self.options.folder.join("efgs.toml"));
        forget_overrides(&mut command);
        command
            .env("EFGS__PUBLIC__LISTEN", self.public.to_string())
            .env("EFGS__OPERATIONS__LISTEN", self.operations.to_string())
            // A day is simulated in seconds: with pacing, its download batches would take the day.
            .env("EFGS__BUNDLE__PACED", "false")
            // No load balancer has to notice that it stops.
            .env("EFGS__OPERATIONS__SHUTDOWN_DELAY_MS", "0")
            // Nor is its day's quota to be reached.
            .env("EFGS__QUOTA__KEYS_PER_DAY", "1000000000000")
            .envs(self.options.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        Ok(command)
    }

    /// Reads `listening public ADDR`, `listening operations ADDR` and `ready`.
    fn wait_until_ready(&mut self, lines: &Receiver<String>) -> Result<(), LocalError> {
        let failed = |why: String| LocalError::Failed {
            what: "the gateway does not run".to_owned(),
            why,
        };
        let begun = Instant::now();
        loop {
            let left = READY_WITHIN.saturating_sub(begun.elapsed());
            let line = match lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => return Err(failed(tail(&self.log()))),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(failed(format!("not ready within {READY_WITHIN:?}")));
                }
            };
            let address = |text: &str| {
                text.parse()
                    .map_err(|_| failed(format!("no address in {line:?}")))
            };
            match line.split_ascii_whitespace().collect::<Vec<_>>().as_slice() {
                ["listening", "public", text] => self.public = address(text)?,
                ["listening", "operations", text] => self.operations = address(text)?,
                ["ready"] => return Ok(()),
                _ => {}
            }
        }
    }
}

/// Forwards the lines of a process while the receiver exists, and discards them after that, so that
/// the process never blocks on its output.
fn read_lines(output: ChildStdout) -> Receiver<String> {
    let (send, receive) = sync_channel(QUEUE_LINES);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            send.send(line).ok();
        }
    });
    receive
}

fn forget_overrides(command: &mut Command) {
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.to_string_lossy().starts_with(VARIABLE_PREFIX)) {
        command.env_remove(name);
    }
}

/// Runs `efgs init --dir FOLDER`, with `--database URL` when there is one.
///
/// # Errors
/// When it fails, with its output.
pub fn initialise(
    program: &Path,
    folder: &Path,
    database_url: Option<&str>,
) -> Result<(), LocalError> {
    initialise_for(program, folder, database_url, &[])
}

/// The same for these participants only; for `efgs init`'s defaults when the list is empty.
///
/// # Errors
/// When it fails, with its output.
pub fn initialise_for(
    program: &Path,
    folder: &Path,
    database_url: Option<&str>,
    participants: &[&str],
) -> Result<(), LocalError> {
    let mut command = Command::new(program);
    command
        .arg("init")
        .arg("--dir")
        .arg(folder)
        .stdin(Stdio::null());
    if !participants.is_empty() {
        command.arg("--participants").arg(participants.join(","));
    }
    forget_overrides(&mut command);
    if let Some(url) = database_url {
        // Not on the command line, which every user of the machine can read.
        command.env("EFGS__DATABASE__URL", url);
    }
    let what = format!("cannot run {}", program.display());
    let output = command
        .process_group(0)
        .output()
        .map_err(LocalError::io(what))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr)
        .trim()
        .replace('\n', " | ");
    Err(LocalError::Failed {
        what: "efgs init failed".to_owned(),
        why,
    })
}
