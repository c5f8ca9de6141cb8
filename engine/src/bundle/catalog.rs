//! The chain of download batches that can be requested, in memory.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::download_batch::DownloadBatch;
use super::refusal::DownloadRefusal;
use crate::domain::{BatchTag, Day};

/// All download batches young enough to be served, in order, behind a lock that is held only for a
/// binary search.
#[derive(Debug, Default)]
pub(crate) struct Catalog(RwLock<Vec<Arc<DownloadBatch>>>);

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
        append(&mut self.write(), batches);
    }

    /// Replaces all known batches by these, but keeps what was appended behind them since they were
    /// read.
    pub(crate) fn replace(&self, mut batches: Vec<Arc<DownloadBatch>>) {
        let mut known = self.write();
        append(&mut batches, &known);
        *known = batches;
    }

    /// Drops what is older than `oldest`; returns the last dropped ordinal, if any.
    pub(crate) fn expire(&self, oldest: Day) -> Option<u64> {
        let is_old = |batch: &Arc<DownloadBatch>| batch.tag.day < oldest;
        // Nearly always there is nothing to do: do not make readers wait for the write lock.
        if !self.read().first().is_some_and(is_old) {
            return None;
        }
        let mut known = self.write();
        let expired = known.partition_point(is_old);
        known
            .drain(..expired)
            .next_back()
            .map(|batch| batch.ordinal)
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

    fn read(&self) -> RwLockReadGuard<'_, Vec<Arc<DownloadBatch>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Arc<DownloadBatch>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends those of `batches` that come behind the last known one.
fn append(known: &mut Vec<Arc<DownloadBatch>>, batches: &[Arc<DownloadBatch>]) {
    for batch in batches {
        if known.last().is_none_or(|last| last.ordinal < batch.ordinal) {
            known.push(Arc::clone(batch));
        }
    }
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
    fn takes_older_batches_back_whatever_a_reader_appends_meanwhile() {
        let chain = batches(&["20201006-1", "20201006-2", "20201007-1", "20201007-2"]);
        let catalog = Catalog::default();
        catalog.append(&chain[2..3]);
        let read_again = chain[..3].to_vec();
        catalog.append(&chain[3..]);
        catalog.replace(read_again);
        assert_eq!(*catalog.read(), chain);
        catalog.replace(Vec::new());
        assert_eq!(*catalog.read(), chain, "all of it was cut since");
    }
}
