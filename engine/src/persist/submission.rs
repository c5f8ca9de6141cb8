//! Uploads at the writer, and how they are answered.

use std::fmt;

use crate::admission::Permit;
use crate::failure::{DatabaseError, Failure};
use crate::upload::{Receipt, Rejection, Reply, SealedBatch};

/// An upload to be stored, and how its participant is answered.
pub(crate) struct Submission {
    pub(crate) batch: SealedBatch,
    pub(crate) reply: Reply,
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Submission").field(&self.batch).finish()
    }
}

/// What comes to the writer.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are of the large kind, and a box would be one more allocation for each"
)]
pub(crate) enum Incoming {
    /// To be stored.
    Store(Submission),
    /// A CPU job has found the answer in memory.
    Confirm(Unconfirmed),
}

/// An answer from memory, which is given once the database has confirmed that it still has what this
/// gateway remembers.
pub(crate) struct Unconfirmed {
    pub(crate) answer: Result<Receipt, Rejection>,
    pub(crate) permit: Permit,
    pub(crate) reply: Reply,
}

impl fmt::Debug for Unconfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unconfirmed").field(&self.answer).finish()
    }
}

impl Unconfirmed {
    /// The answer to an upload that need not be stored.
    pub(super) fn to(submission: Submission, answer: Result<Receipt, Rejection>) -> Self {
        let Submission { batch, reply } = submission;
        Self {
            answer,
            permit: batch.permit,
            reply,
        }
    }

    /// Answers: the database has confirmed it, or there is a failure.
    pub(super) fn give(self, failure: Option<Failure>) {
        let Self {
            answer,
            permit,
            reply,
        } = self;
        // The room is free before the participant hears of it and sends the next upload.
        drop(permit);
        reply(match failure {
            Some(failure) => Err(failure.into()),
            None => answer.map_err(Into::into),
        });
    }
}

impl Submission {
    /// Refuses the upload, of which nothing is stored as far as is known.
    pub(super) fn fail(self, failure: Failure) {
        let Self { batch, reply } = self;
        drop(batch);
        reply(Err(failure.into()));
    }
}

/// The same failure once more: its cause as text.
pub(super) fn repeat(failure: &DatabaseError) -> Failure {
    Failure::Database(DatabaseError {
        doing: failure.doing,
        source: failure.source.to_string().into(),
    })
}
