//! A participant's position in the chain of download batches.

/// The last batch received and the one announced after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) last: Option<String>,
    pub(super) next: Option<String>,
    pub(super) keys: u64,
}
