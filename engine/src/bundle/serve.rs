//! Serve: answers warm downloads from memory; reads cold bundles back once for all waiters.

mod reader;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::audit::{Audit, AuditEntries, ListNumbers};
use super::cache::BytesCache;
use super::catalog::{Catalog, Found};
use super::damage::Damage;
use super::download::{Download, DownloadHead, DownloadRequest};
use super::download_batch::{Bundle, DownloadBatch};
use super::fresh::FreshSegments;
use super::jobs::{AuditRequest, BundleKey, DownloadReply, HeadReply, Job, KeysReply, Waiter};
use super::refusal::{DownloadError, DownloadRefusal};
use crate::clock::Clock;
use crate::continuity::Continuity;
use crate::database::{Database, SqlError};
use crate::domain::{BatchTag, Country, Day, Format, UnixMillis};
use crate::failure::{Failure, StartError};
use crate::fair_channel::{FairChannel, Places, Sent};
use crate::limits;
use crate::locks::LockIgnoringPoison;
use crate::log_chain::{BatchUploads, WithdrawalMark};
use crate::overload::{Overload, OverloadBound};
use crate::seal::Keys;
use crate::statistics::DownloadCounts;
use crate::store::{DownloadBatchRow, DownloadPlace, Store, UploadMeta, WithdrawalError};
use crate::trust::Trust;

/// What an audit depends on beside its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct AuditVersion {
    /// The number of the certificate list.
    certificate_list: u64,
    newest_withdrawal: u64,
}

/// Bytes of answers under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerLoad {
    pub(crate) bundle_bytes: usize,
    pub(crate) audit_bytes: usize,
}

/// Shared state of all downloads.
#[derive(Debug)]
pub(crate) struct Serve {
    catalog: Catalog,
    /// The newest withdrawal that the catalog knows.
    withdrawn_to: Mutex<WithdrawalMark>,
    cache: BytesCache<Format, Bundle>,
    audits: BytesCache<AuditVersion, AuditEntries>,
    lists: ListNumbers,
    fresh: Arc<FreshSegments>,
    reading: Mutex<Reading>,
    jobs: FairChannel<Job>,
    keys: Keys,
    clock: Arc<dyn Clock>,
    continuity: Arc<Continuity>,
    max_age_days: u32,
    counts: Arc<DownloadCounts>,
    damage: Damage,
}

/// The bundles that reader threads are reading, with the waiters that joined each read: concurrent
/// requests for a bundle share one read (single flight).
type Reading = HashMap<BundleKey, Vec<Waiter>>;

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
        let audit_bytes_max = limits::audit_cache_bytes_max(cache_bytes_max);
        Self {
            catalog: Catalog::default(),
            withdrawn_to: Mutex::default(),
            cache: BytesCache::new(cache_bytes_max - audit_bytes_max),
            audits: BytesCache::new(audit_bytes_max),
            lists: ListNumbers::default(),
            fresh,
            reading: Mutex::default(),
            jobs: FairChannel::new(Places {
                all_max: limits::COLD_READS_MAX,
                participant_max: limits::PARTICIPANT_COLD_READS_MAX,
            }),
            keys,
            clock,
            continuity,
            max_age_days,
            counts,
            damage: Damage::default(),
        }
    }

    /// Starts the reader threads.
    pub(crate) fn start_readers(
        self: &Arc<Self>,
        database: &Database,
    ) -> Result<Vec<JoinHandle<()>>, StartError> {
        let start = |index| {
            let (serve, database) = (Arc::clone(self), database.clone());
            let builder = std::thread::Builder::new().name(format!("reader-{index}"));
            builder
                .spawn(move || serve.work(&database))
                .map_err(StartError::Threads)
        };
        (0..limits::READER_THREADS).map(start).collect()
    }

    /// Lets the reader threads end once the queue is empty.
    pub(crate) fn stop_readers(&self) {
        self.jobs.close();
    }

    /// Cold reads that wait, of the participant that has most.
    pub(crate) fn waiting_most(&self) -> usize {
        self.jobs.longest(|_| true)
    }

    /// Bytes of bundles, and of audits, that one participant may have under way.
    pub(crate) fn answer_shares(&self) -> AnswerLoad {
        AnswerLoad {
            bundle_bytes: self.cache.answers().share(),
            audit_bytes: self.audits.answers().share(),
        }
    }

    /// The most that one participant has of either.
    pub(crate) fn answers_most(&self) -> AnswerLoad {
        AnswerLoad {
            bundle_bytes: self.cache.answers().most(),
            audit_bytes: self.audits.answers().most(),
        }
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What of the log cannot be served.
    pub(crate) fn damage(&self) -> &Damage {
        &self.damage
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
                self.cache.insert(batch.ordinal, bundle.format, bundle);
            }
        }
        self.catalog.append(batches);
        if !batches.is_empty() {
            self.newest_cut_at(Some(self.clock.now()));
        }
        Ok(())
    }

    /// Notes when the newest download batch was cut, for the metric.
    #[allow(
        clippy::cast_precision_loss,
        reason = "milliseconds are far below 2^53"
    )]
    pub(crate) fn newest_cut_at(&self, at: Option<UnixMillis>) {
        let seconds = at.map_or(0.0, |at| at.0 as f64 / 1000.0);
        metrics::gauge!("efgs_newest_download_batch_timestamp_seconds").set(seconds);
    }

    /// Reads the download batches after the newest known one, if the database still has that.
    pub(crate) fn refresh(&self, store: &mut Store, today: Day) -> Result<(), SqlError> {
        if !self.continuity.still_has_batches(store)? {
            return Ok(());
        }
        let newest = self.catalog.newest().map(|batch| batch.row());
        match self.read_batches(newest.as_ref(), store, today)? {
            Some(batches) => self.adopt(&batches),
            None => Ok(()),
        }
    }

    /// Leaves out the keys of uploads that operators have withdrawn since the last time; a fault if
    /// the withdrawals are not as they were written. For one thread at a time.
    pub(crate) fn take_withdrawals(&self, store: &mut Store) -> Result<(), WithdrawalError> {
        let known = *self.withdrawn_to();
        let (key, accepted) = (self.continuity.chain(), self.continuity.accepted());
        let (newer, to) = store.read_withdrawals(key, accepted, known)?;
        for row in &newer {
            let (seq, country, tag) = (row.seq.0, row.country, row.tag.as_str());
            tracing::info!(stage = "serve", seq, %country, batchTag = tag, "upload withdrawn");
        }
        self.catalog.withdraw(newer.iter().map(|row| row.seq));
        // Where this fails, whatever is answered from now on tries again before it is.
        let _ = self.continuity.remember_withdrawal(to.number);
        *self.withdrawn_to() = to;
        Ok(())
    }

    /// The same while the gateway runs: a fault stops it.
    pub(crate) fn follow_withdrawals(&self, store: &mut Store) -> Result<(), SqlError> {
        match self.take_withdrawals(store) {
            Err(WithdrawalError::Fault(fault)) => {
                self.continuity
                    .report_changed_row(&fault.place, &fault.mismatch);
                Ok(())
            }
            Err(WithdrawalError::Database(error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    fn withdrawn_to(&self) -> MutexGuard<'_, WithdrawalMark> {
        self.withdrawn_to.lock_ignoring_poison()
    }

    /// Reads all download batches that can be requested, including those that were dropped as too
    /// old.
    pub(crate) fn read_again(&self, store: &mut Store, today: Day) -> Result<(), SqlError> {
        if !self.continuity.still_matches(store)? {
            return Ok(());
        }
        if let Some(batches) = self.read_batches(None, store, today)? {
            self.catalog.replace(&batches);
        }
        Ok(())
    }

    /// The download batches behind one that are young enough to be requested; nothing if one of
    /// them is not what a gateway has cut.
    fn read_batches(
        &self,
        behind: Option<&DownloadBatchRow>,
        store: &mut Store,
        today: Day,
    ) -> Result<Option<Vec<Arc<DownloadBatch>>>, SqlError> {
        let after_ordinal = behind.map_or(0, |batch| batch.columns.ordinal);
        let rows = store.read_download_batches(after_ordinal, self.oldest_day(today))?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(Some(Vec::new()));
        };
        let seqs = *first.columns.seqs.start()..=*last.columns.seqs.end();
        store.make_reads_durable()?;
        let uploads = store.read_upload_range(&seqs)?;
        // What was deleted until now may have been there above, but not the other way round.
        let forgotten_to = store.forgotten(self.continuity.chain())?.to.0;
        let mut walk = self.continuity.batch_walk(behind);
        if behind.is_none() && first.digest.is_some() {
            let is_first = store.first_ordinal()? == first.columns.ordinal;
            walk = walk.beginning_at(is_first.then_some(forgotten_to + 1));
        }
        let mut uploads = uploads.into_iter().peekable();
        let mut batches = Vec::with_capacity(rows.len());
        for row in rows {
            let (start, end) = (*row.columns.seqs.start(), *row.columns.seqs.end());
            let members = std::iter::from_fn(|| uploads.next_if(|upload| upload.seq.0 <= end));
            let members: Vec<_> = members.filter(|upload| upload.seq.0 >= start).collect();
            let found = found_uploads(&row, &members, forgotten_to);
            if let Err(broken) = walk.step(&row.columns, row.digest.as_ref(), found.as_ref()) {
                self.continuity.report_changed_row(&row, &broken.mismatch);
                return Ok(None);
            }
            batches.push(Arc::new(DownloadBatch::new(row, members)));
        }
        Ok(Some(batches))
    }

    /// Drops download batches that are too old to be requested.
    pub(crate) fn expire(&self, today: Day) {
        if let Some(last_ordinal) = self.catalog.expire(self.oldest_day(today)) {
            self.cache.expire(last_ordinal);
            self.audits.expire(last_ordinal);
        }
    }

    /// Drops download batches whose key data retention has deleted up to a position of the log,
    /// whatever their age: this gateway, or another with other settings.
    pub(crate) fn forget_gone(&self, emptied_to: u64) {
        if let Some(last_ordinal) = self.catalog.drop_through(emptied_to) {
            self.cache.expire(last_ordinal);
            self.audits.expire(last_ordinal);
        }
    }

    /// Whether a download batch is gone; then others that are gone are dropped with it.
    fn is_gone(&self, batch: &DownloadBatch, store: &mut Store) -> Result<bool, SqlError> {
        let emptied_to = store.emptied_to()?.0;
        self.forget_gone(emptied_to);
        Ok(*batch.seqs.start() <= emptied_to)
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
        if self.continuity.has_gone_back() {
            return reply.refuse(Failure::DatabaseWentBack.into());
        }
        if let Err(refusal) = self.check_age(request.date) {
            return reply.refuse(refusal.into());
        }
        match self.catalog.find(request.date, request.tag.as_deref()) {
            Ok(found) => self.answer(found, &request, reply),
            Err(refusal) if is_final(refusal, request.tag.as_deref()) => {
                reply.refuse(refusal.into());
            }
            // Another gateway may have announced a batch that is not known here yet.
            Err(_) => self.submit(Job::Refresh(request, reply)),
        }
    }

    /// Answers an audit, immediately if it is warm.
    pub(crate) fn audit(&self, date: Day, tag: &str, request: AuditRequest) {
        if self.continuity.has_gone_back() {
            return (request.reply)(Err(Failure::DatabaseWentBack.into()));
        }
        if let Err(refusal) = self.check_age(date) {
            return (request.reply)(Err(refusal.into()));
        }
        match self.catalog.find_exact(date, tag) {
            Ok(batch) => match self.find_audit(&batch, &request.trust) {
                Some(entries) => self.answer_audit(entries, request),
                None => self.submit(Job::Audit { batch, request }),
            },
            Err(refusal) if is_final(refusal, Some(tag)) => (request.reply)(Err(refusal.into())),
            Err(_) => self.submit(Job::RefreshAudit {
                date,
                tag: tag.into(),
                request,
            }),
        }
    }

    fn find_audit(&self, batch: &DownloadBatch, trust: &Arc<Trust>) -> Option<Arc<AuditEntries>> {
        self.audits.find(batch.ordinal, self.audit_version(trust))
    }

    fn audit_version(&self, trust: &Arc<Trust>) -> AuditVersion {
        AuditVersion {
            certificate_list: self.lists.number(trust),
            newest_withdrawal: self.withdrawn_to().number,
        }
    }

    /// Returns an audit, if the reader's share of bytes allows it.
    fn answer_audit(&self, entries: Arc<AuditEntries>, request: AuditRequest) {
        let permit = self.audits.admit(request.country, &entries);
        let audit = permit.map(|permit| Audit::new(entries, request.country, permit));
        (request.reply)(audit.map_err(Into::into));
    }

    /// Returns as much as is wanted of a batch that exists.
    fn answer(&self, found: Found, request: &DownloadRequest, reply: DownloadReply) {
        match reply {
            DownloadReply::Keys(reply) => self.answer_with_keys(found, request, reply),
            DownloadReply::Head(reply) => self.answer_head(found, request, reply),
        }
    }

    /// Returns the head of a batch: warm at once; cold when it is known that the batch is still
    /// there, which another gateway may have deleted.
    fn answer_head(&self, found: Found, request: &DownloadRequest, reply: HeadReply) {
        match self.cache.find(found.batch.ordinal, request.format) {
            Some(bundle) => reply(Ok(DownloadHead::new(
                found.batch,
                found.next,
                Some(bundle),
                request.country,
            ))),
            None => self.submit(Job::Head(found, request.clone(), reply)),
        }
    }

    /// Returns the keys of a batch: warm at once, cold when they have been read.
    fn answer_with_keys(&self, found: Found, request: &DownloadRequest, reply: KeysReply) {
        let (reader, format) = (request.country, request.format);
        if let Some(bundle) = self.find_bundle(found.batch.ordinal, format) {
            return reply(self.counted_answer(found, bundle, reader, format));
        }
        self.submit(Job::Read(Waiter {
            found,
            request: request.clone(),
            reply,
        }));
    }

    /// The bundle that a format is sent from, if it is cached.
    fn find_bundle(&self, ordinal: u64, format: Format) -> Option<Arc<Bundle>> {
        let same = self.cache.find(ordinal, format);
        if same.is_some() || format == Format::Protobuf {
            return same;
        }
        let protobuf = self.cache.find(ordinal, Format::Protobuf);
        protobuf.filter(|bundle| bundle.is_too_large_for_json())
    }

    /// An answer, counted, if the reader's share of bytes allows it.
    fn counted_answer(
        &self,
        found: Found,
        bundle: Arc<Bundle>,
        reader: Country,
        format: Format,
    ) -> Result<Download, DownloadError> {
        let permit = self.cache.admit(reader, &bundle)?;
        let download = Download::new(found.batch, found.next, bundle, reader);
        let download = download.in_format(format).with_permit(permit);
        let place = DownloadPlace {
            country: download.reader,
            day: self.clock.now().day(),
            batch: download.batch.tag,
        };
        self.counts.count(place, download.key_count());
        Ok(download)
    }

    /// Submits a job to the reader threads, or refuses it at once, or another in its favour.
    fn submit(&self, job: Job) {
        match self.jobs.send(job.country(), job) {
            Sent::Queued => {}
            Sent::Refused(job) => job.refuse(Overload::at(OverloadBound::ColdReads).into()),
            Sent::Closed(job) => job.refuse(Failure::ShuttingDown.into()),
        }
    }
}

/// What the log says of the uploads of a download batch; nothing if retention has deleted the last
/// of them.
fn found_uploads(
    row: &DownloadBatchRow,
    members: &[UploadMeta],
    forgotten_to: u64,
) -> Option<BatchUploads> {
    let seqs = &row.columns.seqs;
    let key_counts = members.iter().map(|upload| u64::from(upload.key_count));
    (*seqs.end() > forgotten_to).then(|| BatchUploads {
        key_count: (*seqs.start() > forgotten_to).then(|| key_counts.sum()),
        last: members
            .last()
            .and_then(|upload| upload.link)
            .map(|link| link.digest),
    })
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

#[cfg(test)]
mod tests;
