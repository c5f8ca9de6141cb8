//! Answers from memory: a replay, a taken tag, duplicates. Each is given only after the database has
//! shown that it still has the row at our position; else it would speak of what is stored nowhere.

use std::time::Instant;

use crossbeam::channel::Receiver;

use super::{Writer, unavailable};
use crate::failure::Failure;
use crate::limits;
use crate::persist::submission::{Incoming, Submission, Unconfirmed, repeat};

impl Writer {
    /// Keeps an answer until the memory that it comes from is confirmed: by a commit behind the row
    /// at our position, or by reading the row.
    pub(super) fn answer_when_confirmed(&mut self, unconfirmed: Unconfirmed) {
        self.unconfirmed.push(unconfirmed);
        self.is_confirmed = false;
    }

    /// Gives the answers that were found since the last time. Asks the database unless a commit
    /// has come behind them.
    pub(super) fn answer_unconfirmed(&mut self) {
        if self.unconfirmed.is_empty() {
            return;
        }
        let begun = Instant::now();
        while !self.is_confirmed && !self.continuity.is_lost() && self.may_retry(begun, begun) {
            self.follow();
            if !self.is_confirmed && !self.continuity.is_lost() {
                std::thread::sleep(limits::RECONNECT_INTERVAL);
            }
        }
        for unconfirmed in std::mem::take(&mut self.unconfirmed) {
            unconfirmed.give(self.failure());
        }
    }

    /// Why no answer can be given from memory, if none can.
    fn failure(&self) -> Option<Failure> {
        if self.continuity.is_lost() {
            Some(Failure::DatabaseWentBack)
        } else if !self.is_confirmed {
            Some(repeat(&unavailable()))
        } else if self.continuity.confirm_written().is_err() {
            Some(Failure::StateFile)
        } else {
            None
        }
    }

    /// The database has gone back: refuses a group and all that waits behind it.
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
