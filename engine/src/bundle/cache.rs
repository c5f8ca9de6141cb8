//! Encoded bytes in memory: an LRU cache bounded by bytes, of bundles or of audits.
//!
//! `lru` only keeps the order of use; the bytes are counted here. What is being sent stays in the
//! cache, since evicting it would free nothing: so the cache knows all there is in memory, and when it
//! is full of what is being sent, nothing more is read ([`BytesCache::has_room`]).

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};

use lru::LruCache;

use super::answers::{AnswerPermit, Answers};
use crate::domain::Country;
use crate::limits;
use crate::locks::LockIgnoringPoison;
use crate::overload::Overload;

/// What can be cached.
pub(crate) trait Cacheable {
    /// The gauge that shows how much of it there is.
    const GAUGE: &'static str;
    /// The largest that usually comes.
    const LARGEST_BYTES: usize;

    /// What it takes in memory.
    fn bytes(&self) -> usize;
}

/// An LRU cache of what was made of download batches; `K` says what.
#[derive(Debug)]
pub(crate) struct BytesCache<K: Eq + Hash, V> {
    inner: Mutex<Cached<K, V>>,
    bytes_max: usize,
    /// Beyond it nothing more is read while everything is being sent.
    in_use_max: usize,
    answers: Answers,
}

#[derive(Debug)]
struct Cached<K: Eq + Hash, V> {
    /// By the ordinal of the download batch. Unbounded by count: the bytes bound it.
    entries: LruCache<(u64, K), Arc<V>>,
    bytes: usize,
}

impl<K: Copy + Eq + Hash, V: Cacheable> BytesCache<K, V> {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let in_use_max = limits::in_use_bytes_max(bytes_max, V::LARGEST_BYTES);
        Self {
            inner: Mutex::new(Cached {
                entries: LruCache::unbounded(),
                bytes: 0,
            }),
            bytes_max,
            in_use_max,
            answers: Answers::new(limits::answer_share_bytes_max(in_use_max)),
        }
    }

    /// Admits the answer of a value to a participant, which has a share of what may be in use.
    ///
    /// # Errors
    /// When the share is reached.
    pub(crate) fn admit(&self, reader: Country, value: &V) -> Result<AnswerPermit, Overload> {
        self.answers.admit(reader, value.bytes())
    }

    /// What is under way, by participant.
    pub(crate) const fn answers(&self) -> &Answers {
        &self.answers
    }

    /// What was made of a download batch, if it is cached.
    pub(crate) fn find(&self, ordinal: u64, kind: K) -> Option<Arc<V>> {
        let mut cached = self.lock();
        if cached.bytes > self.bytes_max {
            cached.evict(self.bytes_max);
        }
        cached.entries.get(&(ordinal, kind)).cloned()
    }

    /// Caches a value, unless the same is cached already; returns the one that is.
    pub(crate) fn insert(&self, ordinal: u64, kind: K, value: V) -> Arc<V> {
        let mut cached = self.lock();
        if let Some(known) = cached.entries.get(&(ordinal, kind)) {
            return Arc::clone(known);
        }
        cached.bytes += value.bytes();
        let value = Arc::new(value);
        cached.entries.put((ordinal, kind), Arc::clone(&value));
        cached.evict(self.bytes_max);
        cached.measure();
        value
    }

    /// Whether more may be read: not when the bound is reached by what is being sent.
    pub(crate) fn has_room(&self) -> bool {
        let mut cached = self.lock();
        cached.evict(self.bytes_max);
        cached.measure();
        cached.bytes <= self.in_use_max
    }

    /// Removes what was made of download batches that cannot be downloaded any more. What is being
    /// sent is left, to be evicted.
    pub(crate) fn expire(&self, last_ordinal: u64) {
        let mut cached = self.lock();
        let is_expired = |(key, value): (&(u64, K), &Arc<V>)| {
            (key.0 <= last_ordinal && Arc::strong_count(value) == 1).then_some(*key)
        };
        let expired: Vec<_> = cached.entries.iter().filter_map(is_expired).collect();
        for key in expired {
            if let Some(value) = cached.entries.pop(&key) {
                cached.bytes -= value.bytes();
            }
        }
        cached.measure();
    }

    fn lock(&self) -> MutexGuard<'_, Cached<K, V>> {
        self.inner.lock_ignoring_poison()
    }
}

impl<K: Copy + Eq + Hash, V: Cacheable> Cached<K, V> {
    /// Evicts the least recently used until the rest fits. What is being sent is used just now.
    fn evict(&mut self, bytes_max: usize) {
        for _ in 0..self.entries.len() {
            if self.bytes <= bytes_max {
                return;
            }
            let Some((&key, value)) = self.entries.peek_lru() else {
                return;
            };
            // Clones are only made under this lock: a count of 1 stays.
            if Arc::strong_count(value) > 1 {
                self.entries.promote(&key);
            } else if let Some(evicted) = self.entries.pop(&key) {
                self.bytes -= evicted.bytes();
            }
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "bytes in memory are far below 2^53"
    )]
    fn measure(&self) {
        metrics::gauge!(V::GAUGE).set(self.bytes as f64);
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[derive(Debug)]
    struct Sized(usize);

    impl Cacheable for Sized {
        const GAUGE: &'static str = "efgs_bundle_cache_bytes";
        const LARGEST_BYTES: usize = 100;

        fn bytes(&self) -> usize {
            self.0
        }
    }

    type Cache = BytesCache<(), Sized>;

    fn insert(cache: &Cache, ordinal: u64, bytes: usize) -> Arc<Sized> {
        cache.insert(ordinal, (), Sized(bytes))
    }

    #[test]
    fn drops_the_least_recently_used_beyond_the_bound() {
        let cache = Cache::new(100);
        let warm = |ordinal| cache.find(ordinal, ()).is_some();
        insert(&cache, 1, 40);
        insert(&cache, 2, 40);
        assert!(warm(1));
        insert(&cache, 3, 40);
        assert!(warm(1) && !warm(2) && warm(3));
        insert(&cache, 4, 101);
        assert!(
            !warm(1) && !warm(3) && !warm(4),
            "what is beyond the bound is not kept"
        );
        assert_eq!(cache.lock().bytes, 0);
    }

    #[test]
    fn counts_what_is_being_sent_and_reads_no_more_when_that_fills_it() {
        let in_use_max = limits::in_use_bytes_max(0, 100);
        let cache = Cache::new(0);
        let half = insert(&cache, 1, in_use_max / 2);
        let other = insert(&cache, 2, in_use_max / 2);
        assert!(cache.has_room());
        let last = insert(&cache, 3, 1);
        assert!(!cache.has_room(), "all of it is being sent");
        let known = insert(&cache, 1, in_use_max / 2);
        assert!(Arc::ptr_eq(&half, &known), "the same is there only once");
        assert_eq!(cache.lock().bytes, in_use_max + 1);
        drop((half, known));
        assert!(cache.has_room());
        assert_eq!(cache.lock().bytes, in_use_max / 2 + 1);
        drop((other, last));
        assert!(cache.find(3, ()).is_none());
        assert_eq!(cache.lock().bytes, 0);
    }

    #[test]
    fn evicts_what_is_idle_before_what_is_being_sent() {
        let cache = Cache::new(100);
        let oldest = insert(&cache, 1, 40);
        insert(&cache, 2, 40);
        insert(&cache, 3, 40);
        assert!(cache.find(1, ()).is_some() && cache.find(2, ()).is_none());
        drop(oldest);
    }

    #[test]
    fn forgets_what_is_too_old() {
        let cache = Cache::new(100);
        insert(&cache, 1, 10);
        let sending = insert(&cache, 2, 20);
        insert(&cache, 3, 40);
        cache.expire(2);
        assert!(cache.find(1, ()).is_none());
        assert_eq!(cache.lock().bytes, 60, "what is being sent still counts");
        drop(sending);
        cache.expire(2);
        assert!(cache.find(3, ()).is_some());
        assert_eq!(cache.lock().bytes, 40);
    }

    #[test]
    fn reports_how_much_it_holds() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let told = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let cache = Cache::new(100);
            insert(&cache, 1, 10);
            insert(&cache, 2, 40);
            assert!(told.render().contains("efgs_bundle_cache_bytes 50\n"));
            cache.expire(1);
            assert!(told.render().contains("efgs_bundle_cache_bytes 40\n"));
        });
    }
}
