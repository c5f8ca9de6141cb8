//! The key that authenticates rows of the database.

use std::fmt;

use aws_lc_rs::{constant_time, hmac};

use super::secret::{SECRET_BYTES, derive};

/// Authenticates rows of the database: anyone who can write it and does not have the key file cannot
/// make them.
#[derive(Clone)]
pub(crate) struct MacKey(hmac::Key);

impl MacKey {
    pub(super) fn new(secret: &[u8; SECRET_BYTES], label: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &derive(secret, label)))
    }

    /// HMAC-SHA-256 over the parts, each with its length before it: no two lists of parts have the
    /// same input.
    pub(crate) fn digest<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        tag.as_ref().try_into().expect("SHA-256 gives 32 bytes")
    }

    /// Whether a digest that was found is the one that was computed, in constant time.
    pub(crate) fn is_same(found: &[u8], computed: &[u8; 32]) -> bool {
        constant_time::verify_slices_are_equal(found, computed).is_ok()
    }
}

/// Does not show the key.
impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(..)")
    }
}
