//! Upload tags in use, with the content they stand for.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::domain::{ContentDigest, Country, UploadTag};

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

/// All tags of the log as far as this gateway has followed it; unique per country, exact bytes.
/// About 150 bytes an upload.
#[derive(Debug, Default)]
pub struct TagIndex(RwLock<HashMap<(Country, UploadTag), ContentDigest>>);

impl TagIndex {
    /// Looks a tag up.
    pub fn state(&self, country: Country, tag: &UploadTag, content: &ContentDigest) -> TagState {
        let tags = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match tags.get(&(country, tag.clone())) {
            None => TagState::Free,
            Some(known) if known == content => TagState::SameContent,
            Some(_) => TagState::Taken,
        }
    }

    /// Remembers the tag of a stored upload.
    pub fn insert(&self, country: Country, tag: UploadTag, content: ContentDigest) {
        let mut tags = self.0.write().unwrap_or_else(PoisonError::into_inner);
        tags.insert((country, tag), content);
    }
}
