//! What the set is built on, apart from it: `engine/interleavings` puts loom's atomics, and a set of
//! a few slots, in its place, and runs every interleaving.

pub(super) use std::sync::atomic::{AtomicU64, Ordering};

pub(super) use arc_swap::ArcSwap;

/// Shards grow one at a time: growing copies one part in 256, not the whole set.
pub(super) const SHARDS: usize = 256;
/// Slots that share a cache line: a probe of an identity that is not there, as nearly all are,
/// seldom looks further than into its home.
pub(super) const SLOTS_PER_BUCKET: usize = 4;
/// Buckets of the smallest shard: 256 shards take 1.3 MiB when empty.
pub(super) const BUCKETS_MIN: usize = 64;
