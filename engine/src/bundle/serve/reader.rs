//! The reader threads: they look for download batches that are not known here yet, read bundles back,
//! and make audits.

use std::collections::hash_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard};

use bytes::Bytes;

use super::{Reading, Serve};
use crate::bundle::audit::AuditEntries;
use crate::bundle::catalog::{Catalog, Found};
use crate::bundle::download::{DownloadHead, DownloadRequest};
use crate::bundle::download_batch::{Bundle, BundledUpload, DownloadBatch};
use crate::bundle::jobs::{AuditRequest, BundleKey, DownloadReply, HeadReply, Job, Waiter};
use crate::bundle::refusal::{DownloadError, DownloadRefusal};
use crate::database::{Database, SqlError};
use crate::decode::decode;
use crate::domain::{Format, Seq};
use crate::failure::{DatabaseError, Failure, chain};
use crate::locks::LockIgnoringPoison;
use crate::log_chain::BatchUploads;
use crate::overload::{Overload, OverloadBound};
use crate::seal::UnsealError;
use crate::stage::timed;
use crate::store::{AuditEntry, CachedStore, SealedUpload, Store};

impl Serve {
    pub(super) fn lock_reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock_ignoring_poison()
    }

    /// All who wait for a bundle that has been read. Anyone who comes later finds it in the cache, if it
    /// fits there.
    fn take_waiters(&self, key: BundleKey) -> Vec<Waiter> {
        let taken_along = self.lock_reading().remove(&key);
        let mut waiters = taken_along.unwrap_or_default();
        for job in self.jobs.extract(|job| job.reading() == Some(key)) {
            if let Job::Read(waiter) = job {
                waiters.push(waiter);
            }
        }
        waiters
    }

    /// Joins the read that is under way, or begins one: true if this thread is to read the bundle. No
    /// reply runs under the lock.
    pub(super) fn begin_or_join(&self, waiter: Waiter) -> bool {
        let mut reading = self.lock_reading();
        let waiters = reading.entry(waiter.key());
        let is_new = matches!(waiters, Entry::Vacant(_));
        waiters.or_default().push(waiter);
        is_new
    }

    /// A reader thread.
    pub(super) fn work(&self, database: &Database) {
        let mut connection = CachedStore::new(database.clone());
        while let Some(job) = self.jobs.receive() {
            let store = match connection.store() {
                Ok(store) => store,
                Err(error) => {
                    // Queued jobs would wait for the same failure.
                    let mut jobs = self.jobs.extract(|_| true);
                    jobs.push(job);
                    database.log_error("serve", &error, "database is not available");
                    refuse_unconnected(jobs);
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

    /// After a panic: answers the waiters for the bundle. An audit's reply was dropped with the
    /// job.
    fn fail_waiters(&self, reading: Option<BundleKey>) {
        metrics::counter!("efgs_panics_total").increment(1);
        let Some(key) = reading else {
            return;
        };
        for waiter in self.take_waiters(key) {
            (waiter.reply)(Err(Failure::Panicked.into()));
        }
    }

    /// Does a job; false if the connection failed.
    pub(super) fn run(&self, job: Job, store: &mut Store) -> bool {
        match job {
            Job::Refresh(request, reply) => self.refresh_and_answer(request, reply, store),
            Job::RefreshAudit { date, tag, request } => {
                match self.find_after_refresh(store, |catalog| catalog.find_exact(date, &tag)) {
                    Ok(batch) => self.read_audit(&batch, request, store),
                    Err(error) => answer_error(request.reply, error),
                }
            }
            Job::Audit { batch, request } => match self.confirm(store) {
                Ok(()) => self.read_audit(&batch, request, store),
                Err(error) => answer_error(request.reply, error.into()),
            },
            Job::Read(waiter) => self.read_and_hand_out(waiter, store),
            Job::Head(found, request, reply) => self.look_for(found, &request, reply, store),
        }
    }

    /// Returns the head of a cold batch if it is still there, otherwise what a request would get now.
    fn look_for(
        &self,
        found: Found,
        request: &DownloadRequest,
        reply: HeadReply,
        store: &mut Store,
    ) -> bool {
        let is_gone = self.confirm(store).and_then(|()| {
            let is_gone = self.is_gone(&found.batch, store);
            is_gone.map_err(|error| Failure::Database(error.doing("looking for a download batch")))
        });
        let found = match is_gone {
            Ok(false) => Ok(found),
            Ok(true) => {
                let tag = request.tag.as_deref();
                self.catalog.find(request.date, tag).map_err(Into::into)
            }
            Err(failure) => Err(failure.into()),
        };
        match found {
            Ok(found) => {
                let (batch, next) = (found.batch, found.next);
                reply(Ok(DownloadHead::new(batch, next, None, request.country)));
                true
            }
            Err(error) => answer_error(reply, error),
        }
    }

    /// Before something cold is read: that the database has what we know.
    fn confirm(&self, store: &mut Store) -> Result<(), Failure> {
        match self.continuity.still_matches(store) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::DatabaseWentBack),
            Err(error) => Err(Failure::Database(error.doing("confirming the database"))),
        }
    }

    fn read_and_hand_out(&self, waiter: Waiter, store: &mut Store) -> bool {
        let (batch, format) = (Arc::clone(&waiter.found.batch), waiter.request.format);
        if !self.begin_or_join(waiter) {
            return true;
        }
        let confirmed = self.confirm(store).map_err(DownloadError::from);
        let bundle = confirmed.and_then(|()| timed("serve", || self.read(&batch, format, store)));
        if bundle.is_err() && self.is_gone(&batch, store).unwrap_or(false) {
            self.retry_waiters_of(&batch, format);
            return true;
        }
        let intact = !matches!(bundle, Err(DownloadError::Failure(Failure::Database(_))));
        // `read` has cached the bundle before its key leaves `reading` here: a request in between joins this
        // read, and a later one finds the bundle in the cache, if it fits there.
        self.hand_out(&batch, format, bundle);
        intact
    }

    fn refresh_and_answer(
        &self,
        request: DownloadRequest,
        reply: DownloadReply,
        store: &mut Store,
    ) -> bool {
        let tag = request.tag.as_deref();
        match self.find_after_refresh(store, |catalog| catalog.find(request.date, tag)) {
            Ok(found) => {
                self.answer(found, &request, reply);
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
        if self.continuity.has_gone_back() {
            return Err(Failure::DatabaseWentBack.into());
        }
        Ok(find(&self.catalog)?)
    }

    /// Reads a bundle back: from its sealed uploads, or from the warm bundle of the other format.
    pub(super) fn read(
        &self,
        batch: &DownloadBatch,
        format: Format,
        store: &mut Store,
    ) -> Result<Arc<Bundle>, DownloadError> {
        if let Some(warm) = self.find_bundle(batch.ordinal, format) {
            return Ok(warm);
        }
        if !self.cache.has_room() {
            return Err(Overload::at(OverloadBound::Answers).into());
        }
        let bundle = match format {
            Format::Protobuf => self.read_segments(batch, store)?,
            Format::Json => {
                let protobuf = self.read(batch, Format::Protobuf, store)?;
                if protobuf.is_too_large_for_json() {
                    return Ok(protobuf);
                }
                protobuf.to_json()
            }
        };
        Ok(self.cache.insert(batch.ordinal, format, bundle))
    }

    fn read_segments(&self, batch: &DownloadBatch, store: &mut Store) -> Result<Bundle, Failure> {
        metrics::counter!("efgs_cold_bundles_total").increment(1);
        let doing = "reading a bundle";
        let failed = |error: SqlError| Failure::Database(error.doing(doing));
        let before = Seq(*batch.seqs.start());
        let before = store.link_before(before, self.continuity.chain());
        let mut walk = self.continuity.log_walk(before.map_err(failed)?);
        let rows = store.read_sealed(&batch.seqs).map_err(failed)?;
        let mut segments = Vec::with_capacity(batch.uploads.len());
        for row in rows {
            if let Err(mismatch) = walk.step_over(row.seq, row.link.as_ref()) {
                self.damage.found(row.seq, &row.place(), &mismatch);
                return Err(UnsealError::Broken.into());
            }
            if let Some(upload) = batch.uploads.get(segments.len())
                && upload.seq == row.seq
            {
                // A withdrawn one may be damaged, and is not served.
                segments.push(match upload.is_withdrawn {
                    true => {
                        self.damage.repaired(row.seq);
                        Bytes::new()
                    }
                    false => self.open(upload, row)?,
                });
            }
        }
        let row = batch.row();
        let found = BatchUploads {
            key_count: Some(
                batch
                    .uploads
                    .iter()
                    .map(|one| u64::from(one.key_count))
                    .sum(),
            ),
            last: walk.last(),
        };
        let mut walk = self.continuity.batch_walk(None);
        if segments.len() != batch.uploads.len() {
            let gone = batch.uploads.len() - segments.len();
            let source = format!("{gone} of its uploads are gone").into();
            return Err(Failure::Database(DatabaseError { doing, source }));
        }
        if let Err(broken) = walk.step(&row.columns, row.digest.as_ref(), Some(&found)) {
            self.damage
                .found(Seq(*batch.seqs.end()), &row, &broken.mismatch);
            return Err(UnsealError::Broken.into());
        }
        Ok(Bundle {
            format: Format::Protobuf,
            segments: segments.into(),
        })
    }

    /// A batch is gone, and has left the catalog: answers its waiters as if it had been gone when they
    /// asked.
    fn retry_waiters_of(&self, gone: &DownloadBatch, format: Format) {
        for waiter in self.take_waiters((gone.ordinal, format)) {
            let (request, reply) = (waiter.request, waiter.reply);
            match self.catalog.find(request.date, request.tag.as_deref()) {
                Ok(found) => self.answer_with_keys(found, &request, reply),
                Err(refusal) => reply(Err(refusal.into())),
            }
        }
    }

    /// Opens the keys of an upload, which have to be as many as known, from the country that is
    /// known.
    fn open(&self, upload: &BundledUpload, mut row: SealedUpload) -> Result<Bytes, Failure> {
        let sealed = std::mem::take(&mut row.sealed);
        let context = row.sealed_row().seal_context();
        let opened = self.keys.unseal(sealed, &context);
        let opened = opened.and_then(|segment| {
            let is_known = (row.country, row.key_count) == (upload.country, upload.key_count);
            // A seal from before the chain is not bound to the number.
            match is_known && (row.link.is_some() || holds_keys(&segment, row.key_count)) {
                true => Ok(segment),
                false => Err(UnsealError::Broken),
            }
        });
        match opened {
            Ok(segment) => {
                self.damage.repaired(row.seq);
                Ok(Bytes::from(segment))
            }
            Err(error) => {
                let cause = format!("cannot be served: {error}");
                self.damage.found(row.seq, &row.place(), &cause);
                Err(error.into())
            }
        }
    }

    /// Makes a batch's audit, unless another job has.
    fn read_audit(&self, batch: &DownloadBatch, request: AuditRequest, store: &mut Store) -> bool {
        if let Some(entries) = self.find_audit(batch, &request.trust) {
            self.answer_audit(entries, request);
            return true;
        }
        if !self.audits.has_room() {
            (request.reply)(Err(Overload::at(OverloadBound::Answers).into()));
            return true;
        }
        // Numbered before it is made: what is withdrawn meanwhile makes it old, not wrong.
        let version = self.audit_version(&request.trust);
        let known = self
            .catalog
            .find_exact(batch.tag.day, &batch.tag.to_string());
        let batch = known.as_deref().unwrap_or(batch);
        // What cannot be downloaded any more is not audited, either.
        let entries = match self.is_gone(batch, store) {
            Ok(true) => {
                (request.reply)(Err(DownloadRefusal::UnknownBatchTag.into()));
                return true;
            }
            Ok(false) => read_audit(batch, store),
            Err(error) => Err(error),
        };
        match entries {
            Ok(None) => {
                (request.reply)(Err(DownloadRefusal::NoEntries.into()));
                true
            }
            Ok(Some(entries)) => {
                let entries = AuditEntries::new(&entries, &request.trust);
                let entries = self.audits.insert(batch.ordinal, version, entries);
                self.answer_audit(entries, request);
                true
            }
            Err(error) => answer_error(request.reply, failure(error, "reading an audit")),
        }
    }

    pub(super) fn hand_out(
        &self,
        batch: &DownloadBatch,
        format: Format,
        bundle: Result<Arc<Bundle>, DownloadError>,
    ) {
        // What is broken was named when it was found.
        if let Err(DownloadError::Failure(error)) = &bundle
            && !matches!(error, Failure::Unseal(_))
        {
            tracing::error!(stage = "serve", batchTag = %batch.tag, error = %chain(error), "cannot read a bundle");
        }
        for waiter in self.take_waiters((batch.ordinal, format)) {
            (waiter.reply)(match &bundle {
                Ok(bundle) => {
                    let reader = waiter.request.country;
                    self.counted_answer(waiter.found, Arc::clone(bundle), reader, format)
                }
                Err(DownloadError::Refused(refusal)) => Err((*refusal).into()),
                Err(DownloadError::Overload(overload)) => Err((*overload).into()),
                Err(DownloadError::Failure(Failure::Unseal(error))) => {
                    Err(Failure::Unseal(*error).into())
                }
                Err(DownloadError::Failure(Failure::DatabaseWentBack)) => {
                    Err(Failure::DatabaseWentBack.into())
                }
                Err(DownloadError::Failure(error)) => {
                    let (doing, source) = ("reading a bundle", chain(error).into());
                    Err(Failure::Database(DatabaseError { doing, source }).into())
                }
            });
        }
    }
}

/// Whether a segment has as many keys as its row says.
fn holds_keys(segment: &[u8], key_count: u32) -> bool {
    decode(segment, key_count).is_ok_and(|keys| keys.key_count() == key_count)
}

fn refuse_unconnected(jobs: Vec<Job>) {
    for job in jobs {
        let source = "not connected".into();
        let doing = "connecting for a download";
        let failure = Failure::Database(DatabaseError { doing, source });
        job.refuse(failure.into());
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

/// The uploads of a batch without those that are withdrawn, whatever the database says of them by
/// now; nothing if it has none.
fn read_audit(
    batch: &DownloadBatch,
    store: &mut Store,
) -> Result<Option<Vec<AuditEntry>>, SqlError> {
    let mut entries = store.read_audit(&batch.seqs)?;
    // A list without entries, where all are withdrawn: IT and FI stop at a refusal.
    let is_known = !entries.is_empty();
    entries.retain(|entry| !batch.has_withdrawn(entry.seq));
    Ok(is_known.then_some(entries))
}
