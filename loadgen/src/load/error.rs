//! Why a run stopped.

use crate::client::{ClientError, SetupError};
use crate::participants::ParticipantsError;
use crate::profiles::ProfileError;
use crate::record::RecordError;
use crate::results::ResultsError;

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder has no participants.
    #[error(transparent)]
    Participants(#[from] ParticipantsError),
    /// The table of populations cannot be read.
    #[error(transparent)]
    Profiles(#[from] ProfileError),
    /// A client cannot be created.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The gateway is unreachable.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The results cannot be written.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// The record cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Work on another thread failed.
    #[error("a task failed")]
    Task(#[from] tokio::task::JoinError),
    /// The uploads to prepare ahead exceed the memory limit.
    #[error(
        "phase {phase} makes {needed} MiB of uploads ahead, and may use {allowed} MiB: give \
         --memory-mib, or let the scenario make fewer keys in a phase"
    )]
    Memory {
        /// The phase.
        phase: String,
        /// Memory that it needs, in MiB.
        needed: u64,
        /// Memory that it may use, in MiB.
        allowed: u64,
    },
    /// A stream skips more participants than the PKI folder has.
    #[error(
        "{phase}/{stream} needs more participants than the {there_are} of the PKI folder: make \
         more with `efgs init --participants`"
    )]
    Participation {
        /// The phase.
        phase: String,
        /// The stream.
        stream: String,
        /// How many participants there are.
        there_are: usize,
    },
    /// More streams than there are ranges of upload numbers.
    #[error("a run has at most 4095 streams, repeated phases counted")]
    Streams,
}
