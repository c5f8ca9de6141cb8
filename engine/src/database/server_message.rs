//! A database server's error text, bounded and escaped, as the source of an error.

use std::fmt;

use crate::text::excerpt;

/// An [`excerpt`] of a server's text.
#[derive(Debug)]
pub(super) struct ServerMessage(String);

impl ServerMessage {
    pub(super) fn new(text: &str) -> Self {
        Self(excerpt(text))
    }
}

impl fmt::Display for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServerMessage {}
