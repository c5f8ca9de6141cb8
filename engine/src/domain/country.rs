//! Two-letter country codes.

use std::fmt;
use std::str::FromStr;

/// A participant's country: exactly two upper-case ASCII letters, as in its certificate row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country([u8; 2]);

/// The text is not two ASCII letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a country is two ASCII letters, as in DE")]
pub struct CountryError;

impl Country {
    /// Reads a country code in either letter case.
    ///
    /// # Errors
    /// When `text` is not two ASCII letters.
    pub fn parse(text: &str) -> Result<Self, CountryError> {
        match *text.as_bytes() {
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Ok(Self([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
            }
            _ => Err(CountryError),
        }
    }

    /// The code, upper case.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("parse admits ASCII letters only")
    }

    /// The two letters.
    pub const fn letters(self) -> [u8; 2] {
        self.0
    }
}

/// As [`Country::parse`].
impl FromStr for Country {
    type Err = CountryError;

    fn from_str(text: &str) -> Result<Self, CountryError> {
        Self::parse(text)
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_two_letters_in_either_case() {
        assert_eq!(Country::parse("de").unwrap().as_str(), "DE");
        for text in ["", "D", "DEU", "D1", "Ä", "D,"] {
            assert_eq!(Country::parse(text), Err(CountryError), "{text:?}");
        }
    }
}
