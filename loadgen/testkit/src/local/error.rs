//! Why a server failed to start or run.

use std::io;

/// Why a server failed to start or run.
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
    /// A program cannot be started, or a file cannot be written.
    #[error("{what}")]
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
        /// The program's last output.
        why: String,
    },
    /// The database rejected a statement.
    #[error("MariaDB")]
    Database(#[from] mysql::Error),
}

impl LocalError {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
