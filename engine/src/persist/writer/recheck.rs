//! Re-checks uploads against what has come into the log since they were probed.

use super::Writer;
use crate::dedup::{Duplicates, TagState};
use crate::persist::submission::{FromMemory, Submission, Unconfirmed};
use crate::upload::{Receipt, Rejection};

impl Writer {
    /// Finds what can be answered from memory: replays, taken tags, keys that came in after the
    /// probe. Gives back what is to be written.
    pub(super) fn recheck(&mut self, group: Vec<Submission>) -> Vec<Submission> {
        group
            .into_iter()
            .filter_map(|submission| self.recheck_one(submission))
            .collect()
    }

    pub(super) fn recheck_one(&mut self, mut submission: Submission) -> Option<Submission> {
        let batch = &mut submission.batch;
        match self
            .state
            .tags
            .state_in_log(batch.country, &batch.tag, &batch.content)
        {
            TagState::SameContent => {
                let key_count = batch.key_count;
                let replayed = true;
                let receipt = Receipt::Stored {
                    key_count,
                    replayed,
                };
                let answer = FromMemory::Final(Ok(receipt));
                self.answer_when_confirmed(Unconfirmed::to(submission, answer));
                None
            }
            TagState::Taken => {
                let key_count = batch.key_count;
                let rejection = Rejection::UploadTagTaken { key_count };
                let answer = FromMemory::Final(Err(rejection));
                self.answer_when_confirmed(Unconfirmed::to(submission, answer));
                None
            }
            TagState::Free if batch.probe.at == Some(self.position) => Some(submission),
            TagState::Free => {
                self.apply_stored();
                let duplicates = if self.recent.rule_out(&batch.probe) {
                    Vec::new()
                } else {
                    batch.probe.find_duplicates(&self.state.set)
                };
                if duplicates.is_empty() {
                    batch.probe.at = Some(self.position);
                    return Some(submission);
                }
                let answer = FromMemory::Duplicates(Duplicates {
                    positions: duplicates,
                    identities: std::mem::take(&mut batch.probe.identities),
                    at: self.position,
                });
                self.answer_when_confirmed(Unconfirmed::to(submission, answer));
                None
            }
        }
    }
}
