//! The bundler thread: cuts download batches while it holds the lease, and follows those that another
//! gateway cuts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::download_batch::DownloadBatch;
use super::serve::Serve;
use crate::clock::Clock;
use crate::domain::{BatchTag, Day, Seq, UnixMillis};
use crate::limits;
use crate::persist::{
    self, Database, DownloadBatchRow, NewDownloadBatch, SqlError, Store, UploadMeta, WriterState,
};
use crate::settings::BundleSettings;
use crate::stage::timed;

/// The bundler thread's own.
#[derive(Debug)]
pub(crate) struct Bundler {
    pub(crate) database: Database,
    pub(crate) writer: Arc<WriterState>,
    pub(crate) serve: Arc<Serve>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: BundleSettings,
    /// Name of this gateway in the lease: random, so that no two are alike.
    pub(crate) holder: String,
    pub(crate) cuts: Arc<AtomicBool>,
    pub(crate) state: BundlerState,
}

/// What changes from tick to tick.
#[derive(Debug, Default)]
pub(crate) struct BundlerState {
    store: Option<Store>,
    lease: Option<Lease>,
    /// The newest download batch, of whatever day, as of taking the lease.
    newest: Option<DownloadBatchRow>,
    waiting: Waiting,
    next_renewal: Option<Instant>,
    next_refresh: Option<Instant>,
    /// The day of the last tick.
    today: Option<Day>,
    last_cut: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    token: u64,
    /// By our own monotonic clock, earlier than by the database's.
    expires: Instant,
}

/// Uploads behind the newest download batch.
#[derive(Debug, Default)]
struct Waiting {
    uploads: VecDeque<(UploadMeta, Instant)>,
    /// The end of what was read, whether it waits or is cut.
    read_to: Seq,
}

impl Bundler {
    /// Works until the writer is gone: its end of `wake` is.
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
                // A lost race is over; what else fails would fail again at once.
                if !matches!(error, SqlError::Conflict(_)) {
                    std::thread::sleep(limits::RECONNECT_INTERVAL);
                }
            }
        }
    }

    /// Until something is due.
    fn pause(&self) -> Duration {
        let now = Instant::now();
        let due = self
            .state
            .waiting
            .due(&self.settings, self.clock.now(), now);
        let due = due.map(|at| at.saturating_duration_since(now).max(limits::CUT_INTERVAL));
        due.unwrap_or(limits::CATALOG_INTERVAL)
            .min(limits::CATALOG_INTERVAL)
    }

    fn tick(&mut self) -> Result<(), SqlError> {
        if self.state.store.is_none() {
            self.state.store = Some(self.database.store()?);
        }
        self.follow_clock()?;
        self.hold_lease()?;
        if self.state.lease.is_none() && due(&mut self.state.next_refresh, limits::CATALOG_INTERVAL)
        {
            self.refresh()?;
        }
        if self.state.lease.is_some() {
            self.read_waiting()?;
            self.cut_if_due()?;
        }
        Ok(())
    }

    /// A clock that was set back: what was dropped as too old may be wanted again.
    fn follow_clock(&mut self) -> Result<(), SqlError> {
        let today = self.clock.now().day();
        if self.state.today.is_some_and(|known| today < known) {
            self.serve.read_anew(self.state.store(), today)?;
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

    /// Renews the lease when that is due, or asks for it.
    fn hold_lease(&mut self) -> Result<(), SqlError> {
        if !due(&mut self.state.next_renewal, limits::LEASE_RENEWAL) {
            let lease = self.state.lease;
            if lease.is_some_and(|lease| lease.expires <= Instant::now()) {
                self.lose_lease();
            }
            return Ok(());
        }
        if !self.agrees_on_time()? {
            return self.release_lease();
        }
        let asked = Instant::now();
        let ttl_ms = u64::try_from(limits::LEASE_TTL.as_millis()).expect("seconds");
        let store = self.state.store();
        let held = store.hold_lease(persist::Lease::Bundle, &self.holder, ttl_ms)?;
        let Some(token) = held else {
            self.lose_lease();
            return Ok(());
        };
        let is_new = self.state.lease.is_none_or(|lease| lease.token != token);
        self.state.lease = Some(Lease {
            token,
            expires: asked + limits::LEASE_TTL,
        });
        if is_new { self.begin(token) } else { Ok(()) }
    }

    /// Reads everything that was cut before us; what waits comes behind that.
    fn begin(&mut self, token: u64) -> Result<(), SqlError> {
        self.refresh()?;
        let newest = self.state.store().newest_download_batch()?;
        let cut_to = newest
            .as_ref()
            .map_or(Seq::ZERO, |batch| Seq(*batch.seqs.end()));
        self.state.newest = newest;
        self.state.waiting = Waiting {
            read_to: cut_to,
            ..Waiting::default()
        };
        self.cuts.store(true, Ordering::Release);
        tracing::info!(stage = "bundle", token, "Batch Process started");
        Ok(())
    }

    /// Leaves the lease to another gateway, at once.
    fn release_lease(&mut self) -> Result<(), SqlError> {
        if self.state.lease.is_some() {
            let store = self.state.store();
            store.release_lease(persist::Lease::Bundle, &self.holder)?;
        }
        self.lose_lease();
        Ok(())
    }

    fn lose_lease(&mut self) {
        self.state.lease = None;
        self.cuts.store(false, Ordering::Release);
    }

    /// Learns of download batches that another gateway has cut.
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
            // What the writer has not made its own yet has no segment here: it comes next time.
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
        let waited = self.state.waiting.has_waited(&self.settings, wall, now);
        let sizes: Vec<u32> = self
            .state
            .waiting
            .uploads
            .iter()
            .map(|(upload, _)| upload.key_count)
            .collect();
        let mut counts = plan_cuts(&sizes, self.settings.keys_max, waited);
        counts.truncate(limits::CUTS_MAX);
        if counts.is_empty() {
            return Ok(());
        }
        self.state.last_cut = Some(now);
        timed("bundle", || self.cut(&counts, wall))
    }

    /// Cuts the first uploads that wait into batches of `counts` uploads each.
    fn cut(&mut self, counts: &[usize], wall: UnixMillis) -> Result<(), SqlError> {
        let Some(lease) = self.state.lease else {
            return Ok(());
        };
        let after_ordinal = self.state.newest.as_ref().map_or(0, |batch| batch.ordinal);
        let mut newest = self.state.newest.clone();
        let mut uploads = self.state.waiting.uploads.iter().map(|(upload, _)| *upload);
        let (mut rows, mut batches) = (Vec::new(), Vec::new());
        for (ordinal, &count) in (after_ordinal + 1..).zip(counts) {
            let members: Vec<UploadMeta> = uploads.by_ref().take(count).collect();
            let tag = next_tag(newest.as_ref().map(|batch| batch.tag), wall.day());
            let row = new_batch(tag, &members);
            let cut = DownloadBatchRow {
                ordinal,
                tag,
                seqs: row.seqs.clone(),
            };
            batches.push(Arc::new(DownloadBatch::new(cut.clone(), members)));
            newest = Some(cut);
            rows.push(row);
        }
        if !self
            .state
            .store()
            .cut(lease.token, after_ordinal, &rows, wall)?
        {
            tracing::warn!(
                stage = "bundle",
                token = lease.token,
                "another gateway cuts now"
            );
            self.lose_lease();
            return Ok(());
        }
        self.state.newest = newest;
        self.state
            .waiting
            .uploads
            .drain(..counts.iter().sum::<usize>());
        self.serve.adopt(&batches);
        for row in &rows {
            let (tag, keys) = (row.tag, row.key_count);
            tracing::info!(stage = "bundle", batchTag = %tag, diagnosisKeyCount = keys, "Batch created");
        }
        metrics::counter!("efgs_download_batches_total").increment(rows.len() as u64);
        Ok(())
    }

    /// In an orderly shutdown another gateway takes over at once.
    fn leave(mut self) {
        if self.state.lease.is_some()
            && let Some(store) = self.state.store.as_mut()
            && let Err(error) = store.release_lease(persist::Lease::Bundle, &self.holder)
        {
            tracing::warn!(stage = "bundle", error = %error, "cannot release the lease");
        }
        self.cuts.store(false, Ordering::Release);
    }
}

impl BundlerState {
    fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("a tick begins by connecting")
    }
}

impl Waiting {
    /// When the oldest upload with keys has waited long enough.
    ///
    /// By the wall clock it has waited since it was stored, by the monotonic clock since we saw it.
    /// The wall clock may have jumped: it only ever shortens the wait.
    fn due(&self, settings: &BundleSettings, wall: UnixMillis, now: Instant) -> Option<Instant> {
        let (oldest, seen) = self
            .uploads
            .iter()
            .find(|(upload, _)| upload.key_count > 0)?;
        let waited = Duration::from_millis(wall.0.saturating_sub(oldest.created_at.0));
        let by_wall = now + settings.max_delay.saturating_sub(waited);
        Some(by_wall.min(*seen + settings.max_delay))
    }

    fn has_waited(&self, settings: &BundleSettings, wall: UnixMillis, now: Instant) -> bool {
        self.due(settings, wall, now).is_some_and(|at| at <= now)
    }
}

/// Whether a thing that is done every so often is due; if so, it counts as done.
fn due(next: &mut Option<Instant>, interval: Duration) -> bool {
    let now = Instant::now();
    if next.is_some_and(|at| now < at) {
        return false;
    }
    *next = Some(now + interval);
    true
}

/// The tag after `last`: numbers from 1 each day, without gaps; days never go back, even if the
/// clock does.
fn next_tag(last: Option<BatchTag>, today: Day) -> BatchTag {
    match last {
        Some(last) if last.day >= today => BatchTag {
            day: last.day,
            number: last.number + 1,
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

/// How many of the waiting uploads (given by their key counts, in order) go into each download
/// batch that is cut now.
///
/// A batch takes uploads as long as their keys fit; an upload that does not fit closes it. What
/// does not fill a batch is cut only when it `has_waited`. An upload beyond the limit is a batch of
/// its own. Uploads without keys never make a batch, they go along.
fn plan_cuts(key_counts: &[u32], keys_max: u32, has_waited: bool) -> Vec<usize> {
    let mut cuts = Vec::new();
    let (mut uploads, mut keys) = (0, 0_u32);
    for &key_count in key_counts {
        if keys > 0 && keys.saturating_add(key_count) > keys_max {
            cuts.push(uploads);
            (uploads, keys) = (0, 0);
        }
        uploads += 1;
        keys = keys.saturating_add(key_count);
    }
    if keys >= keys_max || (has_waited && keys > 0) {
        cuts.push(uploads);
    }
    cuts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Country;

    #[test]
    fn fills_batches_first_fit_then_stops() {
        // The reference's own test: limit 9, uploads of 5, 5, 5, 5, 3 make batches of 5, 5, 5, 8.
        assert_eq!(plan_cuts(&[5, 5, 5, 5, 3], 9, true), [1, 1, 1, 2]);
    }

    #[test]
    fn keeps_an_unfilled_batch_waiting() {
        assert_eq!(plan_cuts(&[5, 5, 5, 5, 3], 9, false), [1, 1, 1]);
        assert_eq!(plan_cuts(&[4, 4], 9, false), [0; 0]);
        assert_eq!(
            plan_cuts(&[4, 5], 9, false),
            [2],
            "a batch that is exactly full"
        );
    }

    #[test]
    fn gives_an_upload_beyond_the_limit_a_batch_of_its_own() {
        assert_eq!(plan_cuts(&[2, 20, 2], 9, false), [1, 1]);
        assert_eq!(plan_cuts(&[20], 9, false), [1]);
        assert_eq!(plan_cuts(&[u32::MAX, u32::MAX], 9, false), [1, 1]);
    }

    #[test]
    fn never_makes_a_batch_of_uploads_without_keys() {
        assert_eq!(plan_cuts(&[0, 0], 9, true), [0; 0]);
        assert_eq!(plan_cuts(&[0, 3, 0], 9, true), [3]);
        assert_eq!(plan_cuts(&[0, 9, 0, 1], 9, false), [3], "they go along");
    }

    #[test]
    fn numbers_batches_from_one_each_day_and_never_goes_back() {
        let tag = |text| BatchTag::parse(text).unwrap();
        let day = |text| Day::parse_iso(text).unwrap();
        let next = |last, today| next_tag(last, day(today)).to_string();
        assert_eq!(next(None, "2020-10-06"), "20201006-1");
        assert_eq!(next(Some(tag("20201006-9")), "2020-10-06"), "20201006-10");
        assert_eq!(next(Some(tag("20201006-9")), "2020-10-07"), "20201007-1");
        assert_eq!(next(Some(tag("20201006-9")), "2020-10-05"), "20201006-10");
    }

    #[test]
    fn waits_no_longer_when_the_clock_jumps_back() {
        let settings = BundleSettings {
            max_delay: Duration::from_secs(2),
            ..Default::default()
        };
        let seen = Instant::now();
        let upload = UploadMeta {
            seq: Seq(1),
            country: Country::parse("DE").unwrap(),
            key_count: 1,
            created_at: UnixMillis(100_000),
        };
        let waiting = Waiting {
            uploads: [(upload, seen)].into(),
            read_to: Seq(1),
        };
        let due = |wall| waiting.due(&settings, UnixMillis(wall), seen).unwrap() - seen;
        assert_eq!(due(100_000), Duration::from_secs(2));
        assert_eq!(due(101_500), Duration::from_millis(500));
        assert_eq!(due(900_000), Duration::ZERO);
        assert_eq!(due(10), Duration::from_secs(2));
    }

    proptest! {
        #[test]
        fn cuts_in_order_within_the_limit(sizes in prop::collection::vec(0u32..12, 0..40), waited: bool) {
            let cuts = plan_cuts(&sizes, 9, waited);
            let mut rest = sizes.as_slice();
            for count in cuts {
                let (batch, behind) = rest.split_at(count);
                let with_keys: Vec<_> = batch.iter().filter(|&&keys| keys > 0).collect();
                prop_assert!(batch.iter().sum::<u32>() <= 9 || with_keys.len() == 1);
                prop_assert!(!with_keys.is_empty());
                rest = behind;
            }
            let left: u32 = rest.iter().sum();
            let left_max = if waited { 0 } else { 8 };
            prop_assert!(left <= left_max);
        }
    }
}
