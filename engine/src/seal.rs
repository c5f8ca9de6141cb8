//! Seal (stub, being built).

use std::fmt;
use std::sync::Arc;

/// Why sealed key data cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// No key with this id is configured.
    #[error("no sealing key with id {0} is configured")]
    UnknownKey(u32),
    /// The bytes were changed, or the key with this id is another one.
    #[error("the seal is broken")]
    Broken,
}

/// The secret keys of an installation: one identity key, and a ring of sealing keys of which the
/// newest seals.
///
/// Written as text, a line a key: `identity BASE64`, `sealing ID BASE64`; each 32 bytes; `#` begins
/// a comment; the sealing key with the highest id seals.
#[derive(Clone)]
pub struct Keys(Arc<KeysInner>);

struct KeysInner {
    #[allow(dead_code, reason = "stub")]
    identity: [u8; 32],
}

impl Keys {
    /// Reads the text form.
    ///
    /// # Errors
    /// One sentence that says what is wrong, without any part of the text.
    pub fn parse(_text: &str) -> Result<Self, crate::StartError> {
        Ok(Self(Arc::new(KeysInner { identity: [0; 32] })))
    }

    /// Makes fresh random keys, in text form.
    pub fn generate_text() -> String {
        String::new()
    }
}

/// Does not show the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}
