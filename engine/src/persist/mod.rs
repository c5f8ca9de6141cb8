//! Persist: uploads become durable, in one order for all gateways.
//!
//! - *In*: [`SealedBatch`](crate::upload::SealedBatch), through a bounded channel.
//! - *Out*: a [`Receipt`](crate::upload::Receipt), only after the commit.
//!   An answer from memory waits until the database has confirmed that it still has the row at our
//!   position.
//! - *Refuses*: a tag taken for other content; duplicates that were inserted after the probe.
//! - *Assumes*: one writer per gateway; any number of gateways. The primary key of the log is the
//!   arbiter between them.
//! - *Runs on*: the writer thread, and the commit thread that waits for the database meanwhile.
//!
//! Weighed against: one row per key (0.03 to 0.4 M keys/s, falling with the size of the index, where
//! the log keeps 2.7 M flat), and a lock between gateways for every commit (one more round trip, and
//! a lease to lose); a gateway takes a lock only after it has lost the race too often.

mod access;
mod after_commit;
mod backoff;
mod freed_uploads;
mod group;
mod health;
mod key_counts;
mod probing;
mod progress;
mod state;
mod submission;
mod writer;

pub(crate) use after_commit::AfterCommit;
pub(crate) use backoff::Backoff;
pub use progress::StartProgress;
pub(crate) use state::WriterState;
pub(crate) use submission::{FromMemory, Incoming, Submission, Unconfirmed};
pub(crate) use writer::Writer;
