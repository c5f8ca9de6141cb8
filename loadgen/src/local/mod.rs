//! Servers of one's own, on loopback and free ports, for tests, benches and the demo. They end when
//! their value is dropped; nothing else is ever ended. They outlive an owner that is itself ended
//! with SIGKILL: a child can be bound to its parent's life only with unsafe code.

mod gateway;
mod installation;
mod mariadb;
mod process;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use gateway::{Gateway, GatewayOptions, initialise, initialise_for};
pub use installation::{Installation, LocalDatabase};
pub use mariadb::{HeldWrites, MariaDb};

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A program is not installed.
    #[error("{program} is missing: install the package {package}")]
    Missing {
        /// The program.
        program: &'static str,
        /// The package that has it, on Debian and its relatives.
        package: &'static str,
    },
    /// A program does not start, or a file cannot be written.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A program ended, or never became ready.
    #[error("{what}: {why}")]
    Failed {
        /// What was attempted.
        what: String,
        /// What the program said last.
        why: String,
    },
    /// The database refuses a statement.
    #[error("MariaDB: {0}")]
    Database(#[from] mysql::Error),
}

impl LocalError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Longest wait for a server to become ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The last lines of a log, for an error message.
fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

/// Looks for a program in `PATH` and where servers usually are.
fn find_program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/usr/libexec"].map(PathBuf::from);
    let folders: Vec<_> = std::env::split_paths(&path).chain(usual).collect();
    let candidates = names
        .iter()
        .flat_map(|name| folders.iter().map(move |f| f.join(name)));
    candidates.into_iter().find(|candidate| candidate.is_file())
}
