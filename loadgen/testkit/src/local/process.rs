//! A child process that ends with its value.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How often to look whether a process has ended.
const LOOK: Duration = Duration::from_millis(5);
/// How long a process may take to end by itself when its value is dropped.
const LAST_WORDS: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
}

impl Process {
    /// Starts a process in a group of its own: Ctrl-C reaches its owner alone, who then ends it in
    /// good order.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        command.process_group(0).spawn().map(|child| Self { child })
    }

    pub(super) const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL, and waits for the end.
    pub(super) fn kill(&mut self) -> io::Result<ExitStatus> {
        if self.ended().is_none() {
            self.child.kill()?;
        }
        self.child.wait()
    }

    /// SIGTERM, and waits for the end; SIGKILL when it takes longer than `within`.
    pub(super) fn terminate(&mut self, within: Duration) -> io::Result<ExitStatus> {
        let begun = Instant::now();
        if self.ended().is_none() {
            kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        }
        while begun.elapsed() < within {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            std::thread::sleep(LOOK);
        }
        self.kill()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.terminate(LAST_WORDS) {
            // Nobody is left to tell but the terminal.
            eprintln!("process {} did not end: {error}", self.id());
        }
    }
}
