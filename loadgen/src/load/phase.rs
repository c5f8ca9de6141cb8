//! One phase: its streams side by side, watched second by second, until its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use engine::locks::LockIgnoringPoison as _;
use indicatif::ProgressBar;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};

use super::error::LoadError;
use super::experiment::Experiment;
use super::making::{Maker, Original, Plan, STREAMS_MAX, Stock, UPLOADS_MAX, senders, take_ahead};
use super::queue::RequestQueue;
use super::stream::RunningStream;
use super::tally::StreamTally;
use super::tasks::{Prepared, Tasks};
use super::volume::{due_keys, needed_bytes, offered, uploads};
use super::watch::{Scraper, delays};

use crate::client::{ClientError, Connection};
use crate::hostile::Hostile;
use crate::progress;
use crate::record::Outcome;
use crate::results::{Counts, PhaseSummary, ProcessSample, Second};
use crate::scenario::{Arrivals, Operation, Phase, Stream};
use crate::schedule::{End, Timetable};
use crate::workload::PreparedUpload;

const SECOND: Duration = Duration::from_secs(1);
/// How long requests that are due at the end of a phase may still be sent.
const DRAIN: Duration = Duration::from_secs(10);
/// Uploads on their way to the record.
const QUEUE_RECORD: usize = 256;

/// A phase while it runs.
struct RunningPhase {
    streams: Vec<Arc<RunningStream>>,
    begun: Instant,
    counts: Counts,
    by_stream: Vec<StreamSum>,
    behind_max: u64,
    /// Requests that are due and not sent, at the end of the last second.
    behind: u64,
    first_sample: BTreeMap<String, ProcessSample>,
    last_sample: BTreeMap<String, ProcessSample>,
    disk_bytes: Option<u64>,
    making_before: u64,
    scraper: Scraper,
    bar: ProgressBar,
}

/// What one stream has done since the phase began.
#[derive(Default)]
struct StreamSum {
    counts: Counts,
    behind_max: u64,
    behind: u64,
}

impl RunningPhase {
    /// How long one stream, or all of them, took: the planned duration of the phase, or the time of
    /// the last success if that is later. A slow end of one stream does not count for the others.
    fn active_seconds(&self, phase: &Phase, one: Option<&RunningStream>) -> f64 {
        let tallies = self
            .streams
            .iter()
            .filter(|running| one.is_none_or(|one| std::ptr::eq(Arc::as_ptr(running), one)));
        let last = tallies.filter_map(|running| running.tally.last_success());
        let until = last.map(|at| at.duration_since(self.begun).as_secs_f64());
        until.fold(phase.seconds.unwrap_or(0.0), f64::max)
    }
}

impl Experiment {
    /// Runs a phase to completion.
    ///
    /// # Errors
    /// When a participant cannot connect at its beginning, what is made ahead needs too much
    /// memory, or results or record cannot be written.
    pub async fn phase(&mut self, phase: &Phase) -> Result<PhaseSummary, LoadError> {
        self.check_memory(phase)?;
        let to_be_made = phase.streams.iter().map(|_| None);
        self.run(phase, to_be_made.collect()).await
    }

    /// The same, with uploads that are already made for some of the streams.
    pub(super) async fn run(
        &mut self,
        phase: &Phase,
        stocks: Vec<Option<Stock>>,
    ) -> Result<PhaseSummary, LoadError> {
        let (stop, stopped) = watch::channel(false);
        let (send, mut recorded) = mpsc::channel(QUEUE_RECORD);
        let send = self.record.is_some().then_some(send);
        let ahead = Instant::now();
        let mut prepared = Vec::new();
        for (stream, stock) in phase.streams.iter().zip(stocks) {
            let stream = self.prepare(phase, stream, stock, stopped.clone(), send.clone());
            prepared.push(stream.await?);
        }
        drop(send);
        if let (None, Some(operations)) = (&self.delays_before, &self.watch.operations) {
            self.delays_before = delays(operations).await;
        }
        self.ahead_seconds += ahead.elapsed().as_secs_f64();
        let mut running_phase = self.begin(phase, &prepared)?;
        let tasks = Tasks::start(phase, prepared, &self.shared_hostile(), running_phase.begun);
        self.conduct(phase, &mut running_phase, tasks, &stop, &mut recorded)
            .await?;
        self.second(phase, &mut running_phase)?;
        let summary = self.summarise(phase, running_phase);
        while let Some((upload, outcome)) = recorded.recv().await {
            self.note(&upload, outcome)?;
        }
        self.phases.push(summary.clone());
        Ok(summary)
    }

    /// Supervises a phase until all its tasks have ended: stops those that would not end by
    /// themselves, and drops requests that are still queued long after the end.
    async fn conduct(
        &mut self,
        phase: &Phase,
        running_phase: &mut RunningPhase,
        mut tasks: Tasks,
        stop: &watch::Sender<bool>,
        recorded: &mut mpsc::Receiver<(PreparedUpload, Outcome)>,
    ) -> Result<(), LoadError> {
        let timed = phase.seconds.is_some();
        let lasts = Duration::from_secs_f64(phase.seconds.unwrap_or(0.0));
        let end = running_phase.begun + lasts;
        let mut ticks = interval_at((running_phase.begun + SECOND).into(), SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !tasks.is_over() {
            let stopping = *stop.borrow();
            tokio::select! {
                _ = ticks.tick() => self.second(phase, running_phase)?,
                Some((upload, outcome)) = recorded.recv() => self.note(&upload, outcome)?,
                ended = tasks.join_next() => ended?,
                () = sleep_until(end.into()), if timed && !stopping => {
                    stop.send_replace(true);
                    clear(&running_phase.streams, |running| running.stream.arrivals == Arrivals::Closed);
                }
                () = sleep_until((end + DRAIN).into()), if timed && stopping && !tasks.is_cut => {
                    tasks.is_cut = true;
                    clear(&running_phase.streams, |_| true);
                }
            }
            if tasks.are_counted_over() && !timed && !stopping {
                stop.send_replace(true);
                clear(&running_phase.streams, |_| true);
            }
        }
        Ok(())
    }

    fn note(&mut self, upload: &PreparedUpload, outcome: Outcome) -> Result<(), LoadError> {
        match &mut self.record {
            Some(record) => Ok(record.append(upload, outcome)?),
            None => Ok(()),
        }
    }

    /// Whether everything of a phase can be prepared ahead within the memory limit.
    pub fn fits(&self, phase: &Phase) -> bool {
        needed_bytes(phase) <= self.memory_bytes_max
    }

    fn check_memory(&self, phase: &Phase) -> Result<(), LoadError> {
        if !phase.ahead || self.fits(phase) {
            return Ok(());
        }
        Err(LoadError::Memory {
            phase: phase.name.clone(),
            needed: needed_bytes(phase) >> 20,
            allowed: self.memory_bytes_max >> 20,
        })
    }

    async fn prepare(
        &mut self,
        phase: &Phase,
        stream: &Stream,
        stock: Option<Stock>,
        stop: watch::Receiver<bool>,
        record: Option<mpsc::Sender<(PreparedUpload, Outcome)>>,
    ) -> Result<Prepared, LoadError> {
        let members = match &stock {
            Some(stock) => senders(stock),
            None => self.members(phase, stream)?,
        };
        let number = self.streams;
        if number >= STREAMS_MAX {
            return Err(LoadError::Streams);
        }
        self.streams += 1;
        let weights: Vec<u64> = members
            .iter()
            .map(|&member| self.shared.participants.weights[member])
            .collect();
        let timetable = self.timetable(phase, stream, &weights, number);
        let running = Arc::new(RunningStream {
            shared: Arc::clone(&self.shared),
            uploads: members.iter().map(|_| RequestQueue::new()).collect(),
            requests: members.iter().map(|_| RequestQueue::new()).collect(),
            tally: StreamTally::new(&phase.name, &stream.name, timetable.clone()),
            first_index: number * UPLOADS_MAX,
            stream: stream.clone(),
            members,
            stop,
            record,
        });
        let stock = match (stock, &stream.does) {
            (Some(stock), _) => Some(stock),
            (
                None,
                &Operation::Upload {
                    upload_keys,
                    keys,
                    duplicates,
                },
            ) => {
                let plan = Plan {
                    members: running.members.clone(),
                    weights,
                    timetable: timetable.clone(),
                    upload_keys,
                    keys,
                    duplicates,
                    originals: self.originals(),
                    stream_number: number,
                    random: self.random(number, 1),
                };
                Some(self.stock(phase, plan).await)
            }
            (None, _) => None,
        };
        let connections = connect(&running).await?;
        Ok(Prepared {
            running,
            timetable,
            stock,
            connections,
        })
    }

    /// Starts making uploads, with an equal share of the memory for each stream that uploads.
    async fn stock(&self, phase: &Phase, plan: Plan) -> Stock {
        let uploads = |stream: &&Stream| matches!(stream.does, Operation::Upload { .. });
        let sharers = phase.streams.iter().filter(uploads).count().max(1);
        let sharers = if phase.ahead { 1 } else { sharers };
        let units = usize::try_from(self.memory_bytes_max / 1024).unwrap_or(usize::MAX);
        let units = (units / sharers).min(Semaphore::MAX_PERMITS);
        let memory = Arc::new(Semaphore::new(units));
        let maker = Maker {
            memory: Arc::clone(&memory),
            ..self.maker.clone()
        };
        let all = if phase.ahead { due_keys(phase) } else { None };
        let bar = progress::bar("preparing", plan.keys.or(all));
        let mut more = maker.start(plan);
        let ahead = take_ahead(&mut more, &memory, units, phase.ahead, &bar).await;
        bar.finish_and_clear();
        (ahead, more)
    }

    fn members(&self, phase: &Phase, stream: &Stream) -> Result<Vec<usize>, LoadError> {
        let there_are = self.shared.participants.len();
        let count = stream.participants.unwrap_or(there_are);
        let members: Vec<_> = (0..there_are).skip(stream.skip).take(count).collect();
        if members.is_empty() {
            return Err(LoadError::Participation {
                phase: phase.name.clone(),
                stream: stream.name.clone(),
                there_are,
            });
        }
        Ok(members)
    }

    fn timetable(
        &self,
        phase: &Phase,
        stream: &Stream,
        weights: &[u64],
        number: u32,
    ) -> Option<Timetable> {
        let end = match (&stream.does, phase.seconds) {
            (
                Operation::Upload {
                    keys: Some(keys),
                    upload_keys,
                    ..
                },
                _,
            ) => End::Count(keys.div_ceil(u64::from(*upload_keys))),
            (_, Some(seconds)) => End::After(Duration::from_secs_f64(seconds)),
            (_, None) => End::Never,
        };
        Timetable::new(stream.arrivals, end, weights, self.random(number, 0))
    }

    /// Randomness of one stream, for one purpose.
    fn random(&self, stream: u32, purpose: u32) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(u64::from(stream) << 32 | u64::from(purpose));
        random
    }

    fn originals(&self) -> BTreeMap<usize, Vec<Original>> {
        let all = self.shared.stored.iter().enumerate();
        all.map(|(participant, stored)| {
            (participant, stored.originals.lock_ignoring_poison().clone())
        })
        .filter(|(_, originals)| !originals.is_empty())
        .collect()
    }

    fn shared_hostile(&self) -> Arc<Hostile> {
        Arc::new(Hostile::new(
            Arc::clone(&self.maker.generator),
            Arc::clone(&self.shared.participants.identities),
            self.maker.at,
        ))
    }

    /// Starts the clock and records the starting values.
    fn begin(&mut self, phase: &Phase, prepared: &[Prepared]) -> Result<RunningPhase, LoadError> {
        let streams: Vec<_> = prepared
            .iter()
            .map(|prepared| Arc::clone(&prepared.running))
            .collect();
        let sample = self.watch.processes();
        let running_phase = RunningPhase {
            by_stream: streams.iter().map(|_| StreamSum::default()).collect(),
            streams,
            begun: Instant::now(),
            counts: Counts::default(),
            behind_max: 0,
            behind: 0,
            first_sample: sample.clone(),
            last_sample: sample.clone(),
            disk_bytes: self.watch.disk_bytes(),
            making_before: self.maker.cost.nanos.load(Ordering::Relaxed),
            scraper: Scraper::start(self.watch.operations.clone()),
            bar: progress::bar("running", due_keys(phase)),
        };
        let second = Second {
            at: self.clock,
            phase: phase.name.clone(),
            stored_keys: self.shared.stored_keys(),
            disk_bytes: running_phase.disk_bytes,
            processes: sample,
            ..Second::default()
        };
        self.write(&second)?;
        Ok(running_phase)
    }

    fn write(&mut self, second: &Second) -> Result<(), LoadError> {
        match &mut self.results {
            Some(results) => Ok(results.second(second)?),
            None => Ok(()),
        }
    }

    /// Takes the counts since the last call.
    fn second(&mut self, phase: &Phase, running_phase: &mut RunningPhase) -> Result<(), LoadError> {
        let elapsed = running_phase.begun.elapsed();
        let mut all = Counts::default();
        let mut behind = 0;
        let mut streams = BTreeMap::new();
        for (running, sum) in running_phase
            .streams
            .iter()
            .zip(&mut running_phase.by_stream)
        {
            let (counts, late) = running.tally.take(elapsed);
            all.add(&counts);
            sum.counts.add(&counts);
            sum.behind_max = sum.behind_max.max(late);
            sum.behind = late;
            behind += late;
            if running_phase.streams.len() > 1 {
                streams.insert(running.tally.name.clone(), counts);
            }
        }
        running_phase.counts.add(&all);
        self.total.add(&all);
        running_phase.behind_max = running_phase.behind_max.max(behind);
        running_phase.behind = behind;
        self.behind_max = self.behind_max.max(behind);
        running_phase.last_sample = self.watch.processes();
        running_phase.disk_bytes = self.watch.disk_bytes();
        for (name, sample) in &running_phase.last_sample {
            let seen = self.rss_bytes_max.entry(name.clone()).or_default();
            *seen = sample.rss_bytes.max(*seen);
        }
        let counts = &running_phase.counts;
        let moved = match uploads(phase) {
            true => counts.upload_keys,
            false => counts.download_keys,
        };
        running_phase.bar.set_position(moved);
        self.write(&Second {
            at: self.clock + elapsed.as_secs_f64(),
            phase: phase.name.clone(),
            all,
            streams,
            behind,
            stored_keys: self.shared.stored_keys(),
            disk_bytes: running_phase.disk_bytes,
            processes: running_phase.last_sample.clone(),
            stages: running_phase.scraper.stages(),
        })
    }

    fn summarise(&mut self, phase: &Phase, running_phase: RunningPhase) -> PhaseSummary {
        let offered = offered(phase);
        let seconds = running_phase.begun.elapsed().as_secs_f64();
        running_phase.bar.finish_and_clear();
        let used = |(name, last): (&String, &ProcessSample)| {
            let first = running_phase.first_sample.get(name)?;
            Some((name.clone(), last.cpu_seconds - first.cpu_seconds))
        };
        let cpu_seconds: BTreeMap<_, _> =
            running_phase.last_sample.iter().filter_map(used).collect();
        self.running_cpu_seconds += cpu_seconds.get("loadgen").copied().unwrap_or(0.0);
        let making = self.maker.cost.nanos.load(Ordering::Relaxed) - running_phase.making_before;
        self.running_making_seconds += Duration::from_nanos(making).as_secs_f64();
        let streams = running_phase.streams.iter().zip(&running_phase.by_stream);
        let by_stream = streams.map(|(running, sum)| {
            let seconds = running_phase.active_seconds(phase, Some(running));
            let figures = sum.counts.figures(seconds, sum.behind_max, sum.behind);
            (running.tally.name.clone(), figures)
        });
        self.dropped += running_phase.behind;
        let summary = PhaseSummary {
            name: phase.name.clone(),
            begins_at: self.clock,
            offered_uploads_per_second: offered.uploads_per_second,
            offered_keys_per_second: offered.keys_per_second,
            all: running_phase.counts.figures(
                running_phase.active_seconds(phase, None),
                running_phase.behind_max,
                running_phase.behind,
            ),
            streams: match running_phase.streams.len() {
                1 => BTreeMap::new(),
                _ => by_stream.collect(),
            },
            stored_keys: self.shared.stored_keys(),
            rss_bytes: running_phase
                .last_sample
                .iter()
                .map(|(name, sample)| (name.clone(), sample.rss_bytes))
                .collect(),
            cpu_seconds,
            disk_bytes: running_phase.disk_bytes,
            restart_seconds: None,
        };
        self.clock += seconds;
        summary
    }
}

fn clear(streams: &[Arc<RunningStream>], which: impl Fn(&RunningStream) -> bool) {
    let chosen = streams.iter().filter(|running| which(running));
    chosen.for_each(|running| running.clear());
}

/// Connects before the clock starts: handshakes are not measured. A participant of a following
/// stream has one connection, since it is at one batch at a time.
async fn connect(running: &RunningStream) -> Result<Vec<(usize, Connection)>, ClientError> {
    let each = match running.stream.does {
        Operation::Follow => 1,
        _ => running.stream.connections,
    };
    let mut connecting = JoinSet::new();
    for number in 0..each {
        for (member, &participant) in running.members.iter().enumerate() {
            let spread = number * running.members.len() + member;
            let mut connection = running.connection(participant, spread);
            connecting
                .spawn(async move { connection.connect().await.map(|()| (member, connection)) });
        }
    }
    connecting.join_all().await.into_iter().collect()
}
