//! Serve: answers warm downloads from memory; reads cold bundles back once for all waiters.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use super::cache::BundleCache;
use super::catalog::{Catalog, Found};
use super::download::{Download, DownloadHead, DownloadRequest};
use super::download_batch::{Bundle, BundleKey, DownloadBatch};
use super::fresh::FreshSegments;
use super::refusal::{DownloadError, DownloadRefusal};
use crate::clock::Clock;
use crate::continuity::Continuity;
use crate::database::{Database, SqlError};
use crate::domain::{BatchTag, Country, Day, Format};
use crate::failure::{DatabaseError, Failure, StartError, chain};
use crate::limits;
use crate::overload::{Overload, OverloadBound};
use crate::seal::{Keys, seal_context};
use crate::stage::timed;
use crate::statistics::DownloadCounts;
use crate::store::{AuditEntry, CachedStore, DownloadBatchRow, DownloadPlace, Store};

/// Waiter for keys.
pub(crate) type KeysReply = Box<dyn FnOnce(Result<Download, DownloadError>) + Send>;
/// Waiter for the head of a download.
pub(crate) type HeadReply = Box<dyn FnOnce(Result<DownloadHead, DownloadError>) + Send>;

/// Waiter for a download, and for how much of it.
pub(crate) enum DownloadReply {
    Keys(KeysReply),
    Head(HeadReply),
}

impl DownloadReply {
    fn refuse(self, error: DownloadError) {
        match self {
            Self::Keys(reply) => reply(Err(error)),
            Self::Head(reply) => reply(Err(error)),
        }
    }
}

/// Waiter for an audit.
pub(crate) type AuditReply = Box<dyn FnOnce(Result<Vec<AuditEntry>, DownloadError>) + Send>;

/// Shared state of all downloads.
#[derive(Debug)]
pub(crate) struct Serve {
    catalog: Catalog,
    cache: BundleCache,
    fresh: Arc<FreshSegments>,
    waiting: Mutex<Waiting>,
    jobs: Mutex<Option<Sender<Job>>>,
    keys: Keys,
    clock: Arc<dyn Clock>,
    continuity: Arc<Continuity>,
    max_age_days: u32,
    counts: Arc<DownloadCounts>,
}

/// Waiters per cold bundle, which is read once for all of them (single flight).
#[derive(Debug, Default)]
struct Waiting {
    by_bundle: HashMap<BundleKey, Vec<Waiter>>,
    /// Invariant: the number of all waiters, at most [`limits::COLD_READS_MAX`].
    count: usize,
}

/// How a waiter was admitted.
enum Wait {
    /// It is the first for the bundle: read it.
    First,
    /// A read is already under way: its result is shared.
    Joined,
    /// Too many waiters.
    Full(Waiter),
}

impl Waiting {
    fn add(&mut self, key: BundleKey, waiter: Waiter) -> Wait {
        if self.count >= limits::COLD_READS_MAX {
            return Wait::Full(waiter);
        }
        self.count += 1;
        let of_bundle = self.by_bundle.entry(key).or_default();
        of_bundle.push(waiter);
        if of_bundle.len() == 1 {
            Wait::First
        } else {
            Wait::Joined
        }
    }

    fn take(&mut self, key: BundleKey) -> Vec<Waiter> {
        let taken = self.by_bundle.remove(&key).unwrap_or_default();
        self.count -= taken.len();
        taken
    }
}

struct Waiter {
    found: Found,
    reader: Country,
    reply: KeysReply,
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiter")
            .field("reader", &self.reader)
            .finish_non_exhaustive()
    }
}

/// Work for a reader thread.
enum Job {
    /// Look for download batches that this gateway does not know yet, then answer.
    Refresh(DownloadRequest, DownloadReply),
    RefreshAudit {
        country: Country,
        date: Day,
        tag: Box<str>,
        reply: AuditReply,
    },
    Read {
        batch: Arc<DownloadBatch>,
        format: Format,
    },
    Audit {
        country: Country,
        batch: Arc<DownloadBatch>,
        reply: AuditReply,
    },
}

impl Job {
    /// The bundle that is read, which others may be waiting for.
    fn reading(&self) -> Option<BundleKey> {
        match self {
            Self::Read { batch, format } => Some((batch.ordinal, *format)),
            Self::Refresh(..) | Self::RefreshAudit { .. } | Self::Audit { .. } => None,
        }
    }
}

impl Serve {
    pub(crate) fn new(
        keys: Keys,
        clock: Arc<dyn Clock>,
        continuity: Arc<Continuity>,
        fresh: Arc<FreshSegments>,
        cache_bytes_max: usize,
        max_age_days: u32,
        counts: Arc<DownloadCounts>,
    ) -> Self {
        Self {
            catalog: Catalog::default(),
            cache: BundleCache::new(cache_bytes_max),
            fresh,
            waiting: Mutex::default(),
            jobs: Mutex::default(),
            keys,
            clock,
            continuity,
            max_age_days,
            counts,
        }
    }

    /// Starts the reader threads.
    pub(crate) fn start_readers(
        self: &Arc<Self>,
        database: &Database,
    ) -> Result<Vec<JoinHandle<()>>, StartError> {
        let (sender, receiver) = bounded(limits::COLD_READS_MAX);
        *self.jobs.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        let start = |index| {
            let (serve, database, jobs) = (Arc::clone(self), database.clone(), receiver.clone());
            let builder = std::thread::Builder::new().name(format!("reader-{index}"));
            builder
                .spawn(move || serve.work(&database, &jobs))
                .map_err(StartError::Threads)
        };
        (0..limits::READER_THREADS).map(start).collect()
    }

    /// Lets the reader threads end once the queue is empty.
    pub(crate) fn stop_readers(&self) {
        *self.jobs.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Publishes new download batches, which are in the database; their bundles are warm if this
    /// gateway stored all their uploads.
    ///
    /// # Errors
    /// When the state file cannot be written: then they are not served.
    pub(crate) fn adopt(&self, batches: &[Arc<DownloadBatch>]) -> Result<(), SqlError> {
        if let Some(newest) = batches.last() {
            let remembered = self.continuity.remember_batch(&newest.row());
            remembered.map_err(|error| SqlError::Refused(error.into()))?;
        }
        for batch in batches {
            if let Some(bundle) = self.fresh.take(batch) {
                self.cache.insert(batch.ordinal, &Arc::new(bundle));
            }
        }
        self.catalog.append(batches);
        Ok(())
    }

    /// Reads the download batches after the newest known one, if the database still has that.
    pub(crate) fn refresh(&self, store: &mut Store, today: Day) -> Result<(), SqlError> {
        if !self.continuity.holds_batches(store)? {
            return Ok(());
        }
        let known = self.catalog.newest().map_or(0, |batch| batch.ordinal);
        let batches = self.read_batches(known, store, today)?;
        self.adopt(&batches)
    }

    /// Reads all download batches that can be requested, including those that were dropped as too
    /// old.
    pub(crate) fn read_again(&self, store: &mut Store, today: Day) -> Result<(), SqlError> {
        let batches = self.read_batches(0, store, today)?;
        self.catalog.replace(batches);
        Ok(())
    }

    /// The download batches after an ordinal that are young enough to be requested.
    fn read_batches(
        &self,
        after_ordinal: u64,
        store: &mut Store,
        today: Day,
    ) -> Result<Vec<Arc<DownloadBatch>>, SqlError> {
        let rows = store.read_download_batches(after_ordinal, self.oldest_day(today))?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(Vec::new());
        };
        let seqs = *first.seqs.start()..=*last.seqs.end();
        store.make_reads_durable()?;
        let uploads = store.read_upload_range(&seqs)?;
        let mut uploads = uploads.into_iter().peekable();
        let with_members = |row: DownloadBatchRow| {
            let (start, end) = (*row.seqs.start(), *row.seqs.end());
            let members = std::iter::from_fn(|| uploads.next_if(|upload| upload.seq.0 <= end));
            let members: Vec<_> = members.filter(|upload| upload.seq.0 >= start).collect();
            Arc::new(DownloadBatch::new(row, members))
        };
        Ok(rows.into_iter().map(with_members).collect())
    }

    /// Drops download batches that are too old to be requested.
    pub(crate) fn expire(&self, today: Day) {
        if let Some(last_ordinal) = self.catalog.expire(self.oldest_day(today)) {
            self.cache.expire(last_ordinal);
        }
    }

    /// The oldest day that can be requested (wire §14.4).
    fn oldest_day(&self, today: Day) -> Day {
        today.minus_days(self.max_age_days)
    }

    fn check_age(&self, date: Day) -> Result<(), DownloadRefusal> {
        let too_old = date < self.oldest_day(self.clock.now().day());
        if too_old {
            Err(DownloadRefusal::DateTooOld)
        } else {
            Ok(())
        }
    }

    /// Answers a download, immediately if it is warm.
    pub(crate) fn download(&self, request: DownloadRequest, reply: DownloadReply) {
        if self.continuity.is_lost() {
            return reply.refuse(Failure::DatabaseWentBack.into());
        }
        if let Err(refusal) = self.check_age(request.date) {
            return reply.refuse(refusal.into());
        }
        match self.catalog.find(request.date, request.tag.as_deref()) {
            Ok(found) => self.give(found, &request, reply),
            Err(refusal) if is_final(refusal, request.tag.as_deref()) => {
                reply.refuse(refusal.into());
            }
            // Another gateway may have announced a batch that is not known here yet.
            Err(_) => self.submit(Job::Refresh(request, reply)),
        }
    }

    /// Answers an audit, from a reader thread.
    pub(crate) fn audit(&self, country: Country, date: Day, tag: &str, reply: AuditReply) {
        if self.continuity.is_lost() {
            return reply(Err(Failure::DatabaseWentBack.into()));
        }
        if let Err(refusal) = self.check_age(date) {
            return reply(Err(refusal.into()));
        }
        match self.catalog.find_exact(date, tag) {
            Ok(batch) => self.submit(Job::Audit {
                country,
                batch,
                reply,
            }),
            Err(refusal) if is_final(refusal, Some(tag)) => reply(Err(refusal.into())),
            Err(_) => self.submit(Job::RefreshAudit {
                country,
                date,
                tag: tag.into(),
                reply,
            }),
        }
    }

    /// Returns as much as is wanted of a batch that exists.
    fn give(&self, found: Found, request: &DownloadRequest, reply: DownloadReply) {
        let (reader, format) = (request.country, request.format);
        match reply {
            DownloadReply::Keys(reply) => self.give_keys(found, reader, format, reply),
            DownloadReply::Head(reply) => {
                let bundle = self.cache.find(found.batch.ordinal, format);
                reply(Ok(DownloadHead::new(
                    found.batch,
                    found.next,
                    bundle,
                    reader,
                )));
            }
        }
    }

    /// Returns the keys of a batch: warm at once, cold when they have been read.
    fn give_keys(&self, found: Found, reader: Country, format: Format, reply: KeysReply) {
        if let Some(bundle) = self.cache.find(found.batch.ordinal, format) {
            return reply(Ok(self.answer(found, bundle, reader)));
        }
        let batch = Arc::clone(&found.batch);
        let waiter = Waiter {
            found,
            reader,
            reply,
        };
        let key = (batch.ordinal, format);
        // Single flight: under the lock exactly one waiter of a bundle is the first, and only that
        // one submits a read; `hand_out` takes all waiters at once, under the same lock. Whoever
        // comes after that finds the bundle in the cache, which `read` fills before; or, if it
        // looked before and joins now, is the first of the next read, which finds the cache warm.
        // The lock ends with this statement: no reply runs under it.
        let wait = self.lock_waiting().add(key, waiter);
        match wait {
            Wait::First => self.submit(Job::Read { batch, format }),
            Wait::Joined => {}
            Wait::Full(waiter) => {
                (waiter.reply)(Err(Overload::at(OverloadBound::ColdReads).into()));
            }
        }
    }

    /// An answer, counted.
    fn answer(&self, found: Found, bundle: Arc<Bundle>, reader: Country) -> Download {
        let download = Download::new(found.batch, found.next, bundle, reader);
        let place = DownloadPlace {
            country: download.reader,
            day: self.clock.now().day(),
            batch: download.batch.tag,
        };
        self.counts.count(place, download.key_count());
        download
    }

    /// Submits a job to the reader threads, or refuses it at once.
    fn submit(&self, job: Job) {
        let sent = match &*self.jobs.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(jobs) => jobs.try_send(job),
            None => Err(TrySendError::Disconnected(job)),
        };
        match sent {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => {
                self.refuse(job, || Overload::at(OverloadBound::ColdReads).into());
            }
            Err(TrySendError::Disconnected(job)) => {
                self.refuse(job, || Failure::ShuttingDown.into());
            }
        }
    }

    fn refuse(&self, job: Job, error: impl Fn() -> DownloadError) {
        match job {
            Job::Refresh(_, reply) => reply.refuse(error()),
            Job::RefreshAudit { reply, .. } | Job::Audit { reply, .. } => reply(Err(error())),
            Job::Read { batch, format } => {
                for waiter in self.take_waiters(batch.ordinal, format) {
                    (waiter.reply)(Err(error()));
                }
            }
        }
    }

    fn lock_waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_waiters(&self, ordinal: u64, format: Format) -> Vec<Waiter> {
        self.lock_waiting().take((ordinal, format))
    }

    /// A reader thread.
    fn work(&self, database: &Database, jobs: &Receiver<Job>) {
        let mut connection = CachedStore::new(database.clone());
        for job in jobs {
            let store = match connection.store() {
                Ok(store) => store,
                Err(error) => {
                    // Queued jobs would wait for the same failure.
                    self.refuse_unconnected(std::iter::once(job).chain(jobs.try_iter()), &error);
                    continue;
                }
            };
            let reading = job.reading();
            match catch_unwind(AssertUnwindSafe(|| self.run(job, store))) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(_) => self.fail_waiters(reading),
            }
            // A connection on which something failed is not reused.
            connection.close();
        }
    }

    fn refuse_unconnected(&self, jobs: impl Iterator<Item = Job>, error: &SqlError) {
        tracing::warn!(stage = "serve", error = %error, "database is not available");
        for job in jobs {
            self.refuse(job, || {
                let source = "not connected".into();
                let doing = "connecting for a download";
                Failure::Database(DatabaseError { doing, source }).into()
            });
        }
    }

    /// After a panic: answers the waiters for the bundle. An audit's reply was dropped with the
    /// job.
    fn fail_waiters(&self, reading: Option<BundleKey>) {
        metrics::counter!("efgs_panics_total").increment(1);
        let Some((ordinal, format)) = reading else {
            return;
        };
        for waiter in self.take_waiters(ordinal, format) {
            (waiter.reply)(Err(Failure::Panicked.into()));
        }
    }

    /// Does a job; false if the connection failed.
    fn run(&self, job: Job, store: &mut Store) -> bool {
        match job {
            Job::Refresh(request, reply) => self.refresh_and_give(request, reply, store),
            Job::RefreshAudit {
                country,
                date,
                tag,
                reply,
            } => match self.find_after_refresh(store, |catalog| catalog.find_exact(date, &tag)) {
                Ok(batch) => read_audit(country, &batch, reply, store),
                Err(error) => answer_error(reply, error),
            },
            Job::Audit {
                country,
                batch,
                reply,
            } => read_audit(country, &batch, reply, store),
            Job::Read { batch, format } => {
                let bundle = timed("serve", || self.read(&batch, format, store));
                let intact = !matches!(bundle, Err(Failure::Database(_)));
                self.hand_out(&batch, format, bundle);
                intact
            }
        }
    }

    fn refresh_and_give(
        &self,
        request: DownloadRequest,
        reply: DownloadReply,
        store: &mut Store,
    ) -> bool {
        let tag = request.tag.as_deref();
        match self.find_after_refresh(store, |catalog| catalog.find(request.date, tag)) {
            Ok(found) => {
                self.give(found, &request, reply);
                true
            }
            Err(error) => {
                let intact = is_intact(&error);
                reply.refuse(error);
                intact
            }
        }
    }

    fn find_after_refresh<T>(
        &self,
        store: &mut Store,
        find: impl FnOnce(&Catalog) -> Result<T, DownloadRefusal>,
    ) -> Result<T, DownloadError> {
        let refreshed = self.refresh(store, self.clock.now().day());
        refreshed.map_err(|error| failure(error, "looking for download batches"))?;
        if self.continuity.is_lost() {
            return Err(Failure::DatabaseWentBack.into());
        }
        Ok(find(&self.catalog)?)
    }

    /// Reads a bundle back: from its sealed uploads, or from the warm bundle of the other format.
    fn read(
        &self,
        batch: &DownloadBatch,
        format: Format,
        store: &mut Store,
    ) -> Result<Arc<Bundle>, Failure> {
        if let Some(warm) = self.cache.find(batch.ordinal, format) {
            return Ok(warm);
        }
        let bundle = match format {
            Format::Protobuf => self.read_segments(batch, store)?,
            Format::Json => self.read(batch, Format::Protobuf, store)?.to_json(),
        };
        let bundle = Arc::new(bundle);
        self.cache.insert(batch.ordinal, &bundle);
        Ok(bundle)
    }

    fn read_segments(&self, batch: &DownloadBatch, store: &mut Store) -> Result<Bundle, Failure> {
        metrics::counter!("efgs_cold_bundles_total").increment(1);
        let rows = store.read_sealed(&batch.seqs);
        let rows = rows.map_err(|error| Failure::Database(error.doing("reading a bundle")))?;
        let mut segments = Vec::with_capacity(batch.uploads.len());
        for row in rows {
            if batch
                .uploads
                .get(segments.len())
                .is_some_and(|upload| upload.seq == row.seq)
            {
                let context = seal_context(row.country, &row.tag);
                segments.push(Bytes::from(self.keys.unseal(row.sealed, &context)?));
            }
        }
        if segments.len() != batch.uploads.len() {
            let source = format!(
                "{} of its uploads are gone",
                batch.uploads.len() - segments.len()
            );
            let doing = "reading a bundle";
            let source = source.into();
            return Err(Failure::Database(DatabaseError { doing, source }));
        }
        Ok(Bundle {
            format: Format::Protobuf,
            segments: segments.into(),
        })
    }

    fn hand_out(
        &self,
        batch: &DownloadBatch,
        format: Format,
        bundle: Result<Arc<Bundle>, Failure>,
    ) {
        if let Err(error) = &bundle {
            tracing::error!(stage = "serve", batchTag = %batch.tag, error = %chain(error), "cannot read a bundle");
        }
        for waiter in self.take_waiters(batch.ordinal, format) {
            (waiter.reply)(match &bundle {
                Ok(bundle) => Ok(self.answer(waiter.found, Arc::clone(bundle), waiter.reader)),
                Err(Failure::Unseal(error)) => Err(Failure::Unseal(*error).into()),
                Err(error) => {
                    let (doing, source) = ("reading a bundle", chain(error).into());
                    Err(Failure::Database(DatabaseError { doing, source }).into())
                }
            });
        }
    }
}

/// Whether a lookup in the database cannot change a refusal: the batch is known, or no gateway
/// issues such a tag.
fn is_final(refusal: DownloadRefusal, tag: Option<&str>) -> bool {
    match refusal {
        DownloadRefusal::UnknownBatchTag => tag.is_some_and(|tag| BatchTag::parse(tag).is_err()),
        DownloadRefusal::NoBatchOnDate => false,
        DownloadRefusal::BatchBeforeDate
        | DownloadRefusal::OtherDay
        | DownloadRefusal::DateTooOld
        | DownloadRefusal::NoEntries => true,
    }
}

fn failure(error: SqlError, doing: &'static str) -> DownloadError {
    Failure::Database(error.doing(doing)).into()
}

/// Whether a connection still works after an error.
const fn is_intact(error: &DownloadError) -> bool {
    !matches!(error, DownloadError::Failure(_))
}

/// Answers with an error; false if it means that the connection failed.
fn answer_error<T>(
    reply: Box<dyn FnOnce(Result<T, DownloadError>) + Send>,
    error: DownloadError,
) -> bool {
    let intact = is_intact(&error);
    reply(Err(error));
    intact
}

/// Lists a batch's uploads: in order, the caller's own last (FI slices the whole list without
/// skipping its own, wire §15).
fn read_audit(
    country: Country,
    batch: &DownloadBatch,
    reply: AuditReply,
    store: &mut Store,
) -> bool {
    match store.read_audit(&batch.seqs) {
        Ok(entries) if entries.is_empty() => {
            reply(Err(DownloadRefusal::NoEntries.into()));
            true
        }
        Ok(mut entries) => {
            entries.sort_by_key(|entry| entry.country == country);
            reply(Ok(entries));
            true
        }
        Err(error) => answer_error(reply, failure(error, "reading an audit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::BundledUpload;
    use crate::clock::ManualClock;
    use crate::domain::{Seq, UnixMillis};
    use crate::settings::DatabaseUrl;
    use crate::store::migrate;

    const TAG: &str = "20201006-1";

    /// One batch that stays cold, because no reader processes the jobs.
    fn cold() -> (Serve, Receiver<Job>, tempfile::TempDir) {
        let clock = ManualClock::new(UnixMillis(1_601_942_400_000));
        let keys = Keys::parse(&Keys::generate_text()).unwrap();
        let fresh = Arc::new(FreshSegments::new(0));
        let folder = tempfile::tempdir().unwrap();
        let database = Database::new(DatabaseUrl::Sqlite(folder.path().join("db")));
        migrate(&database).unwrap();
        let mut store = Store::open(&database).unwrap();
        let continuity = Arc::new(Continuity::start(&database, None, &mut store).unwrap());
        let clock = Arc::new(clock);
        let serve = Serve::new(keys, clock, continuity, fresh, 0, 2, Arc::default());
        let (jobs, queue) = bounded(limits::COLD_READS_MAX);
        *serve.jobs.lock().unwrap() = Some(jobs);
        let upload = BundledUpload {
            seq: Seq(1),
            country: Country::parse("IT").unwrap(),
            key_count: 1,
        };
        let batch = DownloadBatch {
            ordinal: 1,
            tag: BatchTag::parse(TAG).unwrap(),
            seqs: 1..=1,
            uploads: vec![upload],
        };
        serve.adopt(&[Arc::new(batch)]).unwrap();
        (serve, queue, folder)
    }

    fn request() -> DownloadRequest {
        DownloadRequest {
            country: Country::parse("DE").unwrap(),
            date: BatchTag::parse(TAG).unwrap().day,
            tag: None,
            format: Format::Protobuf,
        }
    }

    #[test]
    fn gives_the_head_of_a_cold_bundle_without_reading_it() {
        let (serve, queue, _folder) = cold();
        let (sender, answers) = bounded(1);
        let reply = Box::new(move |head| sender.send(head).unwrap());
        serve.download(request(), DownloadReply::Head(reply));
        let head = answers.try_recv().expect("it is given at once").unwrap();
        assert_eq!(head.tag.to_string(), TAG);
        assert_eq!((head.next, head.body_bytes), (None, None));
        assert!(queue.is_empty(), "nothing is read");
        assert_eq!(serve.lock_waiting().count, 0);
    }

    #[test]
    fn refuses_who_would_wait_beyond_the_bound() {
        let (serve, queue, _folder) = cold();
        let (sender, answers) = bounded(2 * limits::COLD_READS_MAX);
        let ask = || {
            let sender = sender.clone();
            let reply = Box::new(move |answer| sender.send(answer).unwrap());
            serve.download(request(), DownloadReply::Keys(reply));
        };
        (0..limits::COLD_READS_MAX).for_each(|_| ask());
        assert!(answers.is_empty(), "all of them wait");
        ask();
        let Ok(Err(DownloadError::Overload(overload))) = answers.try_recv() else {
            panic!("the next one is refused");
        };
        assert_eq!(overload.bound, OverloadBound::ColdReads);
        assert_eq!(queue.len(), 1, "it is read once");
        let job = queue.recv().unwrap();
        serve.refuse(job, || Failure::ShuttingDown.into());
        assert_eq!(answers.len(), limits::COLD_READS_MAX);
        ask();
        assert_eq!((answers.len(), queue.len()), (limits::COLD_READS_MAX, 1));
    }
}
