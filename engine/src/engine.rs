//! The engine: starts pools and threads, takes uploads, answers downloads, drains in order.
//!
//! Threads: `cpu-N` (rayon, one per core), `writer` (the set) with `commit` (its connection), `bundler` (its
//! connection, the lease), `reader-N` (one connection each), `callbacks` (its connection), `retention`
//! (its connection, another lease), `trust`, with SQLite `checkpoint`, and while a less preferred database
//! host is in use `hosts`, which ends by itself. Shutdown: no new work, so
//! that readers and callbacks end with what waits for them; CPU jobs end, the writer drains, the
//! bundler follows; then retention writes the last statistics, and the others end.

mod bootstrap;
mod measure;
mod observe;
mod status;
mod threads;

use crate::admission::{Admission, Permit};
use crate::allowance::{Allowance, Warned};
use crate::bundle::{
    Audit, AuditRequest, BundlerStatus, Download, DownloadError, DownloadHead, DownloadReply,
    DownloadRequest, Serve,
};
use crate::calendar::{Calendar, UploadClock};
use crate::callbacks::Callbacks;
use crate::clock::Clock;
use crate::continuity::Continuity;
use crate::cpu_pool::CpuPool;
use crate::database::Database;
use crate::domain::{Country, Day, UnixMillis};
use crate::failure::{Failure, StartError};
use crate::key_ring::{KeyRing, agree_on_keys};
use crate::locks::LockIgnoringPoison;
use crate::overview::{AnnouncedGateway, Announcement, Overview, OverviewReader};
use crate::persist::{FromMemory, Incoming, StartProgress, Submission, Unconfirmed, WriterState};
use crate::seal::{Keys, KeysSummary};
use crate::settings::Settings;
use crate::statistics::DownloadCounts;
use crate::store::{SealingKeyRow, Store};
use crate::trust::{Trust, TrustAnchorError, TrustAnchors};
use crate::trust_list::TrustList;
use crate::upload::{Prepared, Receipt, Reply, UploadContext, UploadError, UploadRequest, prepare};
use bootstrap::{Bootstrap, check};
use crossbeam::channel::{Sender, bounded};
pub use status::{ParticipantLoad, Status};
use std::sync::{Arc, Mutex};
use threads::Threads;

/// A running engine. Share it in an [`Arc`]; it stops when it is dropped.
#[derive(Debug)]
pub struct Engine {
    admission: Admission,
    cpu: CpuPool,
    walk: Arc<Walk>,
    writer: Arc<WriterState>,
    continuity: Arc<Continuity>,
    calendar: Arc<Calendar>,
    submissions: Mutex<Option<Sender<Incoming>>>,
    serve: Arc<Serve>,
    downloads: Arc<DownloadCounts>,
    callbacks: Callbacks,
    bundler: Arc<BundlerStatus>,
    overview: OverviewReader,
    threads: Threads,
}

/// What CPU jobs share.
#[derive(Debug)]
struct Walk {
    settings: Settings,
    trust: Arc<TrustList>,
    key_ring: Arc<KeyRing>,
    writer: Arc<WriterState>,
    clock: UploadClock,
    allowance: Allowance,
}

impl Engine {
    /// Opens the database (migrating it if needed), rebuilds the set of identities, starts all
    /// threads.
    ///
    /// # Errors
    /// [`StartError`]: one sentence that says what to do.
    pub fn start(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        Self::start_watched(settings, clock, &StartProgress::default())
    }

    /// The same, and others can see how far it has come.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start_watched(
        settings: Settings,
        clock: Arc<dyn Clock>,
        progress: &StartProgress,
    ) -> Result<Self, StartError> {
        let database = Database::new(settings.database.clone());
        Self::start_with(database, settings, clock, progress)
    }

    /// Starts on a database that fails as planned, for simulations. Not in release programs.
    ///
    /// # Errors
    /// As [`Self::start`].
    #[cfg(any(test, debug_assertions))]
    pub fn start_with_faults(
        settings: Settings,
        clock: Arc<dyn Clock>,
        faults: crate::database::faulty::Faults,
    ) -> Result<Self, StartError> {
        let database = Database::new(settings.database.clone()).with_faults(faults);
        Self::start_with(database, settings, clock, &StartProgress::default())
    }

    fn start_with(
        database: Database,
        settings: Settings,
        clock: Arc<dyn Clock>,
        progress: &StartProgress,
    ) -> Result<Self, StartError> {
        check(&settings)?;
        let (bootstrap, store) = Bootstrap::open(database, &settings, &clock)?;
        let serve = Arc::clone(&bootstrap.serve);
        let started = Self::start_on(bootstrap, store, settings, clock, progress);
        // Readers share what holds their queue: they would wait for ever if they were not stopped.
        started.inspect_err(|_| serve.stop_readers())
    }

    fn start_on(
        mut bootstrap: Bootstrap,
        store: Store,
        settings: Settings,
        clock: Arc<dyn Clock>,
        progress: &StartProgress,
    ) -> Result<Self, StartError> {
        let cpu = CpuPool::start(settings.cpu_threads)?;
        let (wake_bundler, wakes) = bounded(1);
        let writer = bootstrap.writer(store, wake_bundler, progress)?;
        // Download batches were read before, but a row of the log says more of what is wrong.
        if let Some(change) = bootstrap.continuity.mismatch() {
            return Err(StartError::Changed(change.to_owned()));
        }
        let state = Arc::clone(writer.state());
        let bundler_status = Arc::default();
        let bundler = bootstrap.bundler(&state, &bundler_status, &clock, settings.bundle);
        let (stop_background, stop) = bounded(0);
        let max_age_days = settings.download.max_age_days;
        let retention = bootstrap.retention(&state, settings.download, stop.clone());
        let calendar = Arc::clone(&bootstrap.calendar);
        let continuity = &bootstrap.continuity;
        let (callbacks, worker) =
            Callbacks::new(&bootstrap.database, calendar, max_age_days, continuity);
        // One place per permit: a job that has a permit never waits to hand its batch over.
        let (submissions, queue) = bounded(settings.upload.batches_in_flight_max);

        let readers = bootstrap.serve.start_readers(&bootstrap.database)?;
        let threads = Threads::new(readers, stop_background);
        threads.spawn("callbacks", move || worker.run())?;
        threads.spawn("writer", move || writer.run(&queue))?;
        threads.spawn("bundler", move || bundler.run(&wakes))?;
        threads.spawn_background("retention", move || retention.run())?;
        if let Some(checkpoints) = bootstrap.checkpoints.take() {
            let stop = stop.clone();
            threads.spawn_background("checkpoint", move || checkpoints.run(&stop))?;
        }
        let overview = OverviewReader::new(
            bootstrap.database.clone(),
            Arc::clone(&bootstrap.continuity),
        );
        let (trust, database) = (Arc::clone(&bootstrap.trust), bootstrap.database.clone());
        let key_ring = Arc::clone(&bootstrap.key_ring);
        let follow = move || trust.follow(&database, &key_ring, &stop);
        threads.spawn_background("trust", follow)?;

        let upload = &settings.upload;
        Ok(Self {
            admission: Admission::new(upload.batches_in_flight_max, upload.bytes_in_flight_max),
            cpu,
            walk: Arc::new(Walk::new(settings, &bootstrap, &state)),
            writer: state,
            continuity: bootstrap.continuity,
            calendar: bootstrap.calendar,
            submissions: Mutex::new(Some(submissions)),
            serve: bootstrap.serve,
            downloads: bootstrap.downloads,
            callbacks,
            bundler: bundler_status,
            overview,
            threads,
        })
    }

    /// Where permits come from. Ask before reading a body.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// The certificate list as of now; a change in the database is seen within five seconds.
    pub fn trust(&self) -> Arc<Trust> {
        self.walk.trust.current()
    }

    /// Takes an upload through all stages; a dry run through all but the last. Returns at once; `reply`
    /// is called exactly once, from another thread, after the commit or the refusal. It must not block.
    pub fn upload(
        &self,
        permit: Permit,
        request: UploadRequest,
        reply: impl FnOnce(Result<Receipt, UploadError>) + Send + 'static,
    ) {
        let submissions = self.submissions.lock_ignoring_poison().clone();
        let Some(submissions) = submissions else {
            return reply(Err(Failure::ShuttingDown.into()));
        };
        if self.continuity.has_gone_back() {
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
    /// a plain refusal, otherwise from a reader thread. It must not block.
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
        reply: impl FnOnce(Result<Audit, DownloadError>) + Send + 'static,
    ) {
        let request = AuditRequest {
            country,
            trust: self.trust(),
            reply: Box::new(reply),
        };
        self.serve.audit(date, tag, request);
    }

    /// The subscriptions to new download batches, and the deliveries that are due.
    pub fn callbacks(&self) -> &Callbacks {
        &self.callbacks
    }

    /// Which sealing keys there are, without revealing them.
    pub fn sealing_keys(&self) -> KeysSummary {
        self.walk.settings.keys.summary()
    }

    /// Replaces the sealing keys with those of a key file that was read again, which must hold all current
    /// ones except retired ones, so that stored keys can still be opened. Blocks while it compares them with
    /// the installation's.
    ///
    /// # Errors
    /// [`StartError`]; then nothing has changed.
    pub fn renew_keys(&self, renewed: &Keys) -> Result<(), StartError> {
        let keys = &self.walk.settings.keys;
        let database = Database::new(self.walk.settings.database.clone());
        let unreachable = |error| database.unreachable(error);
        let mut store = Store::open(&database).map_err(unreachable)?;
        let named = store.sealing_keys().map_err(unreachable)?.into_iter();
        let retired: Vec<_> = named.filter(SealingKeyRow::is_retired).collect();
        let is_retired = |id| retired.iter().any(|row| row.id == id);
        keys.check_renewal(renewed, is_retired)
            .map_err(|error| StartError::UnfitKeys(error.to_string()))?;
        agree_on_keys(renewed, &mut store, &database)?;
        keys.renew(renewed);
        self.walk.key_ring.refresh(&mut store).map_err(unreachable)
    }

    /// Checks the certificate list with these trust anchors from now on: a PEM text of one or more
    /// certificates. What they do not vouch for is trusted no longer, within five seconds.
    ///
    /// # Errors
    /// [`TrustAnchorError`]; then nothing has changed.
    pub fn renew_trust_anchors(&self, pem: &str) -> Result<(), TrustAnchorError> {
        self.walk.trust.renew_anchors(TrustAnchors::from_pem(pem)?);
        Ok(())
    }

    /// Why the database server may lose commits that it has confirmed, if it may: its settings can have
    /// changed since the start. Blocks while it asks.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn flushing_risk(&self) -> Result<Option<&'static str>, StartError> {
        let database = Database::new(self.walk.settings.database.clone());
        let risk = Store::open(&database).and_then(|mut store| store.flushing_risk());
        risk.map_err(|error| database.unreachable(error))
    }

    /// Announces this gateway to the others of the installation. Returns all announcements from before,
    /// including the last one under this gateway's own name. Blocks.
    ///
    /// # Errors
    /// When the database fails, or has gone back.
    pub fn announce(&self, own: &Announcement) -> Result<Vec<AnnouncedGateway>, Failure> {
        self.overview.announce(own)
    }

    /// What the console shows of the whole installation as of `now`. Blocks while it reads the
    /// statistics of the database; the first call counts the whole log, later ones what is new.
    ///
    /// # Errors
    /// When the database fails, or has gone back.
    pub fn overview(&self, now: UnixMillis) -> Result<Overview, Failure> {
        let (today, max_age_days) = (now.day(), self.walk.settings.download.max_age_days);
        self.overview
            .read(today, now, today.minus_days(max_age_days))
    }

    /// Stops in order: no new work, everything admitted is answered, threads end. Blocks.
    pub fn shutdown(&self) {
        // The last clone of the sender goes with the last CPU job; then the writer drains and
        // ends, and with it the bundler, which waits for its wakes.
        drop(self.submissions.lock_ignoring_poison().take());
        self.serve.stop_readers();
        self.callbacks.stop();
        self.threads.join();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Walk {
    fn new(settings: Settings, bootstrap: &Bootstrap, writer: &Arc<WriterState>) -> Self {
        let allowance = Allowance {
            quota: settings.quota.clone(),
            bytes_max: settings.memory.stored_bytes_max(),
            writer: Arc::clone(writer),
            serve: Arc::clone(&bootstrap.serve),
            // The day that uploads are counted on.
            clock: Arc::new(bootstrap.calendar.for_uploads()),
            warned: Mutex::new(Warned::default()),
        };
        allowance.watch_memory();
        Self {
            settings,
            trust: Arc::clone(&bootstrap.trust),
            key_ring: Arc::clone(&bootstrap.key_ring),
            writer: Arc::clone(writer),
            clock: bootstrap.calendar.for_uploads(),
            allowance,
        }
    }

    fn prepare(&self, request: &UploadRequest, permit: Permit) -> Result<Prepared, UploadError> {
        let context = UploadContext {
            settings: &self.settings.upload,
            legacy_sha1: &self.settings.legacy_sha1,
            pss: &self.settings.pss,
            keys: &self.settings.keys,
            trust: &self.trust.current(),
            set: &self.writer.set,
            tags: &self.writer.tags,
            allowance: &self.allowance,
            clock: &self.clock,
        };
        prepare(request, permit, &context)
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
            answer: FromMemory::Final(answer),
            permit,
            reply,
        }),
        Some(Ok(Prepared::Duplicated(duplicates, permit))) => Incoming::Confirm(Unconfirmed {
            answer: FromMemory::Duplicates(duplicates),
            permit,
            reply,
        }),
        Some(Ok(Prepared::DryRun(duplicates, permit))) => Incoming::Confirm(Unconfirmed {
            answer: FromMemory::DryRun(duplicates),
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
