//! Uploads at the writer, and how they are answered.

use std::fmt;

use crate::failure::{DatabaseError, Failure};
use crate::upload::{Receipt, Reply, SealedBatch, UploadError};

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

/// Answers an upload that is done with; gives nothing, so that it can end a filter.
pub(super) fn answer(
    submission: Submission,
    answer: Result<Receipt, UploadError>,
) -> Option<Submission> {
    let Submission { batch, reply } = submission;
    // The room is free before the participant hears of it and sends the next upload.
    drop(batch);
    reply(answer);
    None
}

/// Refuses uploads since the database did not store them.
pub(super) fn refuse_all(group: Vec<Submission>, failure: &DatabaseError) {
    for submission in group {
        let error = DatabaseError {
            doing: failure.doing,
            source: failure.source.to_string().into(),
        };
        answer(submission, Err(Failure::Database(error).into()));
    }
}
