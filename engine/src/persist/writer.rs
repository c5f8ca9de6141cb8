//! The writer: one thread that orders, commits and answers.
//!
//! It keeps the exact set of identities and the tags up to position S, and appends at S+1. All
//! waiting uploads go into one transaction, up to a limit in bytes: a slow disk makes groups grow.
//!
//! Commit and preparation overlap. While the commit thread waits for the database, the writer
//! applies the group before to the set, and re-checks incoming uploads against the set and the keys
//! of the group that is being committed. An upload that shares a tag or a key with that group is
//! deferred until its outcome is known. If the group is stored, the next one is committed as it is;
//! if not, both are re-checked.
//!
//! When the database says that S+1 is taken, or does not say how a commit ended, the writer reads
//! what is newer than S and re-checks everything: an upload that turns out to be stored is answered
//! like any replay, so both cases need no code of their own. A group that has lost S+1 too often
//! locks the tail of the log, so that no other gateway can append before it.

mod confirm;
mod follow;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, never, select};

use super::access::LogAccess;
use super::after_commit::AfterCommit;
use super::group::{Committer, GroupKeys, Job, Written};
use super::state::WriterState;
use super::submission::{Incoming, Submission, Unconfirmed, repeat};
use crate::continuity::Continuity;
use crate::database::{Database, SqlError, UniqueIndex};
use crate::dedup::{IdentitySetWriter, RecentIdentities, TagIndex, TagState};
use crate::domain::{Day, KeyIdentity, Seq, UnixMillis};
use crate::failure::{DatabaseError, Failure, StartError, chain};
use crate::fair_queue::FairQueue;
use crate::limits;
use crate::stage::took;
use crate::store::{Appended, LogEntry, LogMark, Store};
use crate::upload::{Receipt, Rejection};

/// The writer thread's own.
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
    /// Everything before this day is forgotten.
    forgotten_before: Option<Day>,
    /// Since when no connection can be opened.
    unavailable_since: Option<Instant>,
    /// How long to retry before a group fails.
    retry_for: Duration,
    /// Submissions that share a tag or a key with the group before or the next one; they are
    /// re-checked first, once that group's outcome is known.
    deferred: VecDeque<Submission>,
    /// Answers from memory, and whether the database has confirmed the memory since the newest.
    unconfirmed: Vec<Unconfirmed>,
    is_confirmed: bool,
}

/// A stored upload that the set does not have yet.
#[derive(Debug)]
struct Unapplied {
    seq: Seq,
    day: Day,
    identities: Vec<KeyIdentity>,
}

/// How an attempt to commit ended.
enum Attempt {
    Done,
    /// Another gateway has appended at the position first.
    LostRace,
    /// Re-check: something has changed, or the outcome is unknown.
    Again,
    /// Trying again does not help.
    Failed(DatabaseError),
    /// The database is not the one that we know.
    WentBack,
}

impl Writer {
    /// Rebuilds the set and the tags from the log, which it reads through `store`.
    pub(crate) fn start(
        database: Database,
        store: &mut Store,
        since: UnixMillis,
        after_commit: Box<dyn AfterCommit>,
        continuity: Arc<Continuity>,
    ) -> Result<Self, StartError> {
        let reading = |error: SqlError| database.unreachable(error);
        let position = store.log_end().map_err(reading)?;
        let newest = store.log_mark(position).map_err(reading)?;
        let expected = store.count_keys_since(since, position).map_err(reading)?;
        let mut set = IdentitySetWriter::with_room_for(expected, Seq::ZERO);
        let tags = Arc::new(TagIndex::default());
        let mut on_entry = |entry: LogEntry| {
            let day = entry.created_at.day();
            set.insert(&entry.identities, day, entry.seq);
            tags.insert(entry.country, entry.tag, entry.content, day);
        };
        store
            .read_log_since(since, position, &mut on_entry)
            .map_err(reading)?;
        set.announce(position);
        set.publish(position);
        let own = Store::open(&database).map_err(reading)?;
        let state = Arc::new(WriterState {
            set: Arc::clone(set.shared()),
            tags,
            database_available: AtomicBool::new(true),
            position: AtomicU64::new(position.0),
            kept_since: Mutex::default(),
        });
        Ok(Self {
            database,
            store: Some(own),
            set,
            recent: RecentIdentities::behind(position),
            state,
            after_commit,
            position,
            newest,
            continuity,
            unapplied: Vec::new(),
            committer: Committer::start().map_err(StartError::Threads)?,
            committing: GroupKeys::default(),
            waiting: FairQueue::default(),
            next_group: Vec::new(),
            next_keys: GroupKeys::default(),
            forgotten_before: None,
            unavailable_since: None,
            retry_for: limits::DATABASE_RETRY_MAX,
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
                Err(RecvTimeoutError::Timeout) => self.follow(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.answer_unconfirmed();
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
        let arrived = Instant::now();
        let mut begun = arrived;
        let mut lost_races = 0;
        loop {
            let position = self.position;
            let access = self.acquire(lost_races);
            if self.continuity.is_lost() {
                return self.refuse_everything(group, submissions);
            }
            group = self.recheck(group);
            if group.is_empty() {
                return self.release(access);
            }
            let attempt = self.try_commit(&mut group, access, submissions);
            if self.position > position {
                // Others have appended meanwhile: the database is well.
                begun = Instant::now();
            }
            lost_races += u32::from(matches!(attempt, Attempt::LostRace));
            let failure = match attempt {
                Attempt::Done => return,
                Attempt::WentBack => return self.refuse_everything(group, submissions),
                Attempt::LostRace | Attempt::Again if self.may_retry(arrived, begun) => continue,
                Attempt::LostRace | Attempt::Again => unavailable(),
                // One of many may be what the database refuses: the others need not go with it.
                Attempt::Failed(_) if group.len() > 1 => {
                    return self.commit_each(group, submissions);
                }
                Attempt::Failed(error) => error,
            };
            // A last look: a commit that did not answer may have gone through.
            if access != LogAccess::Unavailable && self.connected().is_some() {
                group = self.recheck(group);
            }
            return self.fail_group(group, &failure, submissions);
        }
    }

    fn commit_each(&mut self, group: Vec<Submission>, submissions: &Receiver<Incoming>) {
        let mut rest = group.into_iter();
        while let Some(one) = rest.next() {
            self.commit_group(vec![one], submissions);
            if self.unavailable_since.is_some() {
                let rest = self.recheck(rest.collect());
                return self.fail_group(rest, &unavailable(), submissions);
            }
        }
    }

    /// Refuses a group. If the database is unavailable, everything queued behind the group is refused
    /// with it: else a queue would add up the waits of its groups.
    fn fail_group(
        &mut self,
        mut group: Vec<Submission>,
        failure: &DatabaseError,
        submissions: &Receiver<Incoming>,
    ) {
        if self.unavailable_since.is_some() {
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
        tracing::error!(stage = "persist", uploads, error = %chain(failure), "error inserting keys");
        for submission in group {
            submission.fail(repeat(failure));
        }
    }

    /// Whether to retry. What arrives while the database is unavailable waits no longer than what was
    /// there when it became so.
    fn may_retry(&self, arrived: Instant, begun: Instant) -> bool {
        let since = self
            .unavailable_since
            .map_or(begun, |since| since.min(begun));
        since.elapsed() < self.retry_for && arrived.elapsed() < limits::CONTENTION_RETRY_MAX
    }

    /// Finds what can be answered from memory: replays, taken tags, keys that came in behind the
    /// probe. Gives back what is to be written.
    fn recheck(&mut self, group: Vec<Submission>) -> Vec<Submission> {
        group
            .into_iter()
            .filter_map(|submission| self.recheck_one(submission))
            .collect()
    }

    fn recheck_one(&mut self, mut submission: Submission) -> Option<Submission> {
        let batch = &mut submission.batch;
        match self
            .state
            .tags
            .state(batch.country, &batch.tag, &batch.content)
        {
            TagState::SameContent => {
                let key_count = batch.key_count;
                let replayed = true;
                let receipt = Receipt::Stored {
                    key_count,
                    replayed,
                };
                self.answer_when_confirmed(Unconfirmed::to(submission, Ok(receipt)));
                None
            }
            TagState::Taken => {
                let key_count = batch.key_count;
                let rejection = Rejection::UploadTagTaken { key_count };
                self.answer_when_confirmed(Unconfirmed::to(submission, Err(rejection)));
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
                let receipt = Receipt::Refused {
                    key_count: batch.key_count,
                    duplicates,
                };
                self.answer_when_confirmed(Unconfirmed::to(submission, Ok(receipt)));
                None
            }
        }
    }

    /// One attempt to commit a re-checked group at the next positions. Takes the answered ones out of
    /// it. Does not connect: a group has to be re-checked against what a new connection reads.
    fn try_commit(
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
            behind: self.newest.clone(),
            continuity: Arc::clone(&self.continuity),
            log_is_locked: access == LogAccess::Exclusive,
        });
        // The overlap: from here until the commit thread reports back, the next group is prepared
        // against the log as it was before this one. What is in it already was re-checked against
        // an earlier position, and stays subject to a re-check when its turn comes.
        let earlier = self.next_group.len();
        let written = self.prepare_while_committing(submissions);
        self.store = Some(written.store);
        *group = written.group;
        match written.outcome {
            Ok(Appended::Stored) => {
                metrics::histogram!("efgs_commit_seconds").record(written.took);
                took("persist", written.took);
                metrics::histogram!("efgs_commit_batches").record(group.len() as f64);
                // The commit has found the row at our position, if we know one.
                self.is_confirmed |= self.newest.is_some();
                self.newest = written.newest;
                self.stored(std::mem::take(group), written.is_remembered);
                // What joined during the commit shares no key with the group (`add_or_defer`) and was
                // re-checked up to the position before it: so it is unique at the new one, too, and
                // is committed next without another probe. After a failure this is not said, and
                // the group is re-checked.
                for submission in &mut self.next_group[earlier..] {
                    submission.batch.probe.at = Some(self.position);
                }
                Attempt::Done
            }
            Ok(Appended::NotBehind) => {
                // Looks what is there instead.
                self.catch_up_or_disconnect();
                match self.continuity.is_lost() {
                    true => Attempt::WentBack,
                    false => Attempt::Again,
                }
            }
            Err(SqlError::Duplicate(UniqueIndex::Primary)) => {
                metrics::counter!("efgs_log_conflicts_total").increment(1);
                self.catch_up_or_disconnect();
                Attempt::LostRace
            }
            // Rows of the log have no other index: if the server does not say which, it is this.
            Err(SqlError::Duplicate(UniqueIndex::UploadTag | UniqueIndex::Other)) => {
                self.look_up_tags(group);
                Attempt::Again
            }
            Err(SqlError::Refused(source)) => {
                self.store = None;
                Attempt::Failed(DatabaseError {
                    doing: "storing uploads",
                    source,
                })
            }
            Err(error @ (SqlError::Conflict(_) | SqlError::Lost(_))) => {
                tracing::warn!(stage = "persist", error = %error, "commit did not go through");
                // A new connection, so that nothing of the old one lingers in this one's view.
                self.store = None;
                Attempt::Again
            }
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

    /// Everything is durable: tells the bundler, then answers. The keys go into the set later, during
    /// the next commit, but before anything else is re-checked.
    fn stored(&mut self, group: Vec<Submission>, is_remembered: bool) {
        let mut replies = Vec::with_capacity(group.len());
        for Submission { batch, reply } in group {
            self.position = self.position.next();
            let (seq, day) = (self.position, batch.created_at.day());
            // The tag before the keys: a CPU job that finds the keys in the set and then looks the
            // tag up must see that this is a replay.
            self.state
                .tags
                .insert(batch.country, batch.tag, batch.content, day);
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
                    tracing::warn!(stage = "persist", error = %error, "cannot look up an upload tag");
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

fn unavailable() -> DatabaseError {
    let source = format!("no answer within {:?}", limits::DATABASE_RETRY_MAX).into();
    DatabaseError {
        doing: "storing uploads",
        source,
    }
}

#[cfg(test)]
mod tests;
