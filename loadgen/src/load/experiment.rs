//! A run: the state that its phases share, and its summary.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::clock::{Clock, SystemClock};
use engine::domain::UnixMillis;
use engine::locks::LockIgnoringPoison as _;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::sleep;

use super::error::LoadError;
use super::making::{Maker, MakingCost};
use super::options::{LoadOptions, MEMORY_BYTES_MIN};
use super::participants::Participants;
use super::stream::{Shared, Stored};
use super::tally::UnexpectedResponses;
use super::watch::{Watch, delays};
use crate::keys::Seed;
use crate::objective::Objective;
use crate::record::RecordWriter;
use crate::results::{Counts, Delay, Limit, OwnCost, PhaseSummary, ResultsWriter, Summary};
use crate::workload::Workload;
use testkit::digest::sha256;

/// Between looks at whether all uploads can be downloaded.
const DELIVERY_POLL: Duration = Duration::from_millis(200);

/// A run, phase by phase.
pub struct Experiment {
    pub(super) shared: Arc<Shared>,
    pub(super) maker: Maker,
    pub(super) memory_bytes_max: u64,
    pub(super) seed: u64,
    pub(super) watch: Watch,
    pub(super) results: Option<ResultsWriter>,
    pub(super) record: Option<RecordWriter>,
    /// Seconds of the phases that are over.
    pub(super) clock: f64,
    pub(super) streams: u32,
    pub(super) phases: Vec<PhaseSummary>,
    pub(super) total: Counts,
    pub(super) behind_max: u64,
    pub(super) dropped: u64,
    pub(super) rss_bytes_max: BTreeMap<String, u64>,
    pub(super) ahead_seconds: f64,
    /// Delays that the gateway had counted before the run, and during it.
    pub(super) delays_before: Option<Delay>,
    delay: Option<Delay>,
    /// CPU time of loadgen while the clock ran, and the part of it that making uploads took.
    pub(super) running_cpu_seconds: f64,
    pub(super) running_making_seconds: f64,
}

impl std::fmt::Debug for Experiment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Experiment")
            .field("phases", &self.phases.len())
            .finish_non_exhaustive()
    }
}

impl Experiment {
    /// Prepares a run.
    ///
    /// # Errors
    /// When results or record cannot be written.
    pub fn new(participants: Participants, options: LoadOptions) -> Result<Self, LoadError> {
        let at = SystemClock.now();
        let participants = Arc::new(participants);
        let workload = workload(&participants, &options, at);
        let record = options.record.as_ref().map(|path| {
            RecordWriter::create(path, &options.name, workload.seed, &workload.countries)
        });
        let results = options
            .results
            .as_ref()
            .map(|(path, run)| ResultsWriter::create(path, run));
        let memory_bytes_max = options.memory_bytes_max.max(MEMORY_BYTES_MIN);
        let maker = Maker {
            participants: Arc::clone(&participants),
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
            stored: participants
                .callers
                .iter()
                .map(|_| Stored::default())
                .collect(),
            cursors: participants
                .callers
                .iter()
                .map(|_| AsyncMutex::default())
                .collect(),
            unexpected: Mutex::default(),
            participants,
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
            dropped: 0,
            rss_bytes_max: BTreeMap::new(),
            ahead_seconds: 0.0,
            delays_before: None,
            delay: None,
            running_cpu_seconds: 0.0,
            running_making_seconds: 0.0,
        })
    }

    /// Records what is sent and answered with this writer from now on.
    pub(super) fn with_record(self, record: Option<RecordWriter>) -> Self {
        Self { record, ..self }
    }

    /// Replaces the watched processes after a restart.
    pub fn watch(&mut self, watch: Watch) {
        self.watch = watch;
    }

    /// Records how long the gateway took to become ready again after the last phase.
    pub fn note_restart(&mut self, took: Duration) {
        if let Some(phase) = self.phases.last_mut() {
            phase.restart_seconds = Some(took.as_secs_f64());
        }
    }

    /// Unexpected responses so far.
    pub fn unexpected_responses(&self) -> UnexpectedResponses {
        self.shared.unexpected.lock_ignoring_poison().clone()
    }

    /// Records how long uploads took to become downloadable, once all that were stored are, or `patience`
    /// has passed: uploads that still wait then count as slower than all others.
    pub async fn await_delivery(&mut self, patience: Duration) {
        let (Some(operations), Some(before)) = (&self.watch.operations, &self.delays_before) else {
            return;
        };
        let uploads = self.total.uploads;
        let begun = Instant::now();
        loop {
            let now = delays(operations).await;
            self.delay = now.and_then(|now| now.since(before, uploads));
            let all_seen = self
                .delay
                .as_ref()
                .is_some_and(|delay| delay.seen() >= uploads);
            if all_seen || begun.elapsed() > patience + DELIVERY_POLL {
                return;
            }
            sleep(DELIVERY_POLL).await;
        }
    }

    /// Writes the summary, the last line of the results, with what became of the objectives, and
    /// returns it.
    ///
    /// # Errors
    /// When results or record cannot be written.
    pub fn finish(
        mut self,
        limit: Option<Limit>,
        objectives: &[Objective],
    ) -> Result<Summary, LoadError> {
        if let Some(record) = &mut self.record {
            record.flush()?;
        }
        let mut cpu_seconds = BTreeMap::new();
        for (name, seconds) in self.phases.iter().flat_map(|phase| &phase.cpu_seconds) {
            *cpu_seconds.entry(name.clone()).or_default() += seconds;
        }
        let seconds = self.phases.iter().map(|phase| phase.all.seconds).sum();
        let mut summary = Summary {
            total: self.total.figures(seconds, self.behind_max, self.dropped),
            cpu_seconds,
            rss_bytes_max: std::mem::take(&mut self.rss_bytes_max),
            loadgen: self.own_cost(),
            phases: std::mem::take(&mut self.phases),
            limit,
            delay: self.delay.take(),
            objectives: Vec::new(),
        };
        summary.objectives = objectives
            .iter()
            .map(|objective| objective.outcome(&summary))
            .collect();
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
fn workload(participants: &Participants, options: &LoadOptions, at: UnixMillis) -> Workload {
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
        countries: participants
            .callers
            .iter()
            .map(|caller| caller.country)
            .collect(),
        uploads: Vec::new(),
    }
}
