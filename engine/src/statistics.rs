//! Statistics: who has uploaded and downloaded how much, by day and country; what was cleaned up.
//!
//! - *In*: downloads, as they are answered. Uploads need no counting: the log has them.
//! - *Out*: [`Statistics`].
//! - *Refuses*: nothing; beyond a bound of memory it stops counting, never serving.
//! - *Assumes*: somebody flushes every few seconds; a gateway that is killed loses what it has
//!   counted since (`limits::DOWNLOAD_COUNT_INTERVAL`), and nothing else.
//! - *Runs on*: the thread that answers a download; the retention thread writes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::{BatchTag, Country, Day, UnixMillis};
use crate::limits;

/// What was counted in a range of days.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// By day and country, ascending; only where there is something.
    pub days: Vec<CountryDay>,
    /// By day, ascending.
    pub cleanups: Vec<Cleanup>,
}

/// What a country did on a day, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountryDay {
    /// The day.
    pub day: Day,
    /// The participant.
    pub country: Country,
    /// Uploads that were stored.
    pub uploads: u64,
    /// Keys in them.
    pub uploaded_keys: u64,
    /// Different download batches that were answered.
    pub batches: u64,
    /// Downloads that were answered, repeats included.
    pub downloads: u64,
    /// Keys in them.
    pub downloaded_keys: u64,
}

impl CountryDay {
    pub(crate) const fn new(day: Day, country: Country) -> Self {
        Self {
            day,
            country,
            uploads: 0,
            uploaded_keys: 0,
            batches: 0,
            downloads: 0,
            downloaded_keys: 0,
        }
    }
}

/// A day's retention: how many keys were stored in download batches before and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleanup {
    /// The day, in UTC.
    pub day: Day,
    /// When something was last deleted; when it was looked for, if nothing was.
    pub cleaned_at: UnixMillis,
    /// Keys before.
    pub keys_before: u64,
    /// Keys whose data was deleted.
    pub keys_deleted: u64,
    /// Keys after.
    pub keys_after: u64,
}

/// What downloads are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DownloadPlace {
    pub(crate) country: Country,
    pub(crate) day: Day,
    pub(crate) batch: BatchTag,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DownloadCount {
    pub(crate) downloads: u64,
    pub(crate) keys: u64,
}

type Counts = BTreeMap<DownloadPlace, DownloadCount>;

/// Downloads that were answered and are not in the database yet.
#[derive(Debug, Default)]
pub(crate) struct DownloadCounts(Mutex<Counts>);

impl DownloadCounts {
    /// Counts an answer.
    pub(crate) fn count(&self, place: DownloadPlace, keys: u32) {
        let keys = u64::from(keys);
        add(
            &mut self.lock(),
            place,
            DownloadCount { downloads: 1, keys },
        );
    }

    /// Takes everything out.
    pub(crate) fn take(&self) -> Counts {
        std::mem::take(&mut *self.lock())
    }

    /// Puts back what could not be written.
    pub(crate) fn put_back(&self, counts: Counts) {
        let mut all = self.lock();
        for (place, count) in counts {
            add(&mut all, place, count);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(counts: &mut Counts, place: DownloadPlace, more: DownloadCount) {
    if counts.len() >= limits::DOWNLOAD_COUNTS_MAX && !counts.contains_key(&place) {
        metrics::counter!("efgs_downloads_uncounted_total").increment(more.downloads);
        return;
    }
    let count = counts.entry(place).or_default();
    count.downloads += more.downloads;
    count.keys += more.keys;
}

/// Counts uploads and their keys by day and country.
pub(crate) fn add_uploads(
    uploads: impl Iterator<Item = (Day, Country, u64)>,
) -> BTreeMap<(Day, Country), (u64, u64)> {
    let mut counts = BTreeMap::new();
    for (day, country, keys) in uploads {
        let count: &mut (u64, u64) = counts.entry((day, country)).or_default();
        count.0 += 1;
        count.1 += keys;
    }
    counts
}
