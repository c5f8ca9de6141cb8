//! One attempt to commit a group, and what has come of it.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;

use super::Writer;
use super::retry::Attempt;
use crate::database::{SqlError, UniqueIndex};
use crate::failure::DatabaseError;
use crate::persist::access::LogAccess;
use crate::persist::group::Job;
use crate::persist::submission::{Incoming, Submission};
use crate::stage::took;
use crate::store::{Appended, LogMark};
use crate::text::excerpt;

impl Writer {
    /// One attempt to commit a re-checked group at the next positions. Takes the answered ones out of
    /// it. Does not connect: a group has to be re-checked against what a new connection reads.
    pub(super) fn try_commit(
        &mut self,
        group: &mut Vec<Submission>,
        access: LogAccess,
        submissions: &Receiver<Incoming>,
    ) -> Attempt {
        let Some(store) = self.store.take() else {
            return Attempt::Again;
        };
        self.committer.begin(Job {
            store,
            group: std::mem::take(group),
            first: self.position.next(),
            previous: self.newest.clone(),
            last: self.last_link,
            continuity: Arc::clone(&self.continuity),
            log_is_locked: access == LogAccess::Exclusive,
        });
        // The overlap: from here until the commit thread reports back, the next group is prepared
        // against the log as it was before this one. What is in it already was re-checked against
        // an earlier position, and stays subject to a re-check before it is committed.
        let earlier = self.next_group.len();
        let written = self.prepare_while_committing(submissions);
        self.store = Some(written.store);
        *group = written.group;
        if !matches!(written.outcome, Err(SqlError::Lost(_))) {
            self.state.health.note_answer();
        }
        match written.outcome {
            Ok(Appended::Stored) => {
                self.note_commit(written.newest, written.took, group.len());
                self.stored(std::mem::take(group), written.is_remembered);
                self.approve_next(earlier);
                Attempt::Done
            }
            Ok(Appended::PreviousRowChanged) => {
                // Finds out which row is there instead.
                self.catch_up_or_disconnect();
                match self.continuity.has_gone_back() {
                    true => Attempt::WentBack,
                    false => Attempt::Again,
                }
            }
            // Rows of the log have no other index: if the server does not say which, it is this.
            Err(SqlError::Duplicate(UniqueIndex::UploadTag | UniqueIndex::Other)) => {
                self.look_up_tags(group);
                Attempt::Again
            }
            Err(error) => self.classify(error),
        }
    }

    /// A group is stored, up to a row that is the newest now.
    fn note_commit(&mut self, newest: Option<LogMark>, time: Duration, uploads: usize) {
        metrics::histogram!("efgs_commit_seconds").record(time);
        took("persist", time);
        self.note_stored();
        metrics::histogram!("efgs_commit_batches").record(uploads as f64);
        // The commit has found the row at our position, if we know one.
        self.is_confirmed |= self.newest.is_some();
        self.newest = newest;
        let link = self.newest.as_ref().and_then(|row| row.link);
        self.last_link = link.map(|link| link.digest);
    }

    /// What joined during the commit shares no key with the group (`add_or_defer`) and was re-checked
    /// up to the position before it: so it is unique at the new one, too, and is committed next
    /// without another probe. After a failure this is not said, and the group is re-checked.
    fn approve_next(&mut self, earlier: usize) {
        for submission in &mut self.next_group[earlier..] {
            submission.batch.probe.at = Some(self.position);
        }
    }

    /// What an attempt that was refused, has lost a race or has an unknown outcome leads to.
    fn classify(&mut self, error: SqlError) -> Attempt {
        match error {
            SqlError::Duplicate(_) => {
                metrics::counter!("efgs_log_conflicts_total").increment(1);
                self.catch_up_or_disconnect();
                Attempt::LostRace
            }
            SqlError::Refused(source) => {
                self.store = None;
                Attempt::Failed(DatabaseError {
                    doing: "storing uploads",
                    source,
                })
            }
            SqlError::Conflict(_) => {
                metrics::counter!("efgs_log_conflicts_total").increment(1);
                self.note_failed_commit(&error);
                self.roll_back_and_catch_up();
                Attempt::LostRace
            }
            SqlError::Lost(_) => {
                metrics::counter!("efgs_commits_unresolved_total").increment(1);
                self.note_failed_commit(&error);
                // A new connection, so that nothing of the old one lingers in this one's view.
                self.store = None;
                Attempt::Again
            }
        }
    }

    fn note_failed_commit(&mut self, error: &SqlError) {
        self.retries.last_error = excerpt(&error.to_string());
        self.committing_backoff.failed();
        self.database
            .log_error("persist", error, "commit failed, or its outcome is unknown");
    }

    /// Keeps the connection: after the rollback it has no transaction, and reads what is committed.
    fn roll_back_and_catch_up(&mut self) {
        if let Some(store) = self.store.as_mut()
            && store.roll_back().is_err()
        {
            self.store = None;
        }
        self.catch_up_or_disconnect();
    }

    /// A tag that the index does not know is in the database: its row is older than what the index
    /// was rebuilt from. Adds it to the index; then the group is re-checked.
    fn look_up_tags(&mut self, group: &[Submission]) {
        let Some(store) = self.store.as_mut() else {
            return;
        };
        let mut found = Vec::new();
        for Submission { batch, .. } in group {
            match store.find_content(batch.country, &batch.tag) {
                Ok(Some((content, created_at))) => {
                    found.push((batch.country, batch.tag.clone(), content, created_at.day()));
                }
                Ok(None) => {}
                Err(error) => {
                    self.store = None;
                    let message = "cannot look up an upload tag";
                    self.database.log_error("persist", &error, message);
                    return;
                }
            }
        }
        for (country, tag, content, day) in found {
            self.state.tags.insert(country, tag, content, day);
        }
        self.catch_up_or_disconnect();
    }
}
