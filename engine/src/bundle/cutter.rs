//! The bundler thread: cuts download batches while it holds the lease, and follows those that
//! another gateway cuts.

mod plan;

use super::download_batch::DownloadBatch;
use super::pacing::CutBudget;
use super::serve::Serve;
use crate::calendar::Calendar;
use crate::clock::Clock;
use crate::continuity::Continuity;
use crate::database::{Database, SqlError};
use crate::domain::{Day, Seq, UnixMillis};
use crate::limits;
use crate::log_chain::LogWalk;
use crate::persist::{Backoff, WriterState};
use crate::settings::BundleSettings;
use crate::stage::timed;
use crate::store::{
    Cut, CutOutcome, DownloadBatchRow, Lease, LeaseToken, Store, UncutUpload, UploadMeta,
};
use crossbeam::channel::{Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use plan::{Waiting, new_batch, next_tag};

/// The bundler thread's own.
#[derive(Debug)]
pub(crate) struct Bundler {
    pub(crate) database: Database,
    pub(crate) writer: Arc<WriterState>,
    pub(crate) continuity: Arc<Continuity>,
    pub(crate) serve: Arc<Serve>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) calendar: Arc<Calendar>,
    pub(crate) settings: BundleSettings,
    /// Name of this gateway in the lease: random, so that no two are alike.
    pub(crate) holder: String,
    pub(crate) status: Arc<BundlerStatus>,
    pub(crate) state: BundlerState,
}

/// What the thread shows of itself.
#[derive(Debug, Default)]
pub(crate) struct BundlerStatus {
    cuts: AtomicBool,
    budget: AtomicU32,
}

impl BundlerStatus {
    /// Whether this gateway cuts download batches now.
    pub(crate) fn cuts(&self) -> bool {
        self.cuts.load(Ordering::Acquire)
    }

    /// How many more may be cut for age at once; only the gateway that cuts knows.
    pub(crate) fn budget(&self) -> Option<u32> {
        self.cuts().then(|| self.budget.load(Ordering::Acquire))
    }
}

/// The thread's mutable state.
#[derive(Debug, Default)]
pub(crate) struct BundlerState {
    store: Option<Store>,
    lease: Option<HeldLease>,
    /// The newest download batch, of whatever day, as of taking the lease.
    newest: Option<DownloadBatchRow>,
    waiting: Waiting,
    /// Along the log, after what was read of it.
    walk: Option<LogWalk>,
    /// What may be cut for age, as of taking the lease.
    budget: CutBudget,
    next_renewal: Option<Instant>,
    next_refresh: Option<Instant>,
    next_look_at_day: Option<Instant>,
    next_withdrawals: Option<Instant>,
    /// The day of the last tick.
    today: Option<Day>,
    last_cut: Option<Instant>,
    backoff: Backoff,
}

#[derive(Debug, Clone)]
struct HeldLease {
    token: LeaseToken,
    /// By our own monotonic clock, earlier than by the database's.
    expires: Instant,
}

/// Download batches that are to be cut.
#[derive(Debug)]
struct PlannedCut {
    rows: Vec<DownloadBatchRow>,
    batches: Vec<Arc<DownloadBatch>>,
    /// The last of them.
    newest: Option<DownloadBatchRow>,
    last_upload: Option<UploadMeta>,
    /// What is left of the budget after them.
    budget: CutBudget,
}

impl Bundler {
    /// Runs until the writer is gone and its end of `wake` with it.
    pub(crate) fn run(mut self, wake: &Receiver<()>) {
        loop {
            match wake.recv_timeout(self.pause()) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.leave(),
            }
            self.state.backoff.wait();
            if let Err(error) = self.tick() {
                let message = "cannot follow or cut download batches";
                self.database.log_error("bundle", &error, message);
                self.state.store = None;
                self.lose_lease();
                // A lost race can be retried at once; any other error would recur.
                if !matches!(error, SqlError::Conflict(_)) {
                    self.state.backoff.failed();
                }
            } else {
                self.state.backoff.succeeded();
            }
        }
    }

    /// Time until something is due.
    fn pause(&self) -> Duration {
        let now = Instant::now();
        let due = self
            .state
            .waiting
            .due(&self.settings, self.state.budget, self.clock.now(), now);
        let due = due.map(|at| at.saturating_duration_since(now).max(limits::CUT_INTERVAL));
        due.unwrap_or(limits::CATALOG_INTERVAL)
            .min(limits::CATALOG_INTERVAL)
    }

    fn tick(&mut self) -> Result<(), SqlError> {
        if !self.continuity.is_same_file() || self.continuity.has_gone_back() {
            self.state.store = None;
            self.lose_lease();
            return Ok(());
        }
        if self.state.store.as_ref().is_none_or(Store::is_outdated) {
            self.state.store = Some(Store::open(&self.database)?);
        }
        self.follow_day()?;
        if due(
            &mut self.state.next_withdrawals,
            limits::WITHDRAWAL_INTERVAL,
        ) {
            self.serve.follow_withdrawals(self.state.store())?;
        }
        self.hold_lease()?;
        if self.state.lease.is_none() && due(&mut self.state.next_refresh, limits::CATALOG_INTERVAL)
        {
            self.refresh()?;
        }
        if self.state.lease.is_some() && !self.continuity.has_gone_back() {
            self.read_waiting()?;
            self.cut_if_due()?;
        }
        Ok(())
    }

    /// If the day goes back, batches that were dropped as too old may be requested again.
    fn follow_day(&mut self) -> Result<(), SqlError> {
        let is_new = self.calendar.observe();
        if due(&mut self.state.next_look_at_day, limits::LEASE_RENEWAL) || is_new {
            self.calendar.follow(self.state.store())?;
        }
        let today = self.calendar.agreed_now().day();
        if self.state.today.is_some_and(|known| today < known) {
            self.serve.read_again(self.state.store(), today)?;
        }
        self.state.today = Some(today);
        self.serve.expire(today);
        Ok(())
    }

    /// Renews the lease when that is due, or tries to take it.
    fn hold_lease(&mut self) -> Result<(), SqlError> {
        if !due(&mut self.state.next_renewal, limits::LEASE_RENEWAL) {
            let lease = self.state.lease.as_ref();
            if lease.is_some_and(|lease| lease.expires <= Instant::now()) {
                self.lose_lease();
            }
            return Ok(());
        }
        // A gateway that cannot remember which numbers it gave out must not keep others from cutting.
        if !self.continuity.can_remember() || !self.calendar.may_cut() {
            return self.release_lease();
        }
        let asked = Instant::now();
        let ttl_ms = u64::try_from(limits::LEASE_TTL.as_millis()).expect("seconds");
        let store = self.state.store();
        let held = store.hold_lease(Lease::Bundle, &self.holder, ttl_ms)?;
        let Some(token) = held else {
            self.lose_lease();
            return Ok(());
        };
        let before = self.state.lease.as_ref();
        let is_new = before.is_none_or(|lease| lease.token != token);
        let number = token.number;
        self.state.lease = Some(HeldLease {
            token,
            expires: asked + limits::LEASE_TTL,
        });
        if is_new { self.begin(number) } else { Ok(()) }
    }

    /// Reads everything that was cut before; waiting uploads follow it.
    fn begin(&mut self, token: u64) -> Result<(), SqlError> {
        self.refresh()?;
        let newest = self.state.store().newest_download_batch()?;
        let cut_to = newest
            .as_ref()
            .map_or(Seq::ZERO, |batch| Seq(*batch.columns.seqs.end()));
        self.state.newest = newest;
        self.state.budget = self.read_budget()?;
        let chain = self.continuity.chain();
        let last = self.state.store().link_before(cut_to.next(), chain)?;
        self.state.walk = Some(self.continuity.log_walk(last));
        self.state.waiting = Waiting {
            read_to: cut_to,
            ..Waiting::default()
        };
        self.status.cuts.store(true, Ordering::Release);
        tracing::info!(stage = "bundle", token, "Batch Process started");
        Ok(())
    }

    /// The budget as the last cut left it. A value that no gateway wrote does not stop cutting: it
    /// counts as empty until the next cut overwrites it.
    fn read_budget(&mut self) -> Result<CutBudget, SqlError> {
        match self.state.store().cut_budget() {
            Ok(full_at_ms) => Ok(full_at_ms.map_or(CutBudget::FULL, CutBudget::from_millis)),
            Err(error @ SqlError::Refused(_)) => {
                tracing::warn!(stage = "bundle", error = %error, "cannot read the budget of download batches");
                Ok(CutBudget::EMPTY)
            }
            Err(error) => Err(error),
        }
    }

    /// Releases the lease, so that another gateway can take it at once.
    fn release_lease(&mut self) -> Result<(), SqlError> {
        if self.state.lease.is_some() {
            let store = self.state.store();
            store.release_lease(Lease::Bundle, &self.holder)?;
        }
        self.lose_lease();
        Ok(())
    }

    fn lose_lease(&mut self) {
        self.state.lease = None;
        self.status.cuts.store(false, Ordering::Release);
    }

    /// Reads the download batches that another gateway has cut.
    fn refresh(&mut self) -> Result<(), SqlError> {
        let today = self.calendar.agreed_now().day();
        self.serve.refresh(self.state.store(), today)
    }

    fn read_waiting(&mut self) -> Result<(), SqlError> {
        while self.state.waiting.read_to < self.writer.position() {
            let after = self.state.waiting.read_to;
            let uploads = self.state.store().read_uncut(after, limits::CUT_ROWS)?;
            let Some(last) = uploads.last() else {
                return Ok(());
            };
            // Rows that the writer has not followed yet have no segment here: they are read next
            // time.
            let known_to = self.writer.position();
            self.state.waiting.read_to = last.meta.seq.min(known_to);
            let uploads: Vec<_> = uploads
                .into_iter()
                .filter(|upload| upload.meta.seq <= known_to)
                .collect();
            if !self.check_chain(&uploads) {
                self.lose_lease();
                return Ok(());
            }
            let seen = Instant::now();
            self.state
                .waiting
                .uploads
                .extend(uploads.into_iter().map(|upload| (upload, seen)));
        }
        Ok(())
    }

    /// Whether uploads that are to be cut follow each other in the chain; reports the first that does not.
    fn check_chain(&mut self, uploads: &[UncutUpload]) -> bool {
        let Some(walk) = &mut self.state.walk else {
            return true;
        };
        for UncutUpload { meta: upload, .. } in uploads {
            if let Err(mismatch) = walk.step_over(upload.seq, upload.link.as_ref()) {
                self.continuity
                    .report_changed_row(&upload.place(), &mismatch);
                return false;
            }
        }
        true
    }

    fn cut_if_due(&mut self) -> Result<(), SqlError> {
        let now = Instant::now();
        if self
            .state
            .last_cut
            .is_some_and(|last| now < last + limits::CUT_INTERVAL)
        {
            return Ok(());
        }
        let wall = self.clock.now();
        let mut counts = self
            .state
            .waiting
            .cuts_due(&self.settings, self.state.budget, wall, now);
        counts.truncate(limits::CUTS_MAX);
        if counts.is_empty() {
            return Ok(());
        }
        // While it is unknown which day it is, uploads wait.
        let Some(day) = self.calendar.naming_day() else {
            return Ok(());
        };
        self.state.last_cut = Some(now);
        timed("bundle", || self.cut(&counts, day, wall))
    }

    /// Cuts the first waiting uploads into batches of `counts` uploads each.
    fn cut(&mut self, counts: &[usize], day: Day, wall: UnixMillis) -> Result<(), SqlError> {
        let Some(token) = self.state.lease.as_ref().map(|lease| lease.token.clone()) else {
            return Ok(());
        };
        let planned = self.plan_cut(counts, day, wall);
        let (Some(newest), Some(last_upload)) = (&planned.newest, planned.last_upload) else {
            return Ok(());
        };
        let before = self.state.newest.clone();
        // Before it is sent: whatever becomes of it, the number may have been given out.
        self.continuity
            .remember_cutting(newest.columns.tag)
            .map_err(|error| SqlError::Refused(error.into()))?;
        let outcome = self.state.store().cut(&Cut {
            token: &token,
            epoch: self.continuity.epoch().number,
            newest: before.as_ref(),
            last_upload: &last_upload,
            newest_row: self.continuity.newest_row(),
            batches: &planned.rows,
            budget: planned.budget.as_millis(),
            now: wall,
        })?;
        match outcome {
            CutOutcome::Done => self.publish(planned, counts, wall)?,
            CutOutcome::LeaseLost => {
                let token = token.number;
                tracing::warn!(stage = "bundle", token, "another gateway cuts now");
                self.lose_lease();
            }
            CutOutcome::NotAsKnown => {
                self.lose_lease();
                // If it has gone back, this says so; otherwise the waiting uploads are read again.
                self.continuity.still_has_batches(self.state.store())?;
            }
        }
        Ok(())
    }

    /// Groups the first uploads that wait into download batches, and numbers them.
    fn plan_cut(&self, counts: &[usize], day: Day, wall: UnixMillis) -> PlannedCut {
        let after_ordinal = self
            .state
            .newest
            .as_ref()
            .map_or(0, |batch| batch.columns.ordinal);
        let skipped_to = self.continuity.epoch().skipped_to;
        let mut planned = PlannedCut {
            rows: Vec::new(),
            batches: Vec::new(),
            newest: self.state.newest.clone(),
            last_upload: None,
            budget: self.state.budget,
        };
        let mut uploads = self.state.waiting.uploads.iter();
        for (ordinal, &count) in (after_ordinal + 1..).zip(counts) {
            let members = uploads.by_ref().take(count);
            let members: Vec<UploadMeta> = members.map(|(upload, _)| upload.meta).collect();
            planned.last_upload = members.last().copied();
            let before = planned.newest.as_ref().map(|batch| batch.columns.tag);
            let tag = next_tag(before.max(skipped_to), day);
            let row = new_batch(ordinal, tag, &members, self.continuity.chain());
            let batch = DownloadBatch::new(row.clone(), members);
            planned.batches.push(Arc::new(batch));
            planned.newest = Some(row.clone());
            planned.rows.push(row);
            planned.budget = self.draw(planned.budget, wall);
        }
        planned
    }

    /// Serves what was cut.
    fn publish(
        &mut self,
        cut: PlannedCut,
        counts: &[usize],
        wall: UnixMillis,
    ) -> Result<(), SqlError> {
        self.state.newest = cut.newest;
        self.state.budget = cut.budget;
        self.show_budget(wall);
        let count = counts.iter().sum::<usize>();
        let accepted: Vec<_> = self.state.waiting.uploads.drain(..count).collect();
        self.serve.adopt(&cut.batches)?;
        self.record_delays(accepted.iter().map(|(upload, _)| upload.meta.created_at));
        for row in &cut.rows {
            let (tag, keys) = (row.columns.tag, row.columns.key_count);
            tracing::info!(stage = "bundle", batchTag = %tag, diagnosisKeyCount = keys, "Batch created");
        }
        metrics::counter!("efgs_download_batches_total").increment(cut.rows.len() as u64);
        Ok(())
    }

    /// From when uploads were accepted, by the clock of the gateway that did, until they can be
    /// downloaded: now.
    #[allow(
        clippy::cast_precision_loss,
        reason = "milliseconds are far below 2^53"
    )]
    fn record_delays(&self, accepted: impl Iterator<Item = UnixMillis>) {
        let (now, delays) = (
            self.clock.now(),
            metrics::histogram!("efgs_delivery_delay_seconds"),
        );
        for at in accepted {
            delays.record(now.0.saturating_sub(at.0) as f64 / 1000.0);
        }
    }

    fn draw(&self, budget: CutBudget, wall: UnixMillis) -> CutBudget {
        match self.settings.pacing() {
            Some(pacing) => budget.draw(pacing, wall),
            None => budget,
        }
    }

    fn show_budget(&self, wall: UnixMillis) {
        if let Some(pacing) = self.settings.pacing() {
            let left = u32::try_from(self.state.budget.batches_left(pacing, wall));
            let left = left.unwrap_or(u32::MAX);
            metrics::gauge!("efgs_bundle_budget").set(left);
            self.status.budget.store(left, Ordering::Release);
        }
    }

    /// After a graceful shutdown another gateway takes over at once.
    fn leave(mut self) {
        if self.state.lease.is_some()
            && let Some(store) = self.state.store.as_mut()
            && let Err(error) = store.release_lease(Lease::Bundle, &self.holder)
        {
            tracing::warn!(stage = "bundle", error = %error, "cannot release the lease");
        }
        self.status.cuts.store(false, Ordering::Release);
    }
}

impl BundlerState {
    fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("a tick begins by connecting")
    }
}

/// Whether a periodic action is due; if so, restarts its interval.
fn due(next: &mut Option<Instant>, interval: Duration) -> bool {
    let now = Instant::now();
    if next.is_some_and(|at| now < at) {
        return false;
    }
    *next = Some(now + interval);
    true
}
