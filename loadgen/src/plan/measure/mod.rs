//! Measures unit costs: a private gateway and database on this machine, real uploads and downloads
//! over mutual TLS, and the resources that the system reports for them.
//!
//! CPU times are the processes' own, so that the load generator beside them does not count.
//! The time of the log's writer does count what disturbs it: on a machine whose cores are all busy
//! it is an upper bound. The steps: start empty; many small uploads and as many keys in full ones,
//! which separate the cost per upload from the cost per key; full uploads one at a time, for
//! latency; all participants download everything, and again to verify it; a restart with all keys
//! stored.

mod error;
mod test_bed;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::clock::{Clock, SystemClock};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::block_in_place;

pub use self::error::MeasureError;
pub use self::test_bed::Database;
use self::test_bed::TestBed;
use super::costs::{CostSource, DatabaseKind, UnitCosts};
use super::definitions::Costs;
use super::fetch::fetch;
use super::usage::{Usage, disk_bytes, metric, metrics};
use crate::load::{RunOptions, RunReport, send_prepared};
use crate::local::MariaDb;
use crate::participants;
use crate::profiles::{Distribution, Profile, Profiles};
use crate::quantity;
use crate::record::{Record, RecordWriter};
use crate::results::Machine;
use crate::steps;
use crate::verify::{Verdict, VerifyOptions};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Keys in an upload of the many small ones: what such an upload costs is nearly all its own.
const SMALL_UPLOAD_KEYS: u32 = 100;
/// How many small uploads: enough CPU time to be measured in hundredths of a second.
const SMALL_UPLOADS: u64 = 2_000;
const FULL_UPLOAD_KEYS: u32 = 5_000;
/// Full uploads one at a time.
const SINGLE_UPLOADS: u64 = 100;
/// Bytes per key in the set at its worst fill, by its construction (`engine/src/dedup/set.rs`):
/// slots of 16 bytes; parts grow by half when three quarters are taken, which leaves one half
/// taken.
const SET_BYTES_BY_CONSTRUCTION: f64 = 32.0;

/// What to measure.
#[derive(Debug, Clone)]
pub struct MeasureOptions {
    /// The program `efgs`.
    pub efgs: PathBuf,
    /// The gateway's database.
    pub database: Database,
    /// Keys in full uploads.
    pub keys: u64,
}

/// Measures on a multi-threaded runtime; says on `out` what it is at. The servers end and the
/// folder goes when it is dropped, too.
///
/// # Errors
/// [`MeasureError`] when a part does not run, or a key was lost.
pub async fn measure(
    options: &MeasureOptions,
    out: &mut (impl Write + Send),
) -> Result<UnitCosts, MeasureError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        measured = experiment(options, out) => measured,
        _ = interrupt.recv() => Err(MeasureError::Interrupted),
        _ = terminate.recv() => Err(MeasureError::Interrupted),
    }
}

async fn experiment(
    options: &MeasureOptions,
    out: &mut (impl Write + Send),
) -> Result<UnitCosts, MeasureError> {
    writeln!(
        out,
        "measuring unit costs: {} keys on this machine",
        options.keys
    )?;
    // In this order, so that the gateway ends before its database, and the folder goes last.
    let folder = tempfile::Builder::new().prefix("efgs-measure").tempdir()?;
    let (database, test_bed) =
        block_in_place(|| TestBed::start(&options.efgs, options.database, folder.path()))?;
    let mut experiment = Experiment {
        database,
        test_bed,
        costs: Costs::default(),
    };
    experiment.run(options, out).await?;
    let costs = UnitCosts::measured(experiment.source(options), experiment.costs);
    Ok(costs.or_shipped()?)
}

/// The counters read before and after a step.
#[derive(Debug, Clone, Copy)]
struct Reading {
    gateway: Usage,
    database: Usage,
    disk_bytes: f64,
    commit_s: f64,
    commits: f64,
}

impl Reading {
    fn since(self, before: Self) -> Self {
        let usage = |now: Usage, then: Usage| Usage {
            cpu_s: now.cpu_s - then.cpu_s,
            written_bytes: now.written_bytes - then.written_bytes,
            ..now
        };
        Self {
            gateway: usage(self.gateway, before.gateway),
            database: usage(self.database, before.database),
            disk_bytes: self.disk_bytes - before.disk_bytes,
            commit_s: self.commit_s - before.commit_s,
            commits: self.commits - before.commits,
        }
    }
}

struct Experiment {
    test_bed: TestBed,
    database: Option<MariaDb>,
    costs: Costs,
}

/// A step's uploads: how many keys, how many in each, over how many participants.
struct Volume {
    name: &'static str,
    keys: u64,
    upload_keys: u32,
    participants: usize,
    seed: u64,
}

impl Experiment {
    async fn run(
        &mut self,
        options: &MeasureOptions,
        out: &mut (impl Write + Send),
    ) -> Result<(), MeasureError> {
        let all = self.test_bed.participants.len();
        let volume = |name, keys, upload_keys, participants, seed| Volume {
            name,
            keys,
            upload_keys,
            participants,
            seed,
        };
        let full = u64::from(FULL_UPLOAD_KEYS);
        let restart_empty_s = self.restart()?;
        let empty = self.read().await?;
        // Warm up: the first connections and statements cost more than all others.
        let warm_up = volume("warm-up", full * 27, FULL_UPLOAD_KEYS, all, 1);
        let mut records = vec![self.upload(&warm_up, out).await?.record];
        let idle = self.read().await?;
        self.costs.gateway_base_bytes = significant(idle.gateway.rss_bytes);
        self.costs.database_base_bytes = significant(idle.database.rss_bytes);

        let small_keys = SMALL_UPLOADS * u64::from(SMALL_UPLOAD_KEYS);
        let small = volume("small uploads", small_keys, SMALL_UPLOAD_KEYS, all, 2);
        let small = self.upload(&small, out).await?;
        let many = volume("full uploads", options.keys, FULL_UPLOAD_KEYS, all, 3);
        let many = self.upload(&many, out).await?;
        self.divide(&small, &many);
        let single = volume(
            "single uploads",
            SINGLE_UPLOADS * full,
            FULL_UPLOAD_KEYS,
            1,
            4,
        );
        let single = self.upload(&single, out).await?;
        self.costs.upload_p50_ms = significant(single.report.p50_millis());
        self.costs.upload_p99_ms = significant(single.report.p99_millis());
        self.costs.commit_ms =
            significant(single.used.commit_s / single.used.commits.max(1.0) * 1e3);
        records.extend([small.record, many.record, single.record]);

        self.download(out).await?;
        // Verify the delivery: figures for undelivered keys would be meaningless.
        let verdict = self.verify(&records, out).await?;

        let restart_s = self.restart()?;
        #[allow(
            clippy::cast_precision_loss,
            reason = "keys of a run are far below 2^53"
        )]
        let stored = verdict.delivered as f64 / (self.test_bed.participants.len() as f64 - 1.0);
        self.costs.set_rebuild_ns_per_key =
            significant((restart_s - restart_empty_s).max(0.0) / stored * 1e9);
        // Started again, the gateway holds the set and no bundle yet. How full the set is depends
        // on how many keys there are: what it takes at its worst must be planned for.
        let set_bytes = (self.read().await?.gateway.rss_bytes - empty.gateway.rss_bytes) / stored;
        writeln!(
            out,
            "  set of identities: {set_bytes:.1} bytes per key now\n"
        )?;
        self.costs.set_bytes_per_key = significant(set_bytes.max(SET_BYTES_BY_CONSTRUCTION));
        Ok(())
    }

    /// Two equations, two unknowns: what a key costs, and what an upload costs.
    fn divide(&mut self, small: &Step, many: &Step) {
        let solve = |of: fn(&Reading) -> f64| {
            let (few, all) = (of(&small.used), of(&many.used));
            let determinant = small.uploads() * many.keys() - many.uploads() * small.keys();
            let per_upload = (few * many.keys() - all * small.keys()) / determinant;
            let per_upload = per_upload.max(0.0);
            let per_key = (all - per_upload * many.uploads()) / many.keys();
            (per_key.max(0.0), per_upload)
        };
        let (per_key, per_upload) = solve(|used| used.gateway.cpu_s);
        self.costs.gateway_upload_ns_per_key = significant(per_key * 1e9);
        self.costs.gateway_upload_us_per_request = significant(per_upload * 1e6);
        let (per_key, per_upload) = solve(|used| used.database.cpu_s);
        self.costs.database_ns_per_key = significant(per_key * 1e9);
        self.costs.database_us_per_upload = significant(per_upload * 1e6);
        self.costs.writer_ns_per_key = significant(many.used.commit_s / many.keys() * 1e9);
        self.costs.disk_bytes_per_key = significant(many.used.disk_bytes / many.keys());
        let written = match self.database {
            Some(_) => many.used.database.written_bytes,
            None => many.used.gateway.written_bytes,
        };
        self.costs.written_bytes_per_key = significant(written / many.keys());
    }

    async fn read(&self) -> Result<Reading, MeasureError> {
        let text = metrics(self.test_bed.gateway.operations()).await?;
        let usage = |process: Option<u32>| process.map_or_else(Usage::default, Usage::of);
        let files = match &self.database {
            Some(database) => database.folder().to_owned(),
            None => self.test_bed.folder.clone(),
        };
        Ok(Reading {
            gateway: usage(self.test_bed.gateway.process_id()),
            database: usage(self.database.as_ref().and_then(MariaDb::process_id)),
            disk_bytes: disk_bytes(&files),
            commit_s: metric(&text, "efgs_commit_seconds_sum"),
            commits: metric(&text, "efgs_commit_seconds_count"),
        })
    }

    fn restart(&mut self) -> Result<f64, MeasureError> {
        block_in_place(|| {
            self.test_bed.gateway.terminate()?;
            let begun = Instant::now();
            self.test_bed.gateway.restart()?;
            Ok(begun.elapsed().as_secs_f64())
        })
    }

    async fn upload(
        &self,
        volume: &Volume,
        out: &mut (impl Write + Send),
    ) -> Result<Step, MeasureError> {
        let profile = Profile {
            name: volume.name.to_owned(),
            keys: volume.keys,
            participants: volume.participants,
            upload_keys: volume.upload_keys,
            distribution: Distribution::Even,
        };
        let test_bed = &self.test_bed;
        let participants = Arc::clone(&test_bed.participants);
        let profiles = Profiles::shipped()?;
        let (workload, uploads) =
            steps::prepare(participants, &profiles, &profile, volume.seed).await?;
        let path = test_bed.folder.join(format!("{}.jsonl", volume.seed));
        let record = RecordWriter::create(&path, volume.name, workload.seed, &workload.countries)?;
        let options = RunOptions {
            targets: vec![test_bed.target()],
            connections: 1,
            timeout: TIMEOUT,
            retry_for: TIMEOUT,
        };
        let before = self.read().await?;
        let report = send_prepared(&test_bed.callers, uploads, &options, Some(record)).await?;
        let used = self.read().await?.since(before);
        if report.keys_stored != volume.keys {
            return Err(MeasureError::Unclean(report.to_string()));
        }
        writeln!(
            out,
            "  {:<15} {:>9} keys in {:>5} uploads, {:.2} s, {:.0} keys/s",
            volume.name,
            report.keys_stored,
            report.uploads_stored,
            report.phase.as_secs_f64(),
            report.keys_per_second()
        )?;
        Ok(Step {
            record: path,
            report,
            used,
        })
    }

    /// All participants download everything, once to warm up the bundles and once for the figure.
    async fn download(&mut self, out: &mut (impl Write + Send)) -> Result<(), MeasureError> {
        let (target, day) = (self.test_bed.target(), SystemClock.now().day());
        fetch(&self.test_bed.callers, &target, day).await?;
        let before = self.read().await?;
        let begun = Instant::now();
        let bytes = fetch(&self.test_bed.callers, &target, day).await?;
        let took = begun.elapsed().as_secs_f64();
        let used = self.read().await?.since(before);
        #[allow(
            clippy::cast_precision_loss,
            reason = "bytes of a run are far below 2^53"
        )]
        let bytes = bytes as f64;
        self.costs.gateway_download_ns_per_byte = significant(used.gateway.cpu_s / bytes * 1e9);
        let rate = quantity::bytes(bytes / took);
        writeln!(
            out,
            "  downloads       {}, {took:.2} s, {rate}/s",
            quantity::bytes(bytes)
        )?;
        Ok(())
    }

    async fn verify(
        &self,
        records: &[PathBuf],
        out: &mut (impl Write + Send),
    ) -> Result<Verdict, MeasureError> {
        let records: Result<Vec<_>, _> = records.iter().map(|path| Record::read(path)).collect();
        let options = VerifyOptions {
            targets: vec![self.test_bed.target()],
            day: SystemClock.now().day(),
            timeout: TIMEOUT,
            delivery_timeout: TIMEOUT,
            ignore_unknown: false,
        };
        let TestBed {
            folder,
            callers,
            participants,
            ..
        } = &self.test_bed;
        let anchor = participants::read_trust_anchor(&folder.join("pki/trust-anchor.pem"))?;
        let participants = Arc::clone(participants);
        let verdict = steps::download(callers, participants, records?, &anchor, &options).await?;
        if !verdict.is_clean() {
            return Err(MeasureError::Unclean(verdict.to_string()));
        }
        writeln!(out, "  verified        {} keys", verdict.delivered)?;
        Ok(verdict)
    }

    fn source(&self, options: &MeasureOptions) -> CostSource {
        let machine = Machine::here();
        let database = match options.database {
            Database::Mysql => "MariaDB",
            Database::Sqlite => "SQLite",
        };
        let now = SystemClock.now();
        CostSource {
            label: format!(
                "{database}, {} x {}, {}",
                machine.cpus,
                machine.cpu_model,
                now.day()
            ),
            machine,
            database: database.to_owned(),
            kind: match options.database {
                Database::Mysql => DatabaseKind::Server,
                Database::Sqlite => DatabaseKind::Embedded,
            },
            commit: None,
            measured: now.day().to_string(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            note: "gateway, database and load generator on the same machine".to_owned(),
        }
    }
}

/// A step of uploads, done.
struct Step {
    record: PathBuf,
    report: RunReport,
    used: Reading,
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts of a run are far below 2^53"
)]
impl Step {
    fn keys(&self) -> f64 {
        self.report.keys_stored as f64
    }

    fn uploads(&self) -> f64 {
        self.report.uploads_stored as f64
    }
}

/// More than three digits of a measurement are noise.
fn significant(value: f64) -> Option<f64> {
    // Through text, so that the number is written with just these digits.
    let rounded = format!("{value:.2e}").parse();
    let rounded = rounded.ok().filter(|rounded: &f64| rounded.is_finite());
    Some(rounded.unwrap_or(0.0))
}
