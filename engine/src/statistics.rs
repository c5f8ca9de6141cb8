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

use crate::limits;
pub use crate::store::{Cleanup, CountryDay, Statistics};
use crate::store::{DownloadCount, DownloadPlace};

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
