//! Segments in pieces: what is converted to JSON at a time while a large bundle is sent.

use bytes::Bytes;

use crate::limits;
use crate::wire::json;
use crate::wire::protobuf::{KeyMessages, field_bytes};

/// Whole keys of a protobuf segment; its bytes are the segment's, not copied.
#[derive(Debug, Clone)]
pub(super) struct Piece(Bytes);

impl Piece {
    /// Its keys as JSON, behind a comma if others were written before.
    pub(super) fn to_json(&self, is_behind: bool) -> Bytes {
        let mut out = Vec::with_capacity(self.0.len() * 4);
        if is_behind {
            out.extend_from_slice(json::SEPARATOR);
        }
        json::write_segment(&mut out, &self.0);
        out.into()
    }
}

/// Divides a segment into pieces of [`limits::JSON_PIECE_BYTES`], and the key that passes them.
///
/// # Panics
/// When `segment` is not what this gateway encoded.
pub(super) fn pieces(segment: &Bytes) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(segment.len() / limits::JSON_PIECE_BYTES + 1);
    let mut messages = KeyMessages::new(segment);
    let (mut start, mut end) = (0, 0);
    while let Some(message) = messages
        .next_message()
        .expect("segments are encoded by this gateway")
    {
        end += field_bytes(message);
        if end - start >= limits::JSON_PIECE_BYTES {
            pieces.push(Piece(segment.slice(start..end)));
            start = end;
        }
    }
    if end > start {
        pieces.push(Piece(segment.slice(start..end)));
    }
    pieces
}
