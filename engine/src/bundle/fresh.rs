//! In-memory segments of uploads that are waiting to be cut.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;

use super::download_batch::{Bundle, DownloadBatch};
use crate::domain::{Format, Seq};
use crate::locks::LockIgnoringPoison;

/// Segments of uploads that were stored by this gateway and are waiting to be cut. Beyond the limit
/// the oldest are dropped; they can be read back from the database.
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

    /// Removes and returns the segments of a download batch, in order; `None` if one is missing.
    /// Drops everything up to the end of the batch.
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock_ignoring_poison()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::download_batch::BundledUpload;
    use crate::domain::{BatchTag, Country};

    fn batch(seqs: std::ops::RangeInclusive<u64>) -> DownloadBatch {
        let country = Country::parse("DE").unwrap();
        let upload = |seq| BundledUpload {
            seq: Seq(seq),
            country,
            key_count: 1,
            is_withdrawn: false,
        };
        let tag = BatchTag::parse("20201006-1").unwrap();
        DownloadBatch {
            ordinal: 1,
            tag,
            uploads: seqs.clone().map(upload).collect(),
            seqs,
            record: Default::default(),
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
