//! What others do after a commit.

use std::fmt;

use bytes::Bytes;

use crate::domain::Seq;

/// Told by the writer of what is durable, on its thread; must not block. Dropped when the writer
/// ends.
pub(crate) trait AfterCommit: fmt::Debug + Send {
    /// An upload of this gateway is stored at a position of the log. These are its encoded keys.
    fn stored(&self, seq: Seq, segment: Bytes);

    /// The log has grown, by this gateway's uploads or by others'.
    fn log_grown(&self);
}
