//! Upload tags in use, with the content they stand for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};

use crate::domain::{ContentDigest, Country, Day, UploadTag};

/// What is known of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagState {
    /// Nobody of the country has used it.
    Free,
    /// It stands for the very same content: a retry after a lost answer.
    SameContent,
    /// It stands for other content.
    Taken,
}

type Tags = HashMap<(Country, UploadTag), ContentDigest>;

/// All tags of the log as far as this gateway has followed it; unique per country, exact bytes.
/// About 150 bytes per upload. By the day of the upload, so that a day is forgotten at once; a
/// lookup asks each of the eighteen days, a microsecond per upload.
#[derive(Debug, Default)]
pub struct TagIndex(RwLock<BTreeMap<Day, Tags>>);

impl TagIndex {
    /// Looks a tag up.
    pub fn state(&self, country: Country, tag: &UploadTag, content: &ContentDigest) -> TagState {
        let key = (country, tag.clone());
        let days = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // A tag that was free again counts with its latest use.
        match days.values().rev().find_map(|tags| tags.get(&key)) {
            None => TagState::Free,
            Some(known) if known == content => TagState::SameContent,
            Some(_) => TagState::Taken,
        }
    }

    /// Remembers the tag of an upload that was stored on `day`.
    pub fn insert(&self, country: Country, tag: UploadTag, content: ContentDigest, day: Day) {
        let mut days = self.0.write().unwrap_or_else(PoisonError::into_inner);
        days.entry(day).or_default().insert((country, tag), content);
    }

    /// Forgets the tags of uploads that were stored before a day.
    pub(crate) fn forget_before(&self, before: Day) {
        let mut days = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let kept = days.split_off(&before);
        let forgotten = std::mem::replace(&mut *days, kept);
        drop(days);
        // Freeing takes milliseconds, and nobody waits for it.
        drop(forgotten);
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
    }
}
