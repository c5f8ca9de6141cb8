//! Uploads at the writer, and how they are answered.

use std::fmt;

use crate::admission::Permit;
use crate::dedup::{Duplicates, IdentitySet};
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
    pub(crate) answer: FromMemory,
    pub(crate) permit: Permit,
    pub(crate) reply: Reply,
}

/// What is found in memory.
#[derive(Debug)]
pub(crate) enum FromMemory {
    /// Final: a replay, a taken tag.
    Final(Result<Receipt, Rejection>),
    /// Duplicates, perhaps with further ones in what other gateways have stored meanwhile.
    Duplicates(Duplicates),
    /// A dry run without duplicates, unless other gateways have stored some meanwhile.
    DryRun(Duplicates),
}

impl FromMemory {
    /// As the participant hears it, once the set has everything that is in the log.
    fn complete(self, set: &IdentitySet) -> Result<Receipt, Rejection> {
        match self {
            Self::Final(answer) => answer,
            Self::Duplicates(mut found) => {
                found.complete(set);
                Ok(refused(found))
            }
            Self::DryRun(mut found) => {
                found.complete(set);
                let key_count = key_count(&found);
                Ok(match found.positions.is_empty() {
                    true => Receipt::Stored {
                        key_count,
                        replayed: false,
                    },
                    false => refused(found),
                })
            }
        }
    }
}

fn key_count(found: &Duplicates) -> u32 {
    u32::try_from(found.identities.len()).unwrap_or(u32::MAX)
}

fn refused(found: Duplicates) -> Receipt {
    Receipt::Refused {
        key_count: key_count(&found),
        duplicates: found.positions,
    }
}

impl fmt::Debug for Unconfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unconfirmed").field(&self.answer).finish()
    }
}

impl Unconfirmed {
    /// The answer to an upload that need not be stored.
    pub(super) fn to(submission: Submission, answer: FromMemory) -> Self {
        let Submission { batch, reply } = submission;
        Self {
            answer,
            permit: batch.permit,
            reply,
        }
    }

    /// Answers: the database has confirmed it, and the set has what is in the log, or there is a
    /// failure.
    pub(super) fn give(self, set: &IdentitySet, failure: Option<Failure>) {
        let Self {
            answer,
            permit,
            reply,
        } = self;
        let answer = match failure {
            Some(failure) => Err(failure.into()),
            None => answer.complete(set).map_err(Into::into),
        };
        // The room is free before the participant hears of it and sends the next upload.
        drop(permit);
        reply(answer);
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

/// Why uploads cannot be stored.
#[derive(Debug)]
pub(super) struct StoreError {
    pub(super) error: DatabaseError,
    /// Whether the database answers, and refuses.
    pub(super) is_reachable: bool,
}

impl StoreError {
    /// As a participant's answer: the cause as text.
    pub(super) fn failure(&self) -> Failure {
        let error = DatabaseError {
            doing: self.error.doing,
            source: self.error.source.to_string().into(),
        };
        match self.is_reachable {
            true => Failure::StorageRefused(error),
            false => Failure::Database(error),
        }
    }
}
