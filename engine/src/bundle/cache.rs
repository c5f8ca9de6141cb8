//! Encoded bytes in memory, within a bound.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Bundle, BundleKey, DownloadBatch};
use crate::domain::{Format, Seq};

/// Segments of uploads that were stored here and wait to be cut. Beyond the bound the oldest are
/// dropped; they can be read back.
#[derive(Debug)]
pub(crate) struct FreshSegments {
    inner: Mutex<Fresh>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Fresh {
    segments: BTreeMap<Seq, Bytes>,
    bytes: usize,
}

impl FreshSegments {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            inner: Mutex::default(),
            bytes_max,
        }
    }

    /// Keeps a segment until its download batch is cut.
    pub(crate) fn insert(&self, seq: Seq, segment: Bytes) {
        let mut fresh = lock(&self.inner);
        fresh.bytes += segment.len();
        fresh.segments.insert(seq, segment);
        while fresh.bytes > self.bytes_max
            && let Some((_, dropped)) = fresh.segments.pop_first()
        {
            fresh.bytes -= dropped.len();
        }
    }

    /// Takes the segments of a download batch out, in order; nothing if one of them is not here.
    /// Everything up to the end of the batch is forgotten.
    pub(crate) fn take(&self, batch: &DownloadBatch) -> Option<Bundle> {
        let mut fresh = lock(&self.inner);
        let behind = fresh.segments.split_off(&Seq(batch.seqs.end() + 1));
        let mut taken = std::mem::replace(&mut fresh.segments, behind);
        fresh.bytes -= taken.values().map(Bytes::len).sum::<usize>();
        let segments = batch.uploads.iter().map(|upload| taken.remove(&upload.seq));
        let segments = segments.collect::<Option<_>>()?;
        Some(Bundle {
            format: Format::Protobuf,
            segments,
        })
    }
}

/// Bundles, the least recently used dropped beyond the bound.
#[derive(Debug)]
pub(crate) struct BundleCache {
    inner: Mutex<Cached>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Cached {
    bundles: HashMap<BundleKey, (u64, Arc<Bundle>)>,
    /// By the moment of their last use, a counter.
    uses: BTreeMap<u64, BundleKey>,
    moment: u64,
    bytes: usize,
}

impl BundleCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            inner: Mutex::default(),
            bytes_max,
        }
    }

    /// The bundle of a download batch, if it is warm.
    pub(crate) fn find(&self, ordinal: u64, format: Format) -> Option<Arc<Bundle>> {
        let mut cached = lock(&self.inner);
        let cached = &mut *cached;
        cached.moment += 1;
        let (last_use, bundle) = cached.bundles.get_mut(&(ordinal, format))?;
        cached.uses.remove(last_use);
        *last_use = cached.moment;
        cached.uses.insert(cached.moment, (ordinal, format));
        Some(Arc::clone(bundle))
    }

    /// Keeps a bundle, at the cost of those not used for longest.
    pub(crate) fn insert(&self, ordinal: u64, bundle: &Arc<Bundle>) {
        let key = (ordinal, bundle.format);
        let mut cached = lock(&self.inner);
        cached.remove(key);
        cached.moment += 1;
        let moment = cached.moment;
        cached.bytes += bundle.bytes();
        cached.uses.insert(moment, key);
        cached.bundles.insert(key, (moment, Arc::clone(bundle)));
        while cached.bytes > self.bytes_max
            && let Some((_, oldest)) = cached.uses.pop_first()
        {
            cached.remove(oldest);
        }
        cached.measure();
    }

    /// Forgets bundles of download batches that cannot be asked for any more.
    pub(crate) fn expire(&self, last_ordinal: u64) {
        let mut cached = lock(&self.inner);
        let cached = &mut *cached;
        cached.bundles.retain(|(ordinal, _), (last_use, bundle)| {
            let kept = *ordinal > last_ordinal;
            if !kept {
                cached.uses.remove(last_use);
                cached.bytes -= bundle.bytes();
            }
            kept
        });
        cached.measure();
    }
}

impl Cached {
    #[allow(
        clippy::cast_precision_loss,
        reason = "bytes in memory are far below 2^53"
    )]
    fn measure(&self) {
        metrics::gauge!("efgs_bundle_cache_bytes").set(self.bytes as f64);
    }

    fn remove(&mut self, key: BundleKey) {
        if let Some((moment, bundle)) = self.bundles.remove(&key) {
            self.uses.remove(&moment);
            self.bytes -= bundle.bytes();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::bundle::BundledUpload;
    use crate::domain::{BatchTag, Country};

    fn bundle(bytes: usize) -> Arc<Bundle> {
        let segments = Box::from([Bytes::from(vec![0; bytes])]);
        Arc::new(Bundle {
            format: Format::Protobuf,
            segments,
        })
    }

    #[test]
    fn drops_the_least_recently_used_bundle_beyond_the_bound() {
        let cache = BundleCache::new(100);
        let warm = |ordinal| cache.find(ordinal, Format::Protobuf).is_some();
        cache.insert(1, &bundle(40));
        cache.insert(2, &bundle(40));
        assert!(warm(1));
        cache.insert(3, &bundle(40));
        assert!(warm(1) && !warm(2) && warm(3));
        cache.insert(4, &bundle(101));
        assert!(
            !warm(1) && !warm(3) && !warm(4),
            "a bundle beyond the bound is not kept"
        );
        assert_eq!(lock(&cache.inner).bytes, 0);
    }

    #[test]
    fn forgets_bundles_that_are_too_old() {
        let cache = BundleCache::new(100);
        cache.insert(1, &bundle(10));
        cache.insert(2, &bundle(20));
        cache.insert(3, &bundle(40));
        cache.expire(2);
        assert!(cache.find(2, Format::Protobuf).is_none());
        assert!(cache.find(3, Format::Protobuf).is_some());
        assert_eq!(lock(&cache.inner).bytes, 40);
    }

    #[test]
    fn tells_how_much_it_holds() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let told = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let cache = BundleCache::new(100);
            cache.insert(1, &bundle(10));
            cache.insert(2, &bundle(40));
            assert!(told.render().contains("efgs_bundle_cache_bytes 50\n"));
            cache.expire(1);
            assert!(told.render().contains("efgs_bundle_cache_bytes 40\n"));
        });
    }

    #[test]
    fn replaces_a_bundle_without_counting_it_twice() {
        let cache = BundleCache::new(100);
        cache.insert(1, &bundle(60));
        cache.insert(1, &bundle(60));
        assert!(cache.find(1, Format::Protobuf).is_some());
        assert!(cache.find(1, Format::Json).is_none());
        assert_eq!(lock(&cache.inner).bytes, 60);
    }

    fn batch(seqs: std::ops::RangeInclusive<u64>) -> DownloadBatch {
        let country = Country::parse("DE").unwrap();
        let upload = |seq| BundledUpload {
            seq: Seq(seq),
            country,
            key_count: 1,
        };
        let tag = BatchTag::parse("20201006-1").unwrap();
        DownloadBatch {
            ordinal: 1,
            tag,
            uploads: seqs.clone().map(upload).collect(),
            seqs,
        }
    }

    #[test]
    fn takes_a_batch_only_when_all_its_segments_are_here() {
        let fresh = FreshSegments::new(100);
        for seq in 1..=4 {
            fresh.insert(Seq(seq), Bytes::from(format!("{seq}")));
        }
        let bundle = fresh.take(&batch(1..=2)).unwrap();
        assert_eq!(*bundle.segments, [Bytes::from("1"), Bytes::from("2")]);
        assert!(fresh.take(&batch(2..=3)).is_none(), "2 was taken");
        assert!(
            fresh.take(&batch(3..=3)).is_none(),
            "3 was forgotten with it"
        );
        assert!(fresh.take(&batch(4..=4)).is_some());
        assert_eq!(lock(&fresh.inner).bytes, 0);
    }

    #[test]
    fn forgets_the_oldest_segments_beyond_the_bound() {
        let fresh = FreshSegments::new(10);
        fresh.insert(Seq(1), Bytes::from(vec![0; 6]));
        fresh.insert(Seq(2), Bytes::from(vec![0; 6]));
        assert!(fresh.take(&batch(1..=1)).is_none());
        assert!(fresh.take(&batch(2..=2)).is_some());
    }
}
