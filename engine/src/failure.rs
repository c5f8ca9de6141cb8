//! Failures of the gateway itself, for which no request is to blame, and errors at start.

/// Ours and unexpected. The text is one plain sentence; the source goes to the log.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The database did not answer or answered with an error. Nothing of the upload is stored, unless
    /// the database went away in the middle of its commit and is not back yet: then it is stored
    /// whole or not at all, and an upload that is sent again is answered accordingly (a replay as stored).
    #[error("the database is not available")]
    Database(#[source] DatabaseError),
    /// The database answers, and refuses to store: its disk is full, it is read-only, a right is
    /// missing. Nothing of the upload is stored, with the same exception.
    #[error("the database does not store uploads")]
    StorageRefused(#[source] DatabaseError),
    /// No answer was found within [`crate::limits::UPLOAD_ANSWER_MAX`]. The upload is stored whole or
    /// not at all; when it is sent again, it is answered accordingly.
    #[error("there was no outcome in time")]
    NoOutcome,
    /// The database is not the one that this gateway knows: it went back to an earlier state. Nothing
    /// is stored or answered until an operator has seen to it.
    #[error("the database has gone back to an earlier state")]
    DatabaseWentBack,
    /// The upload is stored, but the gateway cannot remember that outside the database, as it is
    /// told to. It is answered once it can, when it is sent again.
    #[error("the state file cannot be written")]
    StateFile,
    /// The gateway stopped before the outcome was known to it.
    #[error("the gateway is shutting down")]
    ShuttingDown,
    /// A stage panicked; the batch was dropped.
    #[error("an internal error occurred")]
    Panicked,
    /// Stored key data could not be opened.
    #[error("stored key data cannot be read")]
    Unseal(#[from] crate::seal::UnsealError),
}

/// An error of the database, with what was being done.
#[derive(Debug, thiserror::Error)]
#[error("{doing} failed")]
pub struct DatabaseError {
    /// What was being done, as a gerund clause ("reading the log").
    pub doing: &'static str,
    /// The driver's error.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why the engine does not start (or an admin command does not run). The text is one sentence
/// that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be reached or refuses us.
    #[error("cannot open the database {database}: {remedy}")]
    Unreachable {
        /// The database, without its password.
        database: String,
        /// What to do.
        remedy: &'static str,
        /// The driver's error.
        #[source]
        source: DatabaseError,
    },
    /// The database answers, and a row in it is none that a gateway writes.
    #[error(
        "the database {database} holds a row that no gateway has written: correct or restore it"
    )]
    UnreadableRow {
        /// The database, without its password.
        database: String,
        /// Table, row and column.
        #[source]
        source: DatabaseError,
    },
    /// There is no database, or an empty one. A gateway does not make one: it would take an address
    /// that is wrong for an installation without keys and certificates.
    #[error(
        "the database {database} was never set up: if it should hold data, check [database] url and \
         that its volume is mounted; else run efgs init or efgs db migrate"
    )]
    NeverSetUp {
        /// The database, without its password.
        database: String,
    },
    /// The database is set up in a way that we cannot work with.
    #[error("{0}")]
    Unsuitable(String),
    /// A row is not what a gateway has written.
    #[error(
        "the database was modified outside of efgs: {0}; efgs db verify lists all such rows, and \
         docs/integrity.md says what can be done"
    )]
    Changed(String),
    /// The schema is newer than this program.
    #[error(
        "the database has schema version {found}, this program knows {known}: install a newer efgs"
    )]
    NewerSchema {
        /// Version found.
        found: u32,
        /// Newest version known.
        known: u32,
    },
    /// The database was set up with other keys.
    #[error(transparent)]
    WrongKey(#[from] WrongKey),
    /// The key file was read again, and running gateways cannot take its keys.
    #[error("{0}")]
    UnfitKeys(String),
    /// A setting cannot be used.
    #[error("{0}")]
    Setting(String),
    /// A thread or pool cannot be started.
    #[error("cannot start a thread")]
    Threads(#[source] std::io::Error),
}

/// A key is not the one that the database was set up with: what is stored would be unknown, or could
/// not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {0} configured is not the one that this database was set up with: use the key file of the \
     installation"
)]
pub struct WrongKey(pub(crate) String);

/// An error and its causes, on one line: no error's own text repeats its cause.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn lists_each_cause_once() {
        let error = StartError::Threads(io::Error::other("no resources"));
        assert_eq!(chain(&error), "cannot start a thread: no resources");
    }
}
