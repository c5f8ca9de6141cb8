//! The chain of download batches that can be requested, in memory.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::download_batch::{BundledUpload, DownloadBatch};
use super::refusal::DownloadRefusal;
use crate::domain::{BatchTag, Day, Seq};
use crate::locks::RwLockIgnoringPoison;

/// All download batches young enough to be served, in order, behind a lock that is held only for a
/// binary search.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    batches: RwLock<Vec<Arc<DownloadBatch>>>,
    /// Withdrawn uploads: whatever comes into the catalog is without their keys. Changed only under
    /// the write lock of `batches`.
    withdrawn: RwLock<HashSet<Seq>>,
    /// The memory that `batches` take: each upload asks, and a walk over thousands of batches is too long
    /// for that. Changed only under their write lock.
    bytes: AtomicU64,
}

/// A batch and the name of the next.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) batch: Arc<DownloadBatch>,
    pub(crate) next: Option<BatchTag>,
}

impl Catalog {
    /// The newest batch.
    pub(crate) fn newest(&self) -> Option<Arc<DownloadBatch>> {
        self.read().last().map(Arc::clone)
    }

    /// Appends batches; those already known are skipped.
    pub(crate) fn append(&self, batches: &[Arc<DownloadBatch>]) {
        let mut known = self.write();
        let added = append(&mut known, batches, &self.withdrawn());
        self.bytes.fetch_add(added, Ordering::Relaxed);
    }

    /// Leaves the keys of these uploads out from now on.
    pub(crate) fn withdraw(&self, seqs: impl IntoIterator<Item = Seq>) {
        let mut known = self.write();
        let mut withdrawn = self.withdrawn.write_ignoring_poison();
        withdrawn.extend(seqs);
        for batch in known.iter_mut() {
            if let Some(changed) = batch.without(&withdrawn) {
                *batch = Arc::new(changed);
            }
        }
    }

    /// Replaces all known batches by these, but keeps what was appended after them since they were
    /// read.
    pub(crate) fn replace(&self, batches: &[Arc<DownloadBatch>]) {
        let mut known = self.write();
        let withdrawn = self.withdrawn();
        let mut all = Vec::with_capacity(batches.len());
        let bytes = append(&mut all, batches, &withdrawn) + append(&mut all, &known, &withdrawn);
        self.bytes.store(bytes, Ordering::Relaxed);
        *known = all;
    }

    /// Drops what is older than `oldest`; returns the last dropped ordinal, if any.
    pub(crate) fn expire(&self, oldest: Day) -> Option<u64> {
        let is_old = |batch: &Arc<DownloadBatch>| batch.tag.day < oldest;
        // Nearly always there is nothing to do: do not make readers wait for the write lock.
        if !self.read().first().is_some_and(is_old) {
            return None;
        }
        self.drop_while(is_old)
    }

    /// Drops the batches whose uploads begin up to a position of the log; returns the last dropped
    /// ordinal, if any.
    pub(crate) fn drop_through(&self, position: u64) -> Option<u64> {
        let is_gone = |batch: &Arc<DownloadBatch>| *batch.seqs.start() <= position;
        if !self.read().first().is_some_and(is_gone) {
            return None;
        }
        self.drop_while(is_gone)
    }

    /// Drops the first batches; returns the last dropped ordinal, if any.
    fn drop_while(&self, is_dropped: impl Fn(&Arc<DownloadBatch>) -> bool) -> Option<u64> {
        let mut known = self.write();
        let count = known.partition_point(is_dropped);
        let bytes = known[..count].iter().map(|batch| bytes_of(batch)).sum();
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        known.drain(..count).next_back().map(|batch| batch.ordinal)
    }

    /// Finds what a download requests (wire §14.5 to §14.7): the batch with a tag, or
    /// the first one of a day or later.
    pub(crate) fn find(&self, date: Day, tag: Option<&str>) -> Result<Found, DownloadRefusal> {
        let batches = self.read();
        let position = match tag {
            Some(tag) => position_of(&batches, tag)?,
            None => batches.partition_point(|batch| batch.tag.day < date),
        };
        let batch = batches
            .get(position)
            .ok_or(DownloadRefusal::NoBatchOnDate)?;
        if batch.tag.day < date {
            return Err(DownloadRefusal::BatchBeforeDate);
        }
        let next = batches.get(position + 1).map(|next| next.tag);
        Ok(Found {
            batch: Arc::clone(batch),
            next,
        })
    }

    /// Finds what an audit requests (wire §15.3 and §15.4): the exact day.
    pub(crate) fn find_exact(
        &self,
        date: Day,
        tag: &str,
    ) -> Result<Arc<DownloadBatch>, DownloadRefusal> {
        let batches = self.read();
        let batch = &batches[position_of(&batches, tag)?];
        if batch.tag.day == date {
            Ok(Arc::clone(batch))
        } else {
            Err(DownloadRefusal::OtherDay)
        }
    }

    /// How many batches there are after a tag; all of them after none.
    pub(crate) fn count_behind(&self, tag: Option<BatchTag>) -> usize {
        let batches = self.read();
        let seen = tag.map_or(0, |tag| batches.partition_point(|batch| batch.tag <= tag));
        batches.len() - seen
    }

    /// The memory that the list takes, with the members of each batch, without their keys.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Arc<DownloadBatch>>> {
        self.batches.read_ignoring_poison()
    }

    fn withdrawn(&self) -> RwLockReadGuard<'_, HashSet<Seq>> {
        self.withdrawn.read_ignoring_poison()
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Arc<DownloadBatch>>> {
        self.batches.write_ignoring_poison()
    }
}

/// The memory of a batch with its members, in the list.
fn bytes_of(batch: &DownloadBatch) -> u64 {
    // A place in the list, the counts of an `Arc`, and what its allocations take beyond them.
    let each = size_of::<DownloadBatch>() + 5 * size_of::<usize>();
    (each + batch.uploads.len() * size_of::<BundledUpload>()) as u64
}

/// Appends those of `batches` that come after the last known one, without the keys of withdrawn
/// uploads; returns the memory that they take.
fn append(
    known: &mut Vec<Arc<DownloadBatch>>,
    batches: &[Arc<DownloadBatch>],
    withdrawn: &HashSet<Seq>,
) -> u64 {
    let mut bytes = 0;
    for batch in batches {
        if known.last().is_none_or(|last| last.ordinal < batch.ordinal) {
            let changed = batch.without(withdrawn).map(Arc::new);
            known.push(changed.unwrap_or_else(|| Arc::clone(batch)));
            bytes += bytes_of(batch);
        }
    }
    bytes
}

/// Tags ascend along the chain: days never decrease, numbers ascend within a day.
fn position_of(batches: &[Arc<DownloadBatch>], tag: &str) -> Result<usize, DownloadRefusal> {
    let tag = BatchTag::parse(tag).map_err(|_| DownloadRefusal::UnknownBatchTag)?;
    let position = batches.binary_search_by_key(&tag, |batch| batch.tag);
    position.map_err(|_| DownloadRefusal::UnknownBatchTag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::BundledUpload;
    use crate::domain::Country;

    fn day(text: &str) -> Day {
        Day::parse_iso(text).unwrap()
    }

    fn batches(tags: &[&str]) -> Vec<Arc<DownloadBatch>> {
        let batch = |(ordinal, tag): (u64, &&str)| {
            let tag = BatchTag::parse(tag).unwrap();
            Arc::new(DownloadBatch {
                ordinal,
                tag,
                seqs: ordinal..=ordinal,
                uploads: Vec::new(),
                record: Default::default(),
            })
        };
        (1..).zip(tags).map(batch).collect()
    }

    fn catalog(tags: &[&str]) -> Catalog {
        let catalog = Catalog::default();
        catalog.append(&batches(tags));
        catalog
    }

    fn check(
        date: &str,
        tag: Option<&str>,
        expected: Result<(&str, Option<&str>), DownloadRefusal>,
    ) {
        let catalog = catalog(&["20201006-1", "20201006-2", "20201008-1"]);
        let found = catalog.find(day(date), tag);
        let found = found.map(|f| (f.batch.tag.to_string(), f.next.map(|tag| tag.to_string())));
        let expected = expected.map(|(tag, next)| (tag.to_owned(), next.map(str::to_owned)));
        assert_eq!(found, expected, "{date} {tag:?}");
    }

    #[test]
    fn begins_with_the_first_batch_of_the_day_or_later() {
        check("2020-10-05", None, Ok(("20201006-1", Some("20201006-2"))));
        check("2020-10-06", None, Ok(("20201006-1", Some("20201006-2"))));
        check("2020-10-07", None, Ok(("20201008-1", None)));
        check("2020-10-09", None, Err(DownloadRefusal::NoBatchOnDate));
    }

    #[test]
    fn links_cross_days() {
        check(
            "2020-10-06",
            Some("20201006-2"),
            Ok(("20201006-2", Some("20201008-1"))),
        );
        check("2020-10-06", Some("20201008-1"), Ok(("20201008-1", None)));
    }

    #[test]
    fn refuses_unknown_tags_and_batches_before_the_date() {
        let unknown = DownloadRefusal::UnknownBatchTag;
        for tag in ["20201006-3", "20201007-1", "", "null", "1"] {
            check("2020-10-06", Some(tag), Err(unknown));
        }
        check(
            "2020-10-07",
            Some("20201006-2"),
            Err(DownloadRefusal::BatchBeforeDate),
        );
    }

    #[test]
    fn audits_only_on_the_exact_day() {
        let catalog = catalog(&["20201006-1", "20201008-1"]);
        let find = |date, tag| {
            catalog
                .find_exact(day(date), tag)
                .map(|batch| batch.ordinal)
        };
        assert_eq!(find("2020-10-08", "20201008-1"), Ok(2));
        assert_eq!(
            find("2020-10-07", "20201008-1"),
            Err(DownloadRefusal::OtherDay)
        );
        assert_eq!(
            find("2020-10-08", "20201008-2"),
            Err(DownloadRefusal::UnknownBatchTag)
        );
    }

    #[test]
    fn leaves_known_batches_out_and_drops_expired_ones() {
        let catalog = catalog(&["20201006-1", "20201006-2"]);
        let newest = catalog.newest().unwrap();
        catalog.append(&[newest]);
        assert_eq!(catalog.read().len(), 2);
        assert_eq!(catalog.expire(day("2020-10-06")), None);
        assert_eq!(catalog.expire(day("2020-10-07")), Some(2));
        assert!(catalog.newest().is_none());
    }

    #[test]
    fn knows_its_memory_whatever_comes_and_goes() {
        let chain = batches(&["20201006-1", "20201006-2", "20201007-1", "20201008-1"]);
        let catalog = Catalog::default();
        let holds = |count: u64| {
            let batches = catalog.read();
            assert_eq!(batches.len() as u64, count);
            let bytes: u64 = batches.iter().map(|batch| bytes_of(batch)).sum();
            assert_eq!(catalog.bytes(), bytes);
            assert_eq!(bytes > 0, count > 0);
        };
        catalog.append(&chain[1..3]);
        catalog.append(&chain[2..]);
        holds(3);
        catalog.withdraw([Seq(2)]);
        catalog.replace(&chain[..2]);
        holds(4);
        catalog.expire(day("2020-10-07"));
        holds(2);
        catalog.drop_through(u64::MAX);
        holds(0);
    }

    #[test]
    fn takes_older_batches_back_whatever_a_reader_appends_meanwhile() {
        let chain = batches(&["20201006-1", "20201006-2", "20201007-1", "20201007-2"]);
        let catalog = Catalog::default();
        catalog.append(&chain[2..3]);
        let read_again = chain[..3].to_vec();
        catalog.append(&chain[3..]);
        catalog.replace(&read_again);
        assert_eq!(*catalog.read(), chain);
        catalog.replace(&[]);
        assert_eq!(*catalog.read(), chain, "all of it was cut since");
    }

    #[test]
    fn leaves_withdrawn_uploads_out_of_what_it_has_and_what_comes() {
        let batch = |seq: u64, tag: &str| {
            let upload = BundledUpload {
                seq: Seq(seq),
                country: Country::parse("DE").unwrap(),
                key_count: 1,
                is_withdrawn: false,
            };
            Arc::new(DownloadBatch {
                ordinal: seq,
                tag: BatchTag::parse(tag).unwrap(),
                seqs: seq..=seq,
                record: Default::default(),
                uploads: vec![upload],
            })
        };
        let catalog = Catalog::default();
        catalog.append(&[batch(1, "20201006-1"), batch(2, "20201006-2")]);
        catalog.withdraw([Seq(2), Seq(3)]);
        catalog.append(&[batch(3, "20201006-3"), batch(4, "20201006-4")]);
        let withdrawn = |catalog: &Catalog| -> Vec<bool> {
            let batches = catalog.read();
            batches
                .iter()
                .map(|batch| batch.uploads[0].is_withdrawn)
                .collect()
        };
        assert_eq!(withdrawn(&catalog), [false, true, true, false]);
        catalog.replace(&[batch(1, "20201006-1"), batch(2, "20201006-2")]);
        assert_eq!(withdrawn(&catalog), [false, true, true, false]);
    }
}
