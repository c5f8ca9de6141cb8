//! A child process that ends when its value is dropped.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::poll::poll;

/// How long a process may take to end by itself when its value is dropped.
const LAST_WORDS: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
}

impl Process {
    /// Starts a process in its own process group: Ctrl-C reaches only its owner, which then shuts
    /// it down gracefully.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        command.process_group(0).spawn().map(|child| Self { child })
    }

    pub(super) const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
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
        if self.ended().is_none() {
            kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        }
        match poll(within, || self.ended()) {
            Some(status) => Ok(status),
            None => self.kill(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.terminate(LAST_WORDS) {
            // Only the terminal is left to report to.
            eprintln!("process {} did not end: {error}", self.id());
        }
    }
}
