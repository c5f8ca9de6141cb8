//! Statistics: who has uploaded and downloaded how much, by day and country; what was cleaned up.
//!
//! - *In*: downloads, as they are answered. Uploads need no counting: the log has them.
//! - *Out*: [`Statistics`].
//! - *Refuses*: nothing; beyond a bound of memory it stops counting, never serving.
//! - *Assumes*: `flush` is called every few seconds; a killed gateway loses only the counts since
//!   then (`limits::DOWNLOAD_COUNT_INTERVAL`).
//! - *Runs on*: the thread that answers a download; the retention thread writes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use crate::domain::{BatchTag, Country};
use crate::limits;
use crate::locks::LockIgnoringPoison;
pub use crate::store::{Cleanup, CountryDay, Statistics};
use crate::store::{DownloadCount, DownloadPlace};
use crate::verify::SignatureForm;

/// How much a participant has signed in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureUse {
    /// The participant.
    pub country: Country,
    /// How it has signed.
    pub form: SignatureForm,
    /// Uploads that it has signed so.
    pub uploads: u64,
    /// Keys in them.
    pub keys: u64,
}

/// Uploads by country and the form of their signatures.
#[derive(Debug, Default)]
pub(crate) struct SignatureCounts(BTreeMap<(Country, SignatureForm), (u64, u64)>);

impl SignatureCounts {
    /// Counts an upload.
    pub(crate) fn count(&mut self, country: Country, batch_signature: &str, keys: u64) {
        let form = SignatureForm::of(batch_signature);
        let count = self.0.entry((country, form)).or_default();
        count.0 += 1;
        count.1 += keys;
    }

    /// What was counted, in the order of countries.
    pub(crate) fn into_uses(self) -> Vec<SignatureUse> {
        let uses = self.0.into_iter();
        uses.map(|((country, form), (uploads, keys))| SignatureUse {
            country,
            form,
            uploads,
            keys,
        })
        .collect()
    }
}

type Counts = BTreeMap<DownloadPlace, DownloadCount>;

/// Downloads that were answered and are not in the database yet, and what each participant has got
/// as far as.
#[derive(Debug, Default)]
pub(crate) struct DownloadCounts {
    counts: Mutex<Counts>,
    newest: Mutex<NewestDownloads>,
}

/// The newest download batch that each participant has downloaded, from whichever gateway.
pub(crate) type NewestDownloads = BTreeMap<Country, BatchTag>;

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
        let counts = std::mem::take(&mut *self.lock());
        self.note_newest(counts.keys().map(|place| (place.country, place.batch)));
        counts
    }

    /// Notes what participants have downloaded.
    pub(crate) fn note_newest(&self, downloads: impl Iterator<Item = (Country, BatchTag)>) {
        let mut newest = self.newest.lock_ignoring_poison();
        for (country, batch) in downloads {
            let known = newest.entry(country).or_insert(batch);
            *known = batch.max(*known);
        }
    }

    /// The newest download batch that a participant has downloaded, as of the last flush.
    pub(crate) fn newest_of(&self, country: Country) -> Option<BatchTag> {
        let newest = self.newest.lock_ignoring_poison();
        newest.get(&country).copied()
    }

    /// Puts back what could not be written.
    pub(crate) fn put_back(&self, counts: Counts) {
        let mut all = self.lock();
        for (place, count) in counts {
            add(&mut all, place, count);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock_ignoring_poison()
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
