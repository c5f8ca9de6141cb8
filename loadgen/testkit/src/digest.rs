//! SHA-256.

/// SHA-256 of some bytes.
///
/// # Panics
/// Never: SHA-256 has 32 bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
