//! Upload tags in use, with the content they stand for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::domain::{ContentDigest, Country, Day, UploadTag};
use crate::locks::RwLockIgnoringPoison;

/// What is known of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagState {
    /// No upload of the country has used it.
    Free,
    /// It stands for the very same content: a retry after a lost answer.
    SameContent,
    /// It stands for other content.
    Taken,
}

/// A tag as sent.
type Key = (Country, UploadTag);

/// Those of a day.
#[derive(Debug, Default)]
struct Tags {
    /// By the tag as sent: the content, and which use of the tag it is.
    by_name: HashMap<Key, (ContentDigest, u32)>,
    /// Of the tags themselves.
    text_bytes: usize,
}

impl Tags {
    fn insert(&mut self, key: Key, use_of: (ContentDigest, u32)) {
        let bytes = text_bytes(&key);
        if self.by_name.insert(key, use_of).is_none() {
            self.text_bytes += bytes;
        }
    }

    fn remove(&mut self, key: &Key) {
        if self.by_name.remove(key).is_some() {
            self.text_bytes -= text_bytes(key);
        }
    }

    fn bytes(&self) -> usize {
        let entry = size_of::<(Key, (ContentDigest, u32))>() + 1;
        // A table is at most seven eighths full.
        self.by_name.capacity() * entry * 8 / 7 + self.text_bytes
    }
}

/// Of an allocation: the text, and at the most so much beyond it.
fn text_bytes((_, tag): &Key) -> usize {
    tag.as_str().len() + 16
}

#[derive(Debug, Default)]
struct Known {
    days: BTreeMap<Day, Tags>,
    /// Tags as sent that were freed, with the number of the use that comes next.
    freed: HashMap<(Country, UploadTag), u32>,
}

impl Known {
    /// The number of the use that comes next, of a tag as sent.
    fn next_use(&self, key: &(Country, UploadTag)) -> u32 {
        self.freed.get(key).copied().unwrap_or(1)
    }
}

/// All tags of the log as far as this gateway has followed it; unique per country, exact bytes.
/// About 150 bytes per upload. By the day of the upload, so that a day is forgotten at once; a
/// lookup asks each of the eighteen days, a microsecond per upload.
#[derive(Debug, Default)]
pub struct TagIndex(RwLock<Known>);

impl TagIndex {
    /// Looks a tag up, as sent or as in the log.
    pub fn state(&self, country: Country, tag: &UploadTag, content: &ContentDigest) -> TagState {
        state(&self.read(), &(country, tag.as_sent()), content)
    }

    /// The same for an upload that is to be stored under this tag of the log. If the tag was freed
    /// since the upload was sealed, it was sent while the tag was in use.
    pub(crate) fn state_in_log(
        &self,
        country: Country,
        tag: &UploadTag,
        content: &ContentDigest,
    ) -> TagState {
        let known = self.read();
        let key = (country, tag.as_sent());
        match state(&known, &key, content) {
            TagState::Free if tag.use_number() < known.next_use(&key) => TagState::Taken,
            state => state,
        }
    }

    /// A tag as an upload that is stored next has it in the log.
    pub(crate) fn for_next_use(&self, country: Country, tag: &UploadTag) -> UploadTag {
        let known = self.read();
        if known.freed.is_empty() {
            return tag.clone();
        }
        let sent = (country, tag.as_sent());
        sent.1.in_use(known.next_use(&sent))
    }

    /// Remembers the tag of an upload that was stored on `day`, unless that use of it was freed.
    pub fn insert(&self, country: Country, tag: UploadTag, content: ContentDigest, day: Day) {
        let use_number = tag.use_number();
        let key = (country, tag.as_sent());
        let mut known = self.write();
        if use_number >= known.next_use(&key) {
            let tags = known.days.entry(day).or_default();
            tags.insert(key, (content, use_number));
        }
    }

    /// The memory that the tags take.
    pub fn bytes(&self) -> u64 {
        let known = self.read();
        let freed = known.freed.capacity() * size_of::<(Key, u32)>();
        (known.days.values().map(Tags::bytes).sum::<usize>() + freed) as u64
    }

    /// Frees a tag of the log: it can be used again.
    pub(crate) fn free(&self, country: Country, tag: &UploadTag) {
        let freed = tag.use_number();
        let key = (country, tag.as_sent());
        let mut known = self.write();
        for tags in known.days.values_mut() {
            if tags.by_name.get(&key).is_some_and(|(_, of)| *of <= freed) {
                tags.remove(&key);
            }
        }
        let next = known.freed.entry(key).or_default();
        *next = freed.saturating_add(1).max(*next);
    }

    /// Forgets the tags of uploads that were stored before a day.
    pub(crate) fn forget_before(&self, before: Day) {
        let mut known = self.write();
        let kept = known.days.split_off(&before);
        let forgotten = std::mem::replace(&mut known.days, kept);
        drop(known);
        // Freeing takes milliseconds, and nobody waits for it.
        drop(forgotten);
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read_ignoring_poison()
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write_ignoring_poison()
    }
}

fn state(known: &Known, key: &(Country, UploadTag), content: &ContentDigest) -> TagState {
    // A tag that was free again counts with its latest use.
    match known
        .days
        .values()
        .rev()
        .find_map(|tags| tags.by_name.get(key))
    {
        None => TagState::Free,
        Some((known, _)) if known == content => TagState::SameContent,
        Some(_) => TagState::Taken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_whole_days_and_knows_a_tag_by_its_latest_use() {
        let country = Country::parse("DE").unwrap();
        let tag = |text| UploadTag::parse(text).unwrap();
        let day = |n: u64| Day::from_unix_seconds(n * 86_400);
        let (old, new) = (ContentDigest([1; 32]), ContentDigest([2; 32]));
        let index = TagIndex::default();
        index.insert(country, tag("a"), old, day(1));
        index.insert(country, tag("b"), old, day(2));
        index.insert(country, tag("a"), new, day(3));
        let state = |text, content| index.state(country, &tag(text), content);
        assert_eq!(state("a", &new), TagState::SameContent);
        assert_eq!(state("a", &old), TagState::Taken);
        index.forget_before(day(3));
        assert_eq!(state("a", &new), TagState::SameContent);
        assert_eq!(state("b", &old), TagState::Free);
        let bytes = index.bytes();
        for n in 0..10_000 {
            index.insert(
                country,
                UploadTag::parse(&format!("{n:040}")).unwrap(),
                old,
                day(4),
            );
        }
        let each = (index.bytes() - bytes) / 10_000;
        assert!((100..250).contains(&each), "{each} bytes per tag");
        index.forget_before(day(4).next());
        assert_eq!(index.bytes(), 0);
    }
    #[test]
    fn frees_one_use_of_a_tag_whatever_the_order() {
        let country = Country::parse("DE").unwrap();
        let (sent, day) = (UploadTag::parse("a").unwrap(), Day::from_unix_seconds(0));
        let (old, new) = (ContentDigest([1; 32]), ContentDigest([2; 32]));
        let again = sent.in_use(2);
        for row_comes_first in [true, false] {
            let index = TagIndex::default();
            index.insert(country, sent.clone(), old, day);
            assert_eq!(index.for_next_use(country, &sent), sent);
            if row_comes_first {
                index.insert(country, again.clone(), new, day);
            }
            index.free(country, &sent);
            assert_eq!(index.for_next_use(country, &sent), again);
            if !row_comes_first {
                assert_eq!(index.state(country, &sent, &old), TagState::Free);
                assert_eq!(index.state_in_log(country, &sent, &old), TagState::Taken);
                assert_eq!(index.state_in_log(country, &again, &old), TagState::Free);
                index.insert(country, again.clone(), new, day);
            }
            assert_eq!(index.state(country, &sent, &new), TagState::SameContent);
            // The row that was freed comes by again, as from a look-up.
            index.insert(country, sent.clone(), old, day);
            assert_eq!(index.state(country, &sent, &old), TagState::Taken);
            index.free(country, &again);
            assert_eq!(index.for_next_use(country, &sent), sent.in_use(3));
            assert_eq!(index.state(country, &sent, &new), TagState::Free);
        }
    }
}
