//! Secrets, and what is derived from them.

use aws_lc_rs::{hmac, rand};

/// Bytes of a secret: 256 bits.
pub(super) const SECRET_BYTES: usize = 32;

pub(super) const CHECK_LABEL: &[u8] = b"efgs check value";

/// A value that depends on the secret and does not reveal it: HMAC-SHA-256 over a fixed label.
pub(super) fn derive(secret: &[u8; SECRET_BYTES], label: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, label);
    tag.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
