//! A complete demonstration: a fresh folder, a database, a gateway with mutual TLS, a day
//! of keys through it, every participant's download verified; and nothing left behind.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::block_in_place;

use crate::client::{Caller, Protocol, SetupError, Target};
use crate::load::{LoadError, RunOptions, RunReport, send_prepared};
use crate::local::{Installation, LocalDatabase, LocalError};
use crate::participants::{self, ParticipantsError};
use crate::profiles::{Profile, Profiles};
use crate::record::{Record, RecordError, RecordWriter};
use crate::steps::{self, StepError};
use crate::verify::{Verdict, VerifyOptions};
use crate::workload::Workload;

/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long uploads are tried again, and how long missing keys are waited for.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// What to show.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// The program `efgs`.
    pub efgs: PathBuf,
    /// The gateway's database.
    pub database: LocalDatabase,
    /// The day's volume.
    pub profile: Profile,
    /// Where the volume comes from, and how many people live where.
    pub profiles: Profiles,
    /// Seed of every key.
    pub seed: u64,
    /// Connections of each participant.
    pub connections: usize,
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A server failed to start.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The folder has no participants.
    #[error(transparent)]
    Participants(#[from] ParticipantsError),
    /// No client can be made.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The record cannot be kept.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Uploads stopped.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Uploads cannot be made, or downloads stopped.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The temporary folder or the terminal fails.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// SIGINT or SIGTERM; everything was cleaned up.
    #[error("interrupted")]
    Interrupted,
}

/// Runs the demo on a multi-threaded runtime, and returns whether every key arrived. When it is
/// interrupted, it also ends the servers and removes the folder.
///
/// # Errors
/// [`DemoError`] when a part of it cannot run at all.
pub async fn demo(options: DemoOptions, out: &mut (impl Write + Send)) -> Result<bool, DemoError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        shown = show(&options, out) => shown,
        _ = interrupt.recv() => Err(DemoError::Interrupted),
        _ = terminate.recv() => Err(DemoError::Interrupted),
    }
}

async fn show(options: &DemoOptions, out: &mut (impl Write + Send)) -> Result<bool, DemoError> {
    // In this order, so that gateway and database end before the folder goes.
    let folder = tempfile::Builder::new().prefix("efgs-demo").tempdir()?;
    let start = || Installation::start(&options.efgs, options.database, None, &[]);
    let mut installation = block_in_place(start)?;
    let record = folder.path().join("record.jsonl");
    let target = installation.gateway().target();
    let run = run_day(options, &installation.pki(), target, &record).await?;
    block_in_place(|| installation.terminate())?;
    Ok(run.print(options, out)?)
}

/// The results of the demo.
struct DemoRun {
    workload: Workload,
    report: RunReport,
    verdict: Verdict,
}

/// Uploads a day's keys and verifies their delivery.
async fn run_day(
    options: &DemoOptions,
    pki: &Path,
    target: Target,
    record: &Path,
) -> Result<DemoRun, DemoError> {
    let participants = Arc::new(participants::read(pki)?);
    let server_ca = participants::read_server_ca(pki)?;
    let caller = |participant| Caller::new(participant, &server_ca, Protocol::Http1).map(Arc::new);
    let callers = participants
        .iter()
        .map(caller)
        .collect::<Result<Vec<_>, _>>()?;
    let DemoOptions {
        profiles,
        profile,
        seed,
        connections,
        ..
    } = options;

    let (workload, uploads) =
        steps::prepare(Arc::clone(&participants), profiles, profile, *seed).await?;
    let writer = RecordWriter::create(record, &profile.name, workload.seed, &workload.countries)?;
    let run = RunOptions {
        targets: vec![target.clone()],
        connections: *connections,
        timeout: TIMEOUT,
        retry_for: DELIVERY_TIMEOUT,
    };
    let report = send_prepared(&callers, uploads, &run, Some(writer)).await?;

    let verify = VerifyOptions {
        targets: vec![target],
        day: workload.seed.day,
        timeout: TIMEOUT,
        delivery_timeout: DELIVERY_TIMEOUT,
        ignore_unknown: false,
    };
    let records = vec![Record::read(record)?];
    let anchor = participants::read_trust_anchor(&pki.join("trust-anchor.pem"))?;
    let verdict = steps::download(&callers, participants, records, &anchor, &verify).await?;
    Ok(DemoRun {
        workload,
        report,
        verdict,
    })
}

impl DemoRun {
    /// Prints the table and the last line; returns whether everything is correct.
    fn print(&self, options: &DemoOptions, out: &mut impl Write) -> io::Result<bool> {
        let Self {
            workload,
            report,
            verdict,
        } = self;
        let database = match options.database {
            LocalDatabase::Sqlite => "SQLite",
            LocalDatabase::MariaDb => "MariaDB",
            LocalDatabase::Galera => "Galera cluster of three",
        };
        let name = &options.profile.name;
        writeln!(
            out,
            "{name}, seed {}, {database}, mutual TLS\n",
            options.seed
        )?;
        writeln!(out, "{report}\n{verdict}\n")?;
        writeln!(out, "  uploads        {:>12}", report.uploads_stored)?;
        writeln!(out, "  keys           {:>12}", report.keys_stored)?;
        writeln!(
            out,
            "  upload phase   {:>12.3} s",
            report.phase.as_secs_f64()
        )?;
        writeln!(
            out,
            "  ingest         {:>12.0} keys/s",
            report.keys_per_second()
        )?;
        writeln!(out, "  latency p50    {:>12.1} ms", report.p50_millis())?;
        writeln!(out, "  latency p99    {:>12.1} ms", report.p99_millis())?;
        writeln!(
            out,
            "  delivery       {:>12.3} s\n",
            verdict.elapsed.as_secs_f64()
        )?;
        let found = &verdict.findings;
        writeln!(
            out,
            "demo: {} participants, {} keys uploaded, {} keys delivered, {} missing, {} duplicate, {} unverified",
            verdict.participants,
            report.keys_stored,
            verdict.delivered,
            found.missing,
            found.duplicate,
            found.unverified
        )?;
        out.flush()?;
        Ok(verdict.is_clean() && report.keys_stored == workload.seed.keys_total)
    }
}
