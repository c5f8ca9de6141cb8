//! What the writer has of the log while it re-checks and commits a group.

/// Access to the tail of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogAccess {
    /// The database is unavailable.
    Unavailable,
    /// A connection: another gateway may append first.
    Shared,
    /// The tail is locked: nobody else appends until it is released.
    Exclusive,
}
