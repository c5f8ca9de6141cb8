//! Two kinds of tags: the participant's own for an upload, and ours for a download batch.

use std::fmt;

use super::day::Day;

/// A participant's own name for an upload: 1 to 64 visible ASCII characters, compared as exact
/// bytes, unique per country (decisions 3 and 14).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadTag(Box<str>);

/// The text is no upload tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an upload tag has 1 to 64 visible ASCII characters")]
pub struct UploadTagError;

impl UploadTag {
    /// Longest tag, in characters (the reference's column; NL uses all of it).
    pub const CHARACTERS_MAX: usize = 64;

    /// Checks and takes a tag.
    ///
    /// # Errors
    /// When it is empty, longer than 64 characters, or not visible ASCII.
    pub fn parse(text: &str) -> Result<Self, UploadTagError> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > Self::CHARACTERS_MAX || !visible {
            return Err(UploadTagError);
        }
        Ok(Self(text.into()))
    }

    /// The tag as sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Our name for a download batch: `yyyyMMdd-N`, N from 1 each UTC day, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchTag {
    /// The UTC day on which the batch was cut.
    pub day: Day,
    /// Its number within the day, from 1.
    pub number: u32,
}

/// The text is no batch tag that this gateway could have given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a batch tag is written yyyyMMdd-N")]
pub struct BatchTagError;

impl BatchTag {
    /// Reads the exact spelling that we give; anything else is the name of no batch.
    ///
    /// # Errors
    /// When the text is spelled otherwise.
    pub fn parse(text: &str) -> Result<Self, BatchTagError> {
        let (day, number) = text.split_once('-').ok_or(BatchTagError)?;
        let canonical = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
        if !canonical {
            return Err(BatchTagError);
        }
        let number = number.parse().map_err(|_| BatchTagError)?;
        Ok(Self {
            day: Day::parse_compact(day).map_err(|_| BatchTagError)?,
            number,
        })
    }
}

impl fmt::Display for BatchTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}-{}", self.day.compact_number(), self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_one_to_64_visible_characters() {
        let longest = "x".repeat(64);
        for tag in ["1", "2020-10-5-Ab+/==-1", "~", longest.as_str()] {
            assert_eq!(UploadTag::parse(tag).unwrap().as_str(), tag);
        }
        for tag in ["", "a b", "a\tb", "é", "\u{7f}", &"x".repeat(65)] {
            assert_eq!(UploadTag::parse(tag), Err(UploadTagError), "{tag:?}");
        }
    }

    #[test]
    fn reads_only_the_spelling_that_it_writes() {
        let tag = BatchTag::parse("20201006-17").unwrap();
        assert_eq!(
            (tag.day.to_string().as_str(), tag.number),
            ("2020-10-06", 17)
        );
        assert_eq!(tag.to_string(), "20201006-17");
        for text in [
            "",
            "20201006",
            "20201006-",
            "20201006-0",
            "20201006-01",
            "20201006-+1",
            "2020106-1",
            "20201306-1",
            "20201006-1 ",
            "20201006-99999999999",
            "null",
        ] {
            assert_eq!(BatchTag::parse(text), Err(BatchTagError), "{text:?}");
        }
    }
}
