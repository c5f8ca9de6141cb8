//! Answers from memory: a replay, a taken tag, duplicates. Each is given only after the database has
//! shown that it still has the row at our position: otherwise an upload could be acknowledged that is
//! stored nowhere.

use crossbeam::channel::Receiver;

use super::{Tries, Writer};
use crate::failure::Failure;
use crate::limits;
use crate::persist::submission::{Incoming, StoreError, Submission, Unconfirmed};

impl Writer {
    /// Keeps an answer until the memory that it comes from is confirmed: by a commit after the row
    /// at our position, or by reading the row.
    pub(super) fn answer_when_confirmed(&mut self, unconfirmed: Unconfirmed) {
        self.unconfirmed.push(unconfirmed);
        self.is_confirmed = false;
    }

    /// Returns the answers that were found since the last time. Asks the database unless a commit
    /// has come after them.
    pub(super) fn answer_unconfirmed(&mut self) {
        if self.unconfirmed.is_empty() {
            return;
        }
        let tries = Tries::new();
        while !self.is_confirmed
            && !self.continuity.has_gone_back()
            && self.retries.may_retry(tries)
        {
            self.follow();
            if !self.is_confirmed && !self.continuity.has_gone_back() {
                std::thread::sleep(limits::RECONNECT_INTERVAL);
            }
        }
        // What others have stored before the database confirmed belongs to the duplicates.
        self.apply_stored();
        for unconfirmed in std::mem::take(&mut self.unconfirmed) {
            unconfirmed.give(&self.state.set, self.failure());
        }
    }

    /// Why no answer can be given from memory, if none can.
    fn failure(&self) -> Option<Failure> {
        if self.continuity.has_gone_back() {
            Some(Failure::DatabaseWentBack)
        } else if !self.is_confirmed {
            let unavailable = StoreError {
                is_reachable: false,
                ..self.retries.unavailable()
            };
            Some(unavailable.failure())
        } else if self.continuity.confirm_written().is_err() {
            Some(Failure::StateFile)
        } else {
            None
        }
    }

    /// The database has gone back: refuses a group and all that waits after it.
    pub(super) fn refuse_everything(
        &mut self,
        mut group: Vec<Submission>,
        submissions: &Receiver<Incoming>,
    ) {
        self.store = None;
        self.next_keys.clear();
        submissions
            .try_iter()
            .for_each(|incoming| self.take_in(incoming));
        group.append(&mut self.next_group);
        group.extend(self.deferred.drain(..));
        group.extend(std::iter::from_fn(|| self.waiting.pop()));
        for submission in group {
            submission.fail(Failure::DatabaseWentBack);
        }
    }
}
