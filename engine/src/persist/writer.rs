//! The writer: one thread that orders, commits and answers.
//!
//! It keeps the exact set of identities and the tags up to position S, and appends at S+1. All
//! waiting uploads go into one transaction, up to a limit in bytes: a slow disk makes groups grow.
//!
//! Commit and preparation overlap. While the commit thread waits for the database, the writer
//! applies the last group to the set, and re-checks incoming uploads against the set and the keys
//! of the group that is being committed. An upload that shares a tag or a key with that group is
//! deferred until its outcome is known. If the group is stored, the next one is committed as it is;
//! if not, both are re-checked.
//!
//! When the database says that S+1 is taken, or does not say how a commit ended, the writer reads
//! what is newer than S and re-checks everything: an upload that turns out to be stored is answered
//! like any replay. A group that has lost S+1 too often
//! locks the tail of the log, so that no other gateway can append before it.

mod attempt;
mod confirm;
mod follow;
mod freed;
mod probe;
mod rebuild;
mod recheck;
mod retry;

use super::access::LogAccess;
use super::after_commit::AfterCommit;
use super::backoff::Backoff;
use super::freed_uploads::FreedUploads;
use super::group::{Committer, GroupKeys, Written};
use super::probing::Probing;
use super::progress::StartProgress;
use super::state::WriterState;
use super::submission::{Incoming, StoreError, Submission, Unconfirmed};
use crate::continuity::Continuity;
use crate::database::{Database, SqlError};
use crate::dedup::{IdentitySetWriter, RecentIdentities};
use crate::domain::{Day, KeyIdentity, Seq, UnixMillis};
use crate::failure::{Failure, StartError, chain};
use crate::fair_queue::FairQueue;
use crate::limits;
use crate::log_chain::LinkDigest;
use crate::store::{LogMark, Store};
use crate::upload::Receipt;
use crossbeam::channel::{Receiver, RecvTimeoutError, never, select};
use rebuild::RebuildError;
use retry::{Attempt, RetryState, Tries};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What only the writer thread owns.
pub(crate) struct Writer {
    database: Database,
    store: Option<Store>,
    set: IdentitySetWriter,
    recent: RecentIdentities,
    state: Arc<WriterState>,
    after_commit: Box<dyn AfterCommit>,
    position: Seq,
    /// The row at the position.
    newest: Option<LogMark>,
    /// The link of the last row, which need not be at the position.
    last_link: Option<LinkDigest>,
    continuity: Arc<Continuity>,
    /// Stored, but not applied to the set yet; in the order of the log, up to `position`.
    unapplied: Vec<Unapplied>,
    committer: Committer,
    /// Keys of the group that is being committed, and perhaps of uploads that were once in it.
    committing: GroupKeys,
    /// Incoming uploads that are in no group yet.
    waiting: FairQueue<Submission>,
    /// The next group, re-checked as far as possible, and its keys.
    next_group: Vec<Submission>,
    next_keys: GroupKeys,
    freed: FreedUploads,
    /// Everything before this day is forgotten.
    forgotten_before: Option<Day>,
    retries: RetryState,
    connecting_backoff: Backoff,
    committing_backoff: Backoff,
    probing: Probing,
    /// Submissions that share a tag or a key with the committing group or the next; they are
    /// re-checked first, once that group's outcome is known.
    deferred: VecDeque<Submission>,
    /// Answers from memory that the database has yet to confirm.
    unconfirmed: Vec<Unconfirmed>,
    /// Whether it has, since the newest of them was found.
    is_confirmed: bool,
}

/// A stored upload that the set does not have yet.
#[derive(Debug)]
struct Unapplied {
    seq: Seq,
    day: Day,
    identities: Vec<KeyIdentity>,
}

impl Writer {
    /// Rebuilds the set and the tags from the log, which it reads through `store`.
    pub(crate) fn start(
        database: Database,
        store: &mut Store,
        since: UnixMillis,
        after_commit: Box<dyn AfterCommit>,
        continuity: Arc<Continuity>,
        progress: &StartProgress,
    ) -> Result<Self, StartError> {
        let reading = |error: SqlError| database.unreachable(error);
        let position = store.log_end().map_err(reading)?;
        let newest = store.log_mark(position).map_err(reading)?;
        let memory = rebuild::rebuild(store, since, position, &continuity, progress);
        let rebuild::Memory {
            set,
            tags,
            key_counts,
            freed,
            last_link,
        } = memory.map_err(|error| match error {
            RebuildError::Database(error) => reading(error),
            RebuildError::Changed(row) => StartError::Changed(row),
        })?;
        let own = Store::open(&database).map_err(reading)?;
        let state = WriterState::new(Arc::clone(set.shared()), tags, key_counts, position);
        Ok(Self {
            database,
            store: Some(own),
            set,
            recent: RecentIdentities::after(position),
            state: Arc::new(state),
            after_commit,
            position,
            newest,
            last_link,
            continuity,
            unapplied: Vec::new(),
            committer: Committer::start().map_err(StartError::Threads)?,
            committing: GroupKeys::default(),
            waiting: FairQueue::default(),
            next_group: Vec::new(),
            next_keys: GroupKeys::default(),
            freed,
            forgotten_before: None,
            retries: RetryState::none(),
            connecting_backoff: Backoff::default(),
            committing_backoff: Backoff::default(),
            probing: Probing::new(),
            deferred: VecDeque::new(),
            unconfirmed: Vec::new(),
            is_confirmed: false,
        })
    }

    pub(crate) fn state(&self) -> &Arc<WriterState> {
        &self.state
    }

    /// Works until all senders are gone and everything sent is answered.
    pub(crate) fn run(mut self, submissions: &Receiver<Incoming>) {
        loop {
            match self.take_group(submissions) {
                Ok(group) if group.is_empty() => self.follow(),
                Ok(group) => self.commit_group(group, submissions),
                Err(RecvTimeoutError::Timeout) => {
                    self.follow();
                    self.probe_if_due();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.answer_unconfirmed();
            self.follow_withdrawals();
            self.forget();
        }
    }

    /// Forgets expired identities for a short while at a time, so that the next upload does not wait.
    fn forget(&mut self) {
        let Some(kept_since) = self.state.kept_since() else {
            return;
        };
        if self.forgotten_before == Some(kept_since) {
            return;
        }
        self.state.tags.forget_before(kept_since);
        self.state.key_counts.forget_before(kept_since);
        let deadline = Instant::now() + limits::FORGET_SLICE;
        if self.set.forget_before(kept_since, deadline) {
            self.forgotten_before = Some(kept_since);
        }
    }

    /// The group that was prepared during the last commit; without one, waits for a submission and
    /// takes whatever else is queued, within the bounds.
    fn take_group(
        &mut self,
        submissions: &Receiver<Incoming>,
    ) -> Result<Vec<Submission>, RecvTimeoutError> {
        // The group before has been answered: its keys are in the set or will be before the next
        // re-check, so nothing is to be deferred for them any more.
        self.committing.clear();
        self.readmit_deferred();
        if self.next_group.is_empty() {
            self.apply_stored();
            let is_idle = self.deferred.is_empty() && self.waiting.is_empty();
            if is_idle && self.unconfirmed.is_empty() {
                let first = submissions.recv_timeout(limits::FOLLOW_INTERVAL)?;
                self.take_in(first);
            }
            submissions
                .try_iter()
                .for_each(|incoming| self.take_in(incoming));
            self.fill_next_group();
        }
        // From here on this group is the one that incoming submissions are compared with.
        // `next_keys` gets the empty keys, with their memory.
        std::mem::swap(&mut self.committing, &mut self.next_keys);
        Ok(std::mem::take(&mut self.next_group))
    }

    fn take_in(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Store(submission) => {
                self.waiting.push(submission.batch.country, submission);
            }
            Incoming::Confirm(unconfirmed) => self.answer_when_confirmed(unconfirmed),
        }
    }

    /// Fills the next group.
    fn fill_next_group(&mut self) {
        while self.has_room()
            && let Some(submission) = self.waiting.pop()
        {
            self.add_or_defer(submission);
        }
    }

    /// Whether the next group takes more.
    fn has_room(&self) -> bool {
        !self.next_keys.are_full() && self.deferred.len() < limits::GROUP_DEFERRED_MAX
    }

    /// Re-checks what was deferred, now that the outcome of the group before is known. Comes before
    /// anything new, so that a submission is not deferred again and again.
    fn readmit_deferred(&mut self) {
        for submission in std::mem::take(&mut self.deferred) {
            if let Some(submission) = self.recheck_one(submission) {
                self.add_or_defer(submission);
            }
        }
    }

    /// Adds a submission to the next group, answers it if that can be done now, or defers it.
    fn add_or_defer(&mut self, submission: Submission) {
        let batch = &submission.batch;
        // Whether such a key is a duplicate depends on a commit whose outcome is unknown.
        if self.committing.share_with(batch) || self.next_keys.share_with(batch) {
            self.deferred.push_back(submission);
        } else if let Some(submission) = self.recheck_one(submission) {
            self.next_keys.add(&submission.batch);
            self.next_group.push(submission);
        }
    }

    /// Commits a group, with retries up to a time limit, and answers each of its submissions.
    fn commit_group(&mut self, mut group: Vec<Submission>, submissions: &Receiver<Incoming>) {
        let mut tries = Tries::new();
        loop {
            self.committing_backoff.wait();
            let position = self.position;
            let access = self.acquire(tries.lost_races);
            if self.continuity.has_gone_back() {
                return self.refuse_everything(group, submissions);
            }
            group = self.recheck(group);
            if group.is_empty() {
                return self.release(access);
            }
            let attempt = self.try_commit(&mut group, access, submissions);
            if self.position > position {
                // Others have appended meanwhile: the database is well.
                tries.begun = Instant::now();
                self.committing_backoff.succeeded();
            }
            tries.lost_races += u32::from(matches!(attempt, Attempt::LostRace));
            let attempt = match attempt {
                Attempt::Done => return,
                Attempt::WentBack => return self.refuse_everything(group, submissions),
                Attempt::LostRace | Attempt::Again if self.retries.may_retry(tries) => continue,
                // One of many may be what the database refuses: the others need not go with it.
                Attempt::Failed(_) if !self.refuses_everything(&group) && group.len() > 1 => {
                    return self.commit_each(group, submissions);
                }
                last => last,
            };
            // A last look: a commit that did not answer may have gone through.
            if access != LogAccess::Unavailable && self.connected().is_some() {
                group = self.recheck(group);
                if matches!(attempt, Attempt::Again) && self.is_well_again(&group, tries) {
                    continue;
                }
            }
            let failure = self.retries.failure_of(attempt);
            return self.fail_group(group, &failure, submissions);
        }
    }

    /// Whether to try a group again whose retries are used up: a probe shows that the database stores
    /// uploads, and there is time left.
    fn is_well_again(&mut self, group: &[Submission], tries: Tries) -> bool {
        if self.refuses_everything(group) {
            // It has been so since the group was tried first.
            let since = self.retries.refusing_since.unwrap_or(tries.begun);
            self.retries.refusing_since = Some(since.min(tries.begun));
            return false;
        }
        tries.arrived.elapsed() < limits::CONTENTION_RETRY_MAX
    }

    fn commit_each(&mut self, group: Vec<Submission>, submissions: &Receiver<Incoming>) {
        let mut rest = group.into_iter();
        while let Some(one) = rest.next() {
            self.commit_group(vec![one], submissions);
            if self.retries.stores_nothing() {
                let (rest, failure) = (self.recheck(rest.collect()), self.retries.unavailable());
                return self.fail_group(rest, &failure, submissions);
            }
        }
    }

    /// Refuses a group. If the database stores nothing, everything queued after the group is refused
    /// with it: otherwise a queue would add up the waits of its groups.
    fn fail_group(
        &mut self,
        mut group: Vec<Submission>,
        failure: &StoreError,
        submissions: &Receiver<Incoming>,
    ) {
        if self.retries.stores_nothing() {
            self.next_keys.clear();
            let mut queue = std::mem::take(&mut self.next_group);
            queue.extend(self.deferred.drain(..));
            submissions
                .try_iter()
                .for_each(|incoming| self.take_in(incoming));
            queue.extend(std::iter::from_fn(|| self.waiting.pop()));
            group.extend(self.recheck(queue));
        }
        if group.is_empty() {
            return;
        }
        let uploads = group.len();
        let error = chain(&failure.error);
        tracing::error!(stage = "persist", uploads, error, "error inserting keys");
        for submission in group {
            submission.fail(failure.failure());
        }
    }

    /// Prepares the next group during a commit.
    fn prepare_while_committing(&mut self, submissions: &Receiver<Incoming>) -> Written {
        let nothing = never();
        let mut submissions = submissions;
        // The group before this one is durable: insert its keys now, off the critical path.
        self.apply_stored();
        loop {
            self.fill_next_group();
            select! {
                recv(self.committer.written) -> written => {
                    return written.expect("the commit thread has not panicked");
                }
                recv(submissions) -> incoming => match incoming {
                    Ok(incoming) => self.take_in(incoming),
                    Err(_) => submissions = &nothing,
                }
            }
        }
    }

    /// Everything is durable: notifies the bundler, then answers. The keys go into the set later, during
    /// the next commit, but before anything else is re-checked.
    fn stored(&mut self, group: Vec<Submission>, is_remembered: bool) {
        let mut replies = Vec::with_capacity(group.len());
        for Submission { batch, reply } in group {
            self.position = self.position.next();
            let (seq, day) = (self.position, batch.created_at.day());
            // The tag before the keys: a CPU job that finds the keys in the set and then looks the
            // tag up must see that this is a replay.
            self.state.remember(
                (batch.country, batch.tag),
                batch.content,
                day,
                batch.key_count,
            );
            let identities = batch.probe.identities;
            self.unapplied.push(Unapplied {
                seq,
                day,
                identities,
            });
            self.after_commit.stored(seq, batch.segment);
            metrics::counter!("efgs_keys_stored_total").increment(u64::from(batch.key_count));
            replies.push((reply, batch.permit, batch.key_count));
        }
        // Before the first answer: from now on the set is known to be incomplete, so that a CPU job
        // leaves duplicates of these uploads to the writer instead of naming only some of them.
        self.set.announce(self.position);
        self.publish_position();
        for (reply, permit, key_count) in replies {
            drop(permit);
            reply(match is_remembered {
                true => Ok(Receipt::Stored {
                    key_count,
                    replayed: false,
                }),
                false => Err(Failure::StateFile.into()),
            });
        }
    }

    /// Applies the upload at the next position of the log to the set.
    fn apply(&mut self, identities: &[KeyIdentity], day: Day, seq: Seq) {
        self.recent.add(seq, identities);
        self.set.insert(identities, day, seq);
    }

    /// Brings the set up to the position.
    fn apply_stored(&mut self) {
        for stored in std::mem::take(&mut self.unapplied) {
            self.apply(&stored.identities, stored.day, stored.seq);
        }
    }

    fn publish_position(&self) {
        self.state
            .position
            .store(self.position.0, Ordering::Release);
        self.after_commit.log_grown();
    }
}

#[cfg(test)]
mod tests;
