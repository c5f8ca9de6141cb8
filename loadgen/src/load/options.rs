//! Options of a run.

use std::path::PathBuf;
use std::time::Duration;

use super::watch::Watch;
use crate::client::Target;
use crate::results::Run;

/// Minimum memory for prepared uploads: enough that preparing them never stalls.
pub const MEMORY_BYTES_MIN: u64 = 256 << 20;

/// Options of a run.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The gateways; connections are spread over them.
    pub targets: Vec<Target>,
    /// Timeout of a request.
    pub timeout: Duration,
    /// Seed of every key and every arrival.
    pub seed: u64,
    /// Memory for prepared uploads, at least [`MEMORY_BYTES_MIN`].
    pub memory_bytes_max: u64,
    /// Processes and metrics to watch.
    pub watch: Watch,
    /// Where results are written; nowhere by default.
    pub results: Option<(PathBuf, Run)>,
    /// Where what was sent and answered is written, for `loadgen verify`; nowhere by default.
    pub record: Option<PathBuf>,
    /// Name of the run, and its text: with the seed, they decide about every key.
    pub name: String,
    /// The scenario as it was written.
    pub text: String,
}
