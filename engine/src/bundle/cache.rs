//! Bundles in memory: an LRU cache bounded by bytes.
//!
//! `lru` only keeps the order of use; the bytes are counted here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::download_batch::{Bundle, BundleKey};
use crate::domain::Format;

/// An LRU cache of bundles.
#[derive(Debug)]
pub(crate) struct BundleCache {
    inner: Mutex<Cached>,
    bytes_max: usize,
}

#[derive(Debug)]
struct Cached {
    /// Unbounded by count: `bytes_max` bounds it.
    bundles: LruCache<BundleKey, Arc<Bundle>>,
    bytes: usize,
}

impl BundleCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            inner: Mutex::new(Cached {
                bundles: LruCache::unbounded(),
                bytes: 0,
            }),
            bytes_max,
        }
    }

    /// The bundle of a download batch, if it is cached.
    pub(crate) fn find(&self, ordinal: u64, format: Format) -> Option<Arc<Bundle>> {
        lock(&self.inner).bundles.get(&(ordinal, format)).cloned()
    }

    /// Caches a bundle; evicts the least recently used.
    pub(crate) fn insert(&self, ordinal: u64, bundle: &Arc<Bundle>) {
        let mut cached = lock(&self.inner);
        cached.bytes += bundle.bytes();
        let key = (ordinal, bundle.format);
        if let Some(replaced) = cached.bundles.put(key, Arc::clone(bundle)) {
            cached.bytes -= replaced.bytes();
        }
        while cached.bytes > self.bytes_max
            && let Some((_, evicted)) = cached.bundles.pop_lru()
        {
            cached.bytes -= evicted.bytes();
        }
        cached.measure();
    }

    /// Removes the bundles of download batches that cannot be downloaded any more.
    pub(crate) fn expire(&self, last_ordinal: u64) {
        let mut cached = lock(&self.inner);
        let keys = cached.bundles.iter().map(|(key, _)| *key);
        let expired: Vec<_> = keys
            .filter(|(ordinal, _)| *ordinal <= last_ordinal)
            .collect();
        for key in expired {
            if let Some(bundle) = cached.bundles.pop(&key) {
                cached.bytes -= bundle.bytes();
            }
        }
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
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

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
}
