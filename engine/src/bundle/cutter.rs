//! The bundler thread: cuts download batches while it holds the lease, and follows those that
//! another gateway cuts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::download_batch::DownloadBatch;
use super::pacing::CutBudget;
use super::serve::Serve;
use crate::clock::Clock;
use crate::continuity::Continuity;
use crate::database::{Database, SqlError};
use crate::domain::{BatchTag, Day, Seq, UnixMillis};
use crate::limits;
use crate::persist::WriterState;
use crate::settings::BundleSettings;
use crate::stage::timed;
use crate::store::{
    Cut, CutOutcome, DownloadBatchRow, Lease, LeaseToken, NewDownloadBatch, Store, UploadMeta,
};

/// The bundler thread's own.
#[derive(Debug)]
pub(crate) struct Bundler {
    pub(crate) database: Database,
    pub(crate) writer: Arc<WriterState>,
    pub(crate) continuity: Arc<Continuity>,
    pub(crate) serve: Arc<Serve>,
    pub(crate) clock: Arc<dyn Clock>,
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
    /// What may be cut for age, as of taking the lease.
    budget: CutBudget,
    next_renewal: Option<Instant>,
    next_refresh: Option<Instant>,
    /// The day of the last tick.
    today: Option<Day>,
    last_cut: Option<Instant>,
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
    rows: Vec<NewDownloadBatch>,
    batches: Vec<Arc<DownloadBatch>>,
    /// The last of them.
    newest: Option<DownloadBatchRow>,
    last_upload: Option<UploadMeta>,
    /// What is left of the budget behind them.
    budget: CutBudget,
}

/// Uploads behind the newest download batch.
#[derive(Debug, Default)]
struct Waiting {
    uploads: VecDeque<(UploadMeta, Instant)>,
    /// The end of what was read, whether it waits or is cut.
    read_to: Seq,
}

impl Bundler {
    /// Runs until the writer is gone and its end of `wake` with it.
    pub(crate) fn run(mut self, wake: &Receiver<()>) {
        loop {
            match wake.recv_timeout(self.pause()) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.leave(),
            }
            if let Err(error) = self.tick() {
                tracing::warn!(stage = "bundle", error = %error, "cannot work on download batches");
                self.state.store = None;
                self.lose_lease();
                // A lost race can be retried at once; any other error would recur.
                if !matches!(error, SqlError::Conflict(_)) {
                    std::thread::sleep(limits::RECONNECT_INTERVAL);
                }
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
        if !self.continuity.is_same_file() || self.continuity.is_lost() {
            self.state.store = None;
            self.lose_lease();
            return Ok(());
        }
        if self.state.store.is_none() {
            self.state.store = Some(Store::open(&self.database)?);
        }
        self.follow_clock()?;
        self.hold_lease()?;
        if self.state.lease.is_none() && due(&mut self.state.next_refresh, limits::CATALOG_INTERVAL)
        {
            self.refresh()?;
        }
        if self.state.lease.is_some() && !self.continuity.is_lost() {
            self.read_waiting()?;
            self.cut_if_due()?;
        }
        Ok(())
    }

    /// The clock was set back: batches that were dropped as too old may be requested again.
    fn follow_clock(&mut self) -> Result<(), SqlError> {
        let today = self.clock.now().day();
        if self.state.today.is_some_and(|known| today < known) {
            self.serve.read_again(self.state.store(), today)?;
        }
        self.state.today = Some(today);
        self.serve.expire(today);
        Ok(())
    }

    /// Whether our clock can be trusted with the names of download batches.
    fn agrees_on_time(&mut self) -> Result<bool, SqlError> {
        let Some(skew_max) = self.settings.clock_skew_max else {
            return Ok(true);
        };
        let (ours, theirs) = (self.clock.now(), self.state.store().now()?);
        let skew_ms = ours.0.abs_diff(theirs.0);
        let agrees = u128::from(skew_ms) <= skew_max.as_millis();
        if !agrees {
            tracing::error!(
                stage = "bundle",
                skew_ms,
                "clock differs from the database's, no download batches are cut here: set it right"
            );
        }
        Ok(agrees)
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
        if !self.continuity.can_remember() || !self.agrees_on_time()? {
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
            .map_or(Seq::ZERO, |batch| Seq(*batch.seqs.end()));
        self.state.newest = newest;
        self.state.budget = self.read_budget()?;
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
        let today = self.clock.now().day();
        self.serve.refresh(self.state.store(), today)
    }

    fn read_waiting(&mut self) -> Result<(), SqlError> {
        while self.state.waiting.read_to < self.writer.position() {
            let after = self.state.waiting.read_to;
            let uploads = self.state.store().read_uploads(after, limits::CUT_ROWS)?;
            let Some(last) = uploads.last() else {
                return Ok(());
            };
            // Rows that the writer has not followed yet have no segment here: they are read next
            // time.
            let known_to = self.writer.position();
            self.state.waiting.read_to = last.seq.min(known_to);
            let uploads = uploads.into_iter().filter(|upload| upload.seq <= known_to);
            let seen = Instant::now();
            self.state
                .waiting
                .uploads
                .extend(uploads.map(|upload| (upload, seen)));
        }
        Ok(())
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
        self.state.last_cut = Some(now);
        timed("bundle", || self.cut(&counts, wall))
    }

    /// Cuts the first waiting uploads into batches of `counts` uploads each.
    fn cut(&mut self, counts: &[usize], wall: UnixMillis) -> Result<(), SqlError> {
        let Some(token) = self.state.lease.as_ref().map(|lease| lease.token.clone()) else {
            return Ok(());
        };
        let planned = self.plan_cut(counts, wall);
        let (Some(newest), Some(last_upload)) = (&planned.newest, planned.last_upload) else {
            return Ok(());
        };
        let before = self.state.newest.clone();
        // Before it is sent: whatever becomes of it, the number may have been given out.
        self.continuity
            .remember_cutting(newest.tag)
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
                // If it has gone back, this says so; else the waiting uploads are read again.
                self.continuity.holds_batches(self.state.store())?;
            }
        }
        Ok(())
    }

    /// Groups the first uploads that wait into download batches, and numbers them.
    fn plan_cut(&self, counts: &[usize], wall: UnixMillis) -> PlannedCut {
        let after_ordinal = self.state.newest.as_ref().map_or(0, |batch| batch.ordinal);
        let skipped_to = self.continuity.epoch().skipped_to;
        let mut planned = PlannedCut {
            rows: Vec::new(),
            batches: Vec::new(),
            newest: self.state.newest.clone(),
            last_upload: None,
            budget: self.state.budget,
        };
        let mut uploads = self.state.waiting.uploads.iter().map(|(upload, _)| *upload);
        for (ordinal, &count) in (after_ordinal + 1..).zip(counts) {
            let members: Vec<UploadMeta> = uploads.by_ref().take(count).collect();
            planned.last_upload = members.last().copied();
            let before = planned.newest.as_ref().map(|batch| batch.tag);
            let tag = next_tag(before.max(skipped_to), wall.day());
            let row = new_batch(tag, &members);
            let cut = DownloadBatchRow {
                ordinal,
                tag,
                seqs: row.seqs.clone(),
            };
            let batch = DownloadBatch::new(cut.clone(), members);
            planned.batches.push(Arc::new(batch));
            planned.newest = Some(cut);
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
        self.state
            .waiting
            .uploads
            .drain(..counts.iter().sum::<usize>());
        self.serve.adopt(&cut.batches)?;
        for row in &cut.rows {
            let (tag, keys) = (row.tag, row.key_count);
            tracing::info!(stage = "bundle", batchTag = %tag, diagnosisKeyCount = keys, "Batch created");
        }
        metrics::counter!("efgs_download_batches_total").increment(cut.rows.len() as u64);
        Ok(())
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

impl Waiting {
    /// When the next cut is due: at once if a batch is full, else when the rest has waited long
    /// enough.
    fn due(
        &self,
        settings: &BundleSettings,
        budget: CutBudget,
        wall: UnixMillis,
        now: Instant,
    ) -> Option<Instant> {
        let plan = self.plan(settings);
        if plan.full.is_empty() {
            self.rest_due(plan.rest_begins(), settings, budget, wall, now)
        } else {
            Some(now)
        }
    }

    /// How many uploads go into each download batch that is to be cut now.
    fn cuts_due(
        &self,
        settings: &BundleSettings,
        budget: CutBudget,
        wall: UnixMillis,
        now: Instant,
    ) -> Vec<usize> {
        let plan = self.plan(settings);
        let budget = settings.pacing().map_or(budget, |pacing| {
            (0..plan.full.len()).fold(budget, |budget, _| budget.draw(pacing, wall))
        });
        let due = self.rest_due(plan.rest_begins(), settings, budget, wall, now);
        let rest = due.is_some_and(|at| at <= now).then_some(plan.rest);
        plan.full.into_iter().chain(rest).collect()
    }

    fn plan(&self, settings: &BundleSettings) -> CutPlan {
        let key_counts = self.uploads.iter().map(|(upload, _)| upload.key_count);
        plan_cuts(key_counts, settings.keys_max)
    }

    /// When the uploads from `begins` on, which fill no batch, are to be cut: when the oldest of
    /// them with keys has waited for `max_delay`, and for the budget.
    fn rest_due(
        &self,
        begins: usize,
        settings: &BundleSettings,
        budget: CutBudget,
        wall: UnixMillis,
        now: Instant,
    ) -> Option<Instant> {
        let mut rest = self.uploads.iter().skip(begins);
        let (oldest, seen) = rest.find(|(upload, _)| upload.key_count > 0)?;
        // By the wall clock it has waited since it was stored, by the monotonic clock since we saw
        // it. The wall clock may have jumped: it only ever shortens the wait.
        let waited = Duration::from_millis(wall.0.saturating_sub(oldest.created_at.0));
        let at_age = |age: Duration| (now + age.saturating_sub(waited)).min(*seen + age);
        let due = at_age(settings.max_delay);
        let Some(pacing) = settings.pacing() else {
            return Some(due);
        };
        let budgeted = (now + budget.wait(pacing, wall)).min(at_age(pacing.interval));
        Some(due.max(budgeted))
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

/// The tag after `last`: numbers from 1 each day, without gaps; days never decrease, even if the
/// clock does.
fn next_tag(last: Option<BatchTag>, today: Day) -> BatchTag {
    match last {
        Some(last) if last.day >= today => match last.number.checked_add(1) {
            Some(number) => BatchTag {
                day: last.day,
                number,
            },
            None => BatchTag {
                day: last.day.next(),
                number: 1,
            },
        },
        _ => BatchTag {
            day: today,
            number: 1,
        },
    }
}

fn new_batch(tag: BatchTag, members: &[UploadMeta]) -> NewDownloadBatch {
    let (first, last) = (members.first(), members.last());
    let (first, last) = first.zip(last).expect("a cut has at least one upload");
    NewDownloadBatch {
        tag,
        seqs: first.seq.0..=last.seq.0,
        key_count: members
            .iter()
            .map(|upload| u64::from(upload.key_count))
            .sum(),
    }
}

/// How the waiting uploads are divided into download batches, in order.
#[derive(Debug, PartialEq, Eq)]
struct CutPlan {
    /// How many uploads go into each full batch.
    full: Vec<usize>,
    /// How many uploads are left behind them.
    rest: usize,
}

impl CutPlan {
    /// Position of the first upload behind the full batches.
    fn rest_begins(&self) -> usize {
        self.full.iter().sum()
    }
}

/// Divides the waiting uploads (given by their key counts, in order) into download batches.
///
/// A batch takes uploads as long as their keys fit; an upload that does not fit closes it. An
/// upload beyond the limit is a separate batch. Uploads without keys never make a batch; they join
/// the next.
fn plan_cuts(key_counts: impl Iterator<Item = u32>, keys_max: u32) -> CutPlan {
    let mut full = Vec::new();
    let (mut uploads, mut keys) = (0, 0_u32);
    for key_count in key_counts {
        if keys > 0 && keys.saturating_add(key_count) > keys_max {
            full.push(uploads);
            (uploads, keys) = (0, 0);
        }
        uploads += 1;
        keys = keys.saturating_add(key_count);
    }
    if keys >= keys_max {
        full.push(uploads);
        uploads = 0;
    }
    CutPlan {
        full,
        rest: uploads,
    }
}

#[cfg(test)]
mod tests;
