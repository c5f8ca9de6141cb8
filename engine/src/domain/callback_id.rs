//! Names of callback subscriptions.

use std::fmt;

/// A participant's own name for a subscription: 1 to 32 characters, compared as exact bytes,
/// unique per country.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallbackId(Box<str>);

/// The text is no callback id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a callback id has 1 to 32 characters")]
pub struct CallbackIdError;

impl CallbackId {
    /// Longest id, in characters (the reference's column; DE uses all of it).
    pub const CHARACTERS_MAX: usize = 32;

    /// Checks and takes an id.
    ///
    /// # Errors
    /// When it is empty, longer than 32 characters, or has a control character.
    pub fn parse(text: &str) -> Result<Self, CallbackIdError> {
        let characters = text.chars().take(Self::CHARACTERS_MAX + 1).count();
        let fits = (1..=Self::CHARACTERS_MAX).contains(&characters);
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(CallbackIdError)
        }
    }

    /// The id as sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallbackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
