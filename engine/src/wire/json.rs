//! JSON bodies (stub, being built).

use crate::decode::MalformedBatch;
use crate::error::Rejection;

/// Transcodes a JSON body to the protobuf body that means the same.
///
/// # Errors
/// [`Rejection::MalformedBatch`] or [`Rejection::TooManyKeys`].
pub fn to_protobuf(_body: &[u8], _keys_max: u32) -> Result<Vec<u8>, Rejection> {
    Err(MalformedBatch::Json.into())
}
