//! Why a measurement failed.

use std::io;

use crate::client::{ClientError, SetupError};
use crate::load::LoadError;
use crate::local::LocalError;
use crate::participants::ParticipantsError;
use crate::plan::costs::CostsError;
use crate::plan::fetch::FetchError;
use crate::profiles::ProfileError;
use crate::record::RecordError;
use crate::steps::StepError;

/// Why a measurement failed.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// A server failed to start or run.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The folder has no participants.
    #[error(transparent)]
    Participants(#[from] ParticipantsError),
    /// A client cannot be created.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The record cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Uploads stopped.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Uploads cannot be made, or downloads stopped.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A download failed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The profiles do not have what is needed.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A cost that is not measured is missing from the shipped costs.
    #[error(transparent)]
    Costs(#[from] CostsError),
    /// The gateway's metrics cannot be read.
    #[error("the gateway's metrics")]
    Metrics(#[from] ClientError),
    /// The temporary folder or the terminal fails.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Not every key was stored and delivered, so that the figures mean nothing.
    #[error("not every key was stored and delivered: {0}")]
    Unclean(String),
    /// SIGINT or SIGTERM; everything was cleaned up.
    #[error("interrupted")]
    Interrupted,
}
