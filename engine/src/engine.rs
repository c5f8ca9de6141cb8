//! The engine: starts pools and threads, takes uploads, answers downloads, drains in order.
//!
//! Threads: `cpu-N` (rayon, one per core), `writer` (the set) with `commit` (its connection), `bundler` (its
//! connection, the lease), `reader-N` (one connection each), `callbacks` (its connection), `retention`
//! (its connection, another lease), `trust`, and with SQLite `checkpoint`. Shutdown: no new work, so
//! that readers and callbacks end with what waits for them; CPU jobs end, the writer drains, the
//! bundler follows; then retention writes the last statistics, and the others end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::admission::{Admission, Permit};
use crate::bundle::{
    AuditEntry, Bundler, BundlerFeed, BundlerStatus, Download, DownloadError, DownloadHead,
    DownloadReply, DownloadRequest, FreshSegments, Serve,
};
use crate::callbacks::Callbacks;
use crate::clock::Clock;
use crate::continuity::Continuity;
use crate::cpu_pool::CpuPool;
use crate::database::{Checkpoints, Database, SqlError};
use crate::domain::{BatchTag, Country, Day};
use crate::failure::{Failure, StartError};
use crate::limits;
use crate::persist::{Incoming, Submission, Unconfirmed, Writer, WriterState};
use crate::retention::{Retention, oldest_identity};
use crate::seal::Keys;
use crate::settings::{BundleSettings, Settings};
use crate::statistics::DownloadCounts;
use crate::store::{CachedStore, ImportState, Store, migrate};
use crate::trust::{Trust, TrustAnchor};
use crate::trust_list::TrustList;
use crate::upload::{Prepared, Receipt, Reply, UploadContext, UploadError, UploadRequest, prepare};

/// A running engine. Share it in an [`Arc`]; it stops when it is dropped.
#[derive(Debug)]
pub struct Engine {
    admission: Admission,
    cpu: CpuPool,
    walk: Arc<Walk>,
    writer: Arc<WriterState>,
    continuity: Arc<Continuity>,
    submissions: Mutex<Option<Sender<Incoming>>>,
    serve: Arc<Serve>,
    callbacks: Callbacks,
    bundler: Arc<BundlerStatus>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Ends with its sender, after all others.
    background: Mutex<Option<Background>>,
    failed: Arc<AtomicBool>,
}

/// Threads that end when the sender is dropped.
type Background = (Sender<()>, Vec<JoinHandle<()>>);

/// What CPU jobs share.
#[derive(Debug)]
struct Walk {
    settings: Settings,
    trust: Arc<TrustList>,
    writer: Arc<WriterState>,
    clock: Arc<dyn Clock>,
}

/// What `/health`, `/ready` and the dashboard say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether the database answered at the last attempt.
    pub database_available: bool,
    /// Number of uploads in the log, as far as this gateway has followed it.
    pub log_position: u64,
    /// Key identities in memory.
    pub identities: u64,
    /// The newest download batch.
    pub newest_batch: Option<BatchTag>,
    /// Whether this gateway cuts download batches now.
    pub cuts: bool,
    /// How many more download batches may be cut for age at once; `None` if another gateway cuts, or
    /// if they are not paced.
    pub bundle_budget: Option<u32>,
    /// Certificates in the list, trusted or not. Without any, nobody can connect or sign.
    pub certificates: usize,
    /// Whether a thread of the engine has panicked: nothing but a restart helps.
    pub failed: bool,
    /// What was expected and what is there, if the database has gone back: nothing is taken or
    /// served until an operator has seen to it and starts the gateway again.
    pub went_back: Option<String>,
    /// Whether the state file could be written at the last attempt: uploads need it.
    pub state_file_writable: bool,
}

impl Engine {
    /// Opens the database (migrating it if needed), rebuilds the set of identities, starts all
    /// threads.
    ///
    /// # Errors
    /// [`StartError`]: one sentence that says what to do.
    pub fn start(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        check(&settings)?;
        let (bootstrap, store) = Bootstrap::open(&settings, &clock)?;
        let serve = Arc::clone(&bootstrap.serve);
        let started = Self::start_on(bootstrap, store, settings, clock);
        // Readers share what holds their queue: they would wait for ever if they were not stopped.
        started.inspect_err(|_| serve.stop_readers())
    }

    fn start_on(
        bootstrap: Bootstrap,
        store: Store,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let cpu = CpuPool::start(settings.cpu_threads)?;
        let (wake_bundler, wakes) = bounded(1);
        let writer = bootstrap.writer(store, wake_bundler)?;
        let state = Arc::clone(writer.state());
        let bundler_status = Arc::default();
        let bundler = bootstrap.bundler(&state, &bundler_status, &clock, settings.bundle);
        let (stop_background, stop) = bounded(0);
        let max_age_days = settings.download.max_age_days;
        let retention = bootstrap.retention(&state, &clock, max_age_days, stop.clone());
        let (callbacks, worker) =
            Callbacks::new(&bootstrap.database, Arc::clone(&clock), max_age_days);
        // One place per permit: a job that has a permit never waits to hand its batch over.
        let (submissions, queue) = bounded(settings.upload.batches_in_flight_max);

        let failed = Arc::new(AtomicBool::new(false));
        let mut threads = bootstrap.serve.start_readers(&bootstrap.database)?;
        threads.push(spawn("callbacks", &failed, move || worker.run())?);
        threads.push(spawn("writer", &failed, move || writer.run(&queue))?);
        threads.push(spawn("bundler", &failed, move || bundler.run(&wakes))?);
        let mut background = vec![spawn("retention", &failed, move || retention.run())?];
        if let Some(checkpoints) = bootstrap.checkpoints {
            let stop = stop.clone();
            let work = move || checkpoints.run(&stop);
            background.push(spawn("checkpoint", &failed, work)?);
        }
        let (trust, database) = (Arc::clone(&bootstrap.trust), bootstrap.database);
        let follow = move || trust.follow(&database, &stop);
        background.push(spawn("trust", &failed, follow)?);

        let upload = &settings.upload;
        Ok(Self {
            admission: Admission::new(upload.batches_in_flight_max, upload.bytes_in_flight_max),
            cpu,
            walk: Arc::new(Walk {
                settings,
                trust: bootstrap.trust,
                writer: Arc::clone(&state),
                clock,
            }),
            writer: state,
            continuity: bootstrap.continuity,
            submissions: Mutex::new(Some(submissions)),
            serve: bootstrap.serve,
            callbacks,
            bundler: bundler_status,
            threads: Mutex::new(threads),
            background: Mutex::new(Some((stop_background, background))),
            failed,
        })
    }

    /// Where permits come from. Ask before reading a body.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// The certificate list as of now; a change in the database is seen within two seconds.
    pub fn trust(&self) -> Arc<Trust> {
        self.walk.trust.current()
    }

    /// Takes an upload through all stages. Returns at once; `reply` is called exactly once, from
    /// another thread, after the commit or the refusal. It must not block.
    pub fn upload(
        &self,
        permit: Permit,
        request: UploadRequest,
        reply: impl FnOnce(Result<Receipt, UploadError>) + Send + 'static,
    ) {
        let submissions = self
            .submissions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(submissions) = submissions else {
            return reply(Err(Failure::ShuttingDown.into()));
        };
        if self.continuity.is_lost() {
            return reply(Err(Failure::DatabaseWentBack.into()));
        }
        let (country, walk) = (request.country, Arc::clone(&self.walk));
        // What the stages log belongs to the request that is being answered.
        let span = tracing::Span::current();
        let work = move || span.in_scope(|| walk.prepare(&request, permit));
        self.cpu.run(country, work, move |prepared| {
            hand_over(prepared, &submissions, Box::new(reply));
        });
    }

    /// Answers a download. `reply` is called exactly once: on this thread if the answer is warm or
    /// a plain refusal, else from a reader thread. It must not block.
    pub fn download(
        &self,
        request: DownloadRequest,
        reply: impl FnOnce(Result<Download, DownloadError>) + Send + 'static,
    ) {
        let reply = DownloadReply::Keys(Box::new(reply));
        self.serve.download(request, reply);
    }

    /// Finds a download batch without reading its keys. `reply` is called exactly once, from this
    /// thread or a reader thread.
    pub fn download_head(
        &self,
        request: DownloadRequest,
        reply: impl FnOnce(Result<DownloadHead, DownloadError>) + Send + 'static,
    ) {
        let reply = DownloadReply::Head(Box::new(reply));
        self.serve.download(request, reply);
    }

    /// Lists the uploads of a download batch for `country`: all of them in log order, the caller's
    /// own last. `reply` is called exactly once, from a reader thread or this one.
    pub fn audit(
        &self,
        country: Country,
        date: Day,
        tag: &str,
        reply: impl FnOnce(Result<Vec<AuditEntry>, DownloadError>) + Send + 'static,
    ) {
        self.serve.audit(country, date, tag, Box::new(reply));
    }

    /// Who wants to be told of new download batches, and what is due to be told.
    pub fn callbacks(&self) -> &Callbacks {
        &self.callbacks
    }

    /// What the engine is doing.
    pub fn status(&self) -> Status {
        Status {
            database_available: self.writer.database_available.load(Ordering::Acquire),
            log_position: self.writer.position().0,
            identities: self.writer.set.len(),
            newest_batch: self.serve.catalog().newest().map(|batch| batch.tag),
            cuts: self.bundler.cuts(),
            bundle_budget: self
                .bundler
                .budget()
                .filter(|_| self.walk.settings.bundle.paced),
            certificates: self.trust().certificates().count(),
            failed: self.failed.load(Ordering::Acquire),
            went_back: self.continuity.loss().map(str::to_owned),
            state_file_writable: !self.continuity.write_failed(),
        }
    }

    /// Stops in order: no new work, everything admitted is answered, threads end. Blocks.
    pub fn shutdown(&self) {
        // The last clone of the sender goes with the last CPU job; then the writer drains and
        // ends, and with it the bundler, which waits for its wakes.
        drop(
            self.submissions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        self.serve.stop_readers();
        self.callbacks.stop();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.into_iter().for_each(join);
        let background = self
            .background
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((stop, threads)) = background {
            drop(stop);
            threads.into_iter().for_each(join);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Walk {
    fn prepare(&self, request: &UploadRequest, permit: Permit) -> Result<Prepared, UploadError> {
        prepare(
            request,
            permit,
            &UploadContext {
                settings: &self.settings.upload,
                legacy_sha1: &self.settings.legacy_sha1,
                pss: &self.settings.pss,
                keys: &self.settings.keys,
                trust: &self.trust.current(),
                set: &self.writer.set,
                tags: &self.writer.tags,
                clock: &*self.clock,
            },
        )
    }
}

/// Gives a prepared upload to the writer, or its answer to who waits.
fn hand_over(
    prepared: Option<Result<Prepared, UploadError>>,
    submissions: &Sender<Incoming>,
    reply: Reply,
) {
    let incoming = match prepared {
        Some(Ok(Prepared::Sealed(batch))) => Incoming::Store(Submission {
            batch: *batch,
            reply,
        }),
        Some(Ok(Prepared::Answered(answer, permit))) => Incoming::Confirm(Unconfirmed {
            answer,
            permit,
            reply,
        }),
        Some(Err(error)) => return reply(Err(error)),
        None => return reply(Err(Failure::Panicked.into())),
    };
    if let Err(unsent) = submissions.send(incoming) {
        let reply = match unsent.into_inner() {
            Incoming::Store(Submission { reply, .. })
            | Incoming::Confirm(Unconfirmed { reply, .. }) => reply,
        };
        reply(Err(Failure::ShuttingDown.into()));
    }
}

/// What threads are started with: the database, and what was read from it.
struct Bootstrap {
    database: Database,
    checkpoints: Option<Checkpoints>,
    continuity: Arc<Continuity>,
    trust: Arc<TrustList>,
    fresh: Arc<FreshSegments>,
    downloads: Arc<DownloadCounts>,
    serve: Arc<Serve>,
}

impl Bootstrap {
    /// Also gives the connection that all of it was read on.
    fn open(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<(Self, Store), StartError> {
        let mut database = Database::new(settings.database.clone());
        let checkpoints = database.checkpoints();
        let mut store = open(&database, settings)?;
        let file = settings.continuity.state_file.as_deref();
        let continuity = Arc::new(Continuity::start(&database, file, &mut store)?);
        let anchor = TrustAnchor::from_pem(&settings.trust_anchor_pem)
            .map_err(|error| StartError::Setting(error.to_string()))?;
        let trust = TrustList::load(anchor, &mut store);
        let trust = Arc::new(trust.map_err(|error| database.unreachable(error))?);

        let cache_bytes = settings.bundle.cache_bytes_max;
        let fresh_bytes = limits::fresh_segments_bytes_max(cache_bytes);
        let fresh = Arc::new(FreshSegments::new(fresh_bytes));
        let downloads = Arc::new(DownloadCounts::default());
        let serve = Arc::new(Serve::new(
            settings.keys.clone(),
            Arc::clone(clock),
            Arc::clone(&continuity),
            Arc::clone(&fresh),
            cache_bytes,
            settings.download.max_age_days,
            Arc::clone(&downloads),
        ));
        let refreshed = serve.refresh(&mut store, clock.now().day());
        refreshed.map_err(|error| database.unreachable(error))?;
        let bootstrap = Self {
            database,
            checkpoints,
            continuity,
            trust,
            fresh,
            downloads,
            serve,
        };
        Ok((bootstrap, store))
    }

    /// The writer, with the set that it reads.
    fn writer(&self, mut store: Store, wake_bundler: Sender<()>) -> Result<Writer, StartError> {
        let since = oldest_identity(&mut store);
        let since = since.map_err(|error| self.database.unreachable(error))?;
        let feed = BundlerFeed::new(Arc::clone(&self.fresh), wake_bundler);
        let continuity = Arc::clone(&self.continuity);
        Writer::start(
            self.database.clone(),
            &mut store,
            since,
            Box::new(feed),
            continuity,
        )
    }

    fn bundler(
        &self,
        writer: &Arc<WriterState>,
        status: &Arc<BundlerStatus>,
        clock: &Arc<dyn Clock>,
        settings: BundleSettings,
    ) -> Bundler {
        Bundler {
            database: self.database.clone(),
            writer: Arc::clone(writer),
            continuity: Arc::clone(&self.continuity),
            serve: Arc::clone(&self.serve),
            clock: Arc::clone(clock),
            settings,
            holder: random_name(),
            status: Arc::clone(status),
            state: Default::default(),
        }
    }

    fn retention(
        &self,
        writer: &Arc<WriterState>,
        clock: &Arc<dyn Clock>,
        max_age_days: u32,
        stop: Receiver<()>,
    ) -> Retention {
        Retention {
            connection: CachedStore::new(self.database.clone()),
            writer: Arc::clone(writer),
            continuity: Arc::clone(&self.continuity),
            downloads: Arc::clone(&self.downloads),
            clock: Arc::clone(clock),
            max_age_days,
            holder: random_name(),
            stop,
            state: Default::default(),
        }
    }
}

/// Refuses settings that contradict each other.
fn check(settings: &Settings) -> Result<(), StartError> {
    match settings.contradiction() {
        None => Ok(()),
        Some(contradiction) => Err(StartError::Setting(contradiction.to_string())),
    }
}

/// Migrates and opens the database, and checks that it is ours.
fn open(database: &Database, settings: &Settings) -> Result<Store, StartError> {
    migrate(database)?;
    let unreachable = |error| database.unreachable(error);
    let mut store = Store::open_for_long_statements(database).map_err(unreachable)?;
    let row_bytes = limits::row_bytes_max(settings.upload.body_bytes_max, settings.upload.keys_max);
    if let Some(unsuitable) = store.check_server(row_bytes).map_err(unreachable)? {
        return Err(StartError::Unsuitable(unsuitable));
    }
    check_flushing(&mut store, settings).map_err(unreachable)??;
    if store.import_state().map_err(unreachable)? == ImportState::Begun {
        return Err(StartError::Unsuitable(
            "an import into this database was begun and did not end: run efgs import again"
                .to_owned(),
        ));
    }
    agree_on_keys(&settings.keys, &mut store, database)?;
    Ok(store)
}

/// Refuses a server that may lose what it has confirmed, unless an operator accepts that.
fn check_flushing(
    store: &mut Store,
    settings: &Settings,
) -> Result<Result<(), StartError>, SqlError> {
    let Some(risk) = store.flushing_risk()? else {
        return Ok(Ok(()));
    };
    if !settings.continuity.accept_unflushed_commits {
        return Ok(Err(StartError::Unsuitable(format!(
            "the database server may lose commits that it has confirmed: {risk}"
        ))));
    }
    tracing::warn!(
        risk,
        "the database server may lose commits that it has confirmed, as accepted"
    );
    Ok(Ok(()))
}

/// All gateways of an installation have the same identity key, and know the same sealing keys.
pub(crate) fn agree_on_keys(
    keys: &Keys,
    store: &mut Store,
    database: &Database,
) -> Result<(), StartError> {
    let mut agree = |name: &str, check: &[u8]| {
        let agreed = store
            .agree_on(name, check)
            .map_err(|error| database.unreachable(error))?;
        if agreed == check {
            return Ok(());
        }
        Err(StartError::WrongKeys(format!(
            "the {name} configured is not the one that this database was set up with: use the key \
             file of the installation"
        )))
    };
    agree("identity key", &keys.identity_check())?;
    for (id, check) in keys.sealing_checks() {
        agree(&format!("sealing key {id}"), &check)?;
    }
    Ok(())
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the engine panicked");
    }
}

fn random_name() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    format!("{:032x}", u128::from_be_bytes(bytes))
}

/// Starts a thread of the engine. A panic in it leaves the engine without a part of itself: it is
/// remembered, so that the process can end and be started again whole.
fn spawn(
    name: &str,
    failed: &Arc<AtomicBool>,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let failed = Arc::clone(failed);
    let guarded = move || {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            metrics::counter!("efgs_panics_total").increment(1);
            failed.store(true, Ordering::Release);
        }
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(guarded)
        .map_err(StartError::Threads)
}
