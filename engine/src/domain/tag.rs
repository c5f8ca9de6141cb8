//! Two kinds of tags: the participant's own for an upload, and ours for a download batch.

use std::fmt;
use std::str::FromStr;

use super::day::Day;

/// A participant's own name for an upload: 1 to 64 visible ASCII characters, compared as exact
/// bytes, unique per country (decisions 3 and 14).
///
/// In the log, an upload under a tag that was used before and freed since ([decision 33]) has the
/// number of its use behind the tag, as `TAG 2`: no participant can send that.
///
/// [decision 33]: ../../../docs/protocol/decisions.md
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadTag(Box<str>);

/// Stands between a tag and the number of its use.
const USE: char = ' ';

/// With this many, the column holds the longest tag.
const USES_MAX: u32 = 999_999;

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

    /// Checks and takes a tag as the log has it.
    ///
    /// # Errors
    /// When it is neither a tag nor one with the number of its use.
    pub(crate) fn parse_logged(text: &str) -> Result<Self, UploadTagError> {
        let Some((tag, number)) = text.split_once(USE) else {
            return Self::parse(text);
        };
        let tag = Self::parse(tag)?;
        match number.parse() {
            Ok(use_number @ 2..=USES_MAX) => Some(tag.in_use(use_number)),
            _ => None,
        }
        .filter(|logged| *logged.0 == *text)
        .ok_or(UploadTagError)
    }

    /// The tag as in the log, or as sent: then it is the same.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag as it was sent.
    pub(crate) fn as_sent(&self) -> Self {
        match self.0.split_once(USE) {
            None => self.clone(),
            Some((tag, _)) => Self(tag.into()),
        }
    }

    /// Which use of the tag this is, from 1.
    pub(crate) fn use_number(&self) -> u32 {
        let number = self.0.split_once(USE);
        number.map_or(1, |(_, number)| number.parse().unwrap_or(1))
    }

    /// The same tag in another use.
    pub(crate) fn in_use(&self, number: u32) -> Self {
        let sent = self.as_sent();
        match number {
            0 | 1 => sent,
            _ => Self(format!("{sent}{USE}{}", number.min(USES_MAX)).into()),
        }
    }
}

impl FromStr for UploadTag {
    type Err = UploadTagError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
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
    /// Parses exactly the form that we write; anything else names no batch.
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

impl FromStr for BatchTag {
    type Err = BatchTagError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
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
    fn has_the_number_of_its_use_in_the_log_only() {
        let longest = "x".repeat(64);
        for sent in ["1", longest.as_str()] {
            let tag = UploadTag::parse(sent).unwrap();
            assert_eq!((tag.use_number(), tag.as_sent()), (1, tag.clone()));
            let again = tag.in_use(2);
            assert_eq!(again.as_str(), format!("{sent} 2"));
            assert_eq!((again.use_number(), again.as_sent()), (2, tag.clone()));
            assert_eq!(again.in_use(17).as_str(), format!("{sent} 17"));
            assert_eq!(again.in_use(1), tag);
            assert_eq!(UploadTag::parse_logged(again.as_str()), Ok(again.clone()));
            assert!(again.in_use(u32::MAX).as_str().len() <= 72);
            assert_eq!(UploadTag::parse(again.as_str()), Err(UploadTagError));
        }
        for text in ["a blank", "a 1", "a 02", "a 2 2", " 2", "a ", "a 1000000"] {
            assert_eq!(UploadTag::parse_logged(text), Err(UploadTagError), "{text}");
        }
    }

    #[test]
    fn parses_only_the_form_that_it_writes() {
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
