//! Runs scenarios, phase by phase, and measures them second by second.
//!
//! Within a stream with a timetable nothing waits for an answer: requests become due by the clock,
//! wait in their participant's lane when all its connections are busy, and their latency counts
//! from the moment they were due. Uploads are made and signed ahead of their time within a bound of
//! memory; between phases the clock of the run stands still.

mod attacks;
mod downloads;
mod lane;
mod party;
mod phase;
mod stock;
mod stream;
mod tally;
mod tasks;
mod uploads;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::clock::{Clock, SystemClock};
use engine::domain::UnixMillis;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

pub use self::party::Party;
pub use self::tally::{Surprise, Surprises};
pub use self::watch::Watch;
pub(crate) use self::watch::sample;

use self::stock::{Maker, MakingCost};
use self::stream::{Shared, Stored};
use self::tally::lock;
use crate::client::{ClientError, SetupError, Target};
use crate::keys::Seed;
use crate::participants::ParticipantsError;
use crate::profiles::ProfileError;
use crate::record::{RecordError, RecordWriter};
use crate::results::{
    Counts, Knee, OwnCost, PhaseSummary, ResultsError, ResultsWriter, Run, Summary,
};
use crate::workload::{Workload, sha256};

/// Least memory for prepared uploads: enough that making them ahead never stands still.
pub const MEMORY_BYTES_MIN: u64 = 256 << 20;

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder has no participants.
    #[error(transparent)]
    Participants(#[from] ParticipantsError),
    /// The table of populations cannot be read.
    #[error(transparent)]
    Profiles(#[from] ProfileError),
    /// No client can be made.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The gateway cannot be reached at all.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The results cannot be written.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// The record cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Work on another thread failed.
    #[error("a task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// Everything that is to be made ahead would not fit.
    #[error(
        "phase {phase} makes {needed} MiB of uploads ahead, and may use {allowed} MiB: give \
         --memory-mib, or let the scenario make fewer keys in a phase"
    )]
    Memory {
        /// The phase.
        phase: String,
        /// What it needs, in MiB.
        needed: u64,
        /// What it may use, in MiB.
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
    /// More streams than upload numbers can tell apart.
    #[error("a run has at most 4095 streams, repeated phases counted")]
    Streams,
}

/// How to run.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The gateways; connections are spread over them.
    pub targets: Vec<Target>,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Decides about every key and every arrival.
    pub seed: u64,
    /// Memory for prepared uploads, at least [`MEMORY_BYTES_MIN`].
    pub memory_bytes_max: u64,
    /// What is watched.
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

/// A run, phase by phase.
pub struct Experiment {
    shared: Arc<Shared>,
    maker: Maker,
    memory_bytes_max: u64,
    seed: u64,
    watch: Watch,
    results: Option<ResultsWriter>,
    record: Option<RecordWriter>,
    /// Seconds of the phases that are over.
    clock: f64,
    streams: u32,
    phases: Vec<PhaseSummary>,
    total: Counts,
    behind_max: u64,
    rss_bytes_max: BTreeMap<String, u64>,
    ahead_seconds: f64,
    /// Processor time of loadgen while clocks ran, and of that what making took.
    running_cpu_seconds: f64,
    running_making_seconds: f64,
}

impl std::fmt::Debug for Experiment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Experiment")
            .field("phases", &self.phases.len())
            .finish_non_exhaustive()
    }
}

impl Experiment {
    /// Makes a run ready.
    ///
    /// # Errors
    /// When results or record cannot be written.
    pub fn new(party: Party, options: LoadOptions) -> Result<Self, LoadError> {
        let at = SystemClock.now();
        let party = Arc::new(party);
        let workload = workload(&party, &options, at);
        let record = options.record.as_ref().map(|path| {
            RecordWriter::create(path, &options.name, workload.seed, &workload.countries)
        });
        let results = options
            .results
            .as_ref()
            .map(|(path, run)| ResultsWriter::create(path, run));
        let memory_bytes_max = options.memory_bytes_max.max(MEMORY_BYTES_MIN);
        let maker = Maker {
            party: Arc::clone(&party),
            generator: Arc::new(workload.generator()),
            seed: workload.seed,
            at,
            memory: Arc::new(Semaphore::new(0)),
            cost: Arc::new(MakingCost::default()),
        };
        let shared = Shared {
            targets: options.targets.into(),
            timeout: options.timeout,
            day: workload.seed.day,
            stored: party.callers.iter().map(|_| Stored::default()).collect(),
            cursors: party
                .callers
                .iter()
                .map(|_| AsyncMutex::default())
                .collect(),
            surprises: Mutex::default(),
            party,
        };
        Ok(Self {
            shared: Arc::new(shared),
            maker,
            memory_bytes_max,
            seed: options.seed,
            watch: options.watch,
            results: results.transpose()?,
            record: record.transpose()?,
            clock: 0.0,
            streams: 0,
            phases: Vec::new(),
            total: Counts::default(),
            behind_max: 0,
            rss_bytes_max: BTreeMap::new(),
            ahead_seconds: 0.0,
            running_cpu_seconds: 0.0,
            running_making_seconds: 0.0,
        })
    }

    /// Processes were started again: these are watched from now on.
    pub fn watch(&mut self, watch: Watch) {
        self.watch = watch;
    }

    /// Notes how long the gateway took to be ready again after the last phase.
    pub fn note_restart(&mut self, took: Duration) {
        if let Some(phase) = self.phases.last_mut() {
            phase.restart_seconds = Some(took.as_secs_f64());
        }
    }

    /// Answers that nobody expected, so far.
    pub fn surprises(&self) -> Surprises {
        lock(&self.shared.surprises).clone()
    }

    /// Writes the last line of the results and gives it.
    ///
    /// # Errors
    /// When results or record cannot be written.
    pub fn finish(mut self, knee: Option<Knee>) -> Result<Summary, LoadError> {
        if let Some(record) = &mut self.record {
            record.flush()?;
        }
        let mut cpu_seconds = BTreeMap::new();
        for (name, seconds) in self.phases.iter().flat_map(|phase| &phase.cpu_seconds) {
            *cpu_seconds.entry(name.clone()).or_default() += seconds;
        }
        let summary = Summary {
            total: self.total.figures(self.clock, self.behind_max),
            cpu_seconds,
            rss_bytes_max: std::mem::take(&mut self.rss_bytes_max),
            loadgen: self.own_cost(),
            phases: std::mem::take(&mut self.phases),
            knee,
        };
        if let Some(results) = self.results.take() {
            results.finish(&summary)?;
        }
        Ok(summary)
    }

    #[allow(clippy::cast_precision_loss, reason = "figures for people to read")]
    fn own_cost(&self) -> OwnCost {
        let made = self.maker.cost.keys.load(Ordering::Relaxed);
        let nanos = self.maker.cost.nanos.load(Ordering::Relaxed);
        let moved = self.total.upload_keys + self.total.download_keys;
        let sending = (self.running_cpu_seconds - self.running_making_seconds).max(0.0);
        OwnCost {
            signing_ns_per_key: nanos as f64 / made.max(1) as f64,
            sending_ns_per_key: sending * 1e9 / moved.max(1) as f64,
            ahead_seconds: self.ahead_seconds,
        }
    }
}

/// The seed of a run's keys: another name, text or seed gives other keys and tags.
fn workload(party: &Party, options: &LoadOptions, at: UnixMillis) -> Workload {
    let text = format!("{}\n{}", options.name, options.text);
    let digest = sha256(text.as_bytes());
    let [first, second, ..] = digest.map(u64::from);
    let low = digest[2..8]
        .iter()
        .fold(first << 8 | second, |number, byte| {
            number << 8 | u64::from(*byte)
        });
    Workload {
        seed: Seed {
            number: options.seed,
            keys_total: low,
            upload_keys: 0,
            day: at.day(),
        },
        countries: party.participants.iter().map(|one| one.country).collect(),
        uploads: Vec::new(),
    }
}
