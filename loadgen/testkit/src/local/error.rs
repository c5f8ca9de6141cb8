//! Why a server does not run.

use std::io;

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
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
