//! The writer: one thread that orders, commits and answers.
//!
//! It keeps the exact set of identities and the tags up to position S, and appends at S+1. Whatever
//! waits goes into one transaction, within a bound of bytes: a slow disk makes groups grow.
//!
//! While the database writes a group, the writer makes the next one ready: it adds the identities
//! of the group before to the set, and judges what comes in against the set and the group that is
//! being written. What shares a tag or a key with that group is put off until it is decided. If the
//! group is stored, the next one is judged; if not, everything is judged again.
//!
//! When the database says that S+1 is taken, or does not say what became of a commit, the writer reads
//! what is newer than S and judges everything again: an upload that turns out to be stored is
//! answered like any replay, so both cases need no code of their own. A group that has lost S+1 too
//! often claims the end of the log, and then nobody is faster.

mod follow;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, never, select};

use follow::Hold;

use super::connection::{SqlError, UniqueIndex};
use super::group::{Committer, Job, Members, Written};
use super::{Database, LogEntry, Store};
use crate::bundle::FreshSegments;
use crate::dedup::{IdentitySet, IdentitySetWriter, RecentIdentities, TagIndex, TagState};
use crate::domain::{Day, KeyIdentity, Seq};
use crate::failure::{DatabaseError, Failure, StartError};
use crate::fair_queue::FairQueue;
use crate::limits;
use crate::stage::took;
use crate::upload::{Receipt, Rejection, Reply, SealedBatch, UploadError};

/// An upload on its last way, and who waits for it.
pub(crate) struct Submission {
    pub(crate) batch: SealedBatch,
    pub(crate) reply: Reply,
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Submission").field(&self.batch).finish()
    }
}

/// What others see of the writer.
#[derive(Debug)]
pub(crate) struct WriterState {
    pub(crate) set: Arc<IdentitySet>,
    pub(crate) tags: Arc<TagIndex>,
    /// Whether the database answered at the last attempt.
    pub(crate) database_available: AtomicBool,
    /// Log positions known to be in the database.
    position: AtomicU64,
    /// Identities and tags of uploads of earlier days are to be forgotten.
    kept_since: Mutex<Option<Day>>,
}

impl WriterState {
    /// The last log position that this gateway knows.
    pub(crate) fn position(&self) -> Seq {
        Seq(self.position.load(Ordering::Acquire))
    }

    /// Lets the writer forget identities and tags of uploads that were stored before a day, by and
    /// by. The day never goes back.
    pub(crate) fn forget_before(&self, day: Day) {
        let mut kept_since = self
            .kept_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *kept_since = Some(day).max(*kept_since);
    }

    fn kept_since(&self) -> Option<Day> {
        *self
            .kept_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer thread's own.
pub(crate) struct Writer {
    database: Database,
    store: Option<Store>,
    set: IdentitySetWriter,
    recent: RecentIdentities,
    state: Arc<WriterState>,
    fresh: Arc<FreshSegments>,
    /// Wakes the bundler after a commit; bounded by one, since one wake is as good as many.
    wake_bundler: Sender<()>,
    position: Seq,
    /// Stored, but not in the set yet, in the order of the log up to `position`.
    not_inserted: Vec<NotInserted>,
    committer: Committer,
    /// Of the group that is being settled, and perhaps of uploads that were once in it.
    settling: Members,
    /// What came in and is in no group yet; participants take turns.
    waiting: FairQueue<Submission>,
    /// The next group, and its members. Judged, as far as it could be.
    gathered: Vec<Submission>,
    gathered_members: Members,
    /// Everything before this day is forgotten.
    forgotten_before: Option<Day>,
    /// Since when there is no connection to be had.
    away_since: Option<Instant>,
    /// How long to wait for one.
    patience: Duration,
    /// Submissions that share a tag or a key with one of the group before: next group's first.
    deferred: VecDeque<Submission>,
}

/// An upload that was stored, as far as the set is concerned.
#[derive(Debug)]
struct NotInserted {
    seq: Seq,
    day: Day,
    identities: Vec<KeyIdentity>,
}

/// How an attempt to commit ended.
enum Attempt {
    Done,
    /// Another gateway was faster.
    LostRace,
    /// Judge again: something has changed, or the outcome is unknown.
    Again,
    /// Trying again does not help.
    Failed(DatabaseError),
}

impl Writer {
    /// Rebuilds the set and the tags from the log, which it reads through `store`.
    pub(crate) fn start(
        database: Database,
        store: &mut Store,
        since: crate::domain::UnixMillis,
        fresh: Arc<FreshSegments>,
        wake_bundler: Sender<()>,
    ) -> Result<Self, StartError> {
        let reading = |error: SqlError| database.unreachable(error);
        let position = store.log_end().map_err(reading)?;
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
        let own = database.store().map_err(reading)?;
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
            fresh,
            wake_bundler,
            position,
            not_inserted: Vec::new(),
            committer: Committer::start().map_err(StartError::Threads)?,
            settling: Members::default(),
            waiting: FairQueue::default(),
            gathered: Vec::new(),
            gathered_members: Members::default(),
            forgotten_before: None,
            away_since: None,
            patience: limits::DATABASE_PATIENCE,
            deferred: VecDeque::new(),
        })
    }

    pub(crate) fn state(&self) -> &Arc<WriterState> {
        &self.state
    }

    /// Works until all senders are gone and everything sent is answered.
    pub(crate) fn run(mut self, submissions: &Receiver<Submission>) {
        loop {
            match self.next_group(submissions) {
                Ok(group) if group.is_empty() => self.follow(),
                Ok(group) => self.settle(group, submissions),
                Err(RecvTimeoutError::Timeout) => self.follow(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.forget();
        }
    }

    /// Forgets a little of what is to be forgotten: the next upload does not wait for long.
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

    /// What was gathered while the last group was written; else waits for a submission, and takes
    /// whatever else waits, within the bounds.
    fn next_group(
        &mut self,
        submissions: &Receiver<Submission>,
    ) -> Result<Vec<Submission>, RecvTimeoutError> {
        self.settling.clear();
        self.gather_deferred();
        if self.gathered.is_empty() {
            self.insert_stored();
            if self.deferred.is_empty() && self.waiting.is_empty() {
                let first = submissions.recv_timeout(limits::FOLLOW_INTERVAL)?;
                self.waiting.push(first.batch.country, first);
            }
            for submission in submissions.try_iter() {
                self.waiting.push(submission.batch.country, submission);
            }
            self.gather_waiting();
        }
        std::mem::swap(&mut self.settling, &mut self.gathered_members);
        Ok(std::mem::take(&mut self.gathered))
    }

    /// Fills the next group.
    fn gather_waiting(&mut self) {
        while self.has_room()
            && let Some(submission) = self.waiting.pop()
        {
            self.gather(submission);
        }
    }

    /// Whether the next group takes more.
    fn has_room(&self) -> bool {
        !self.gathered_members.are_full() && self.deferred.len() < limits::GROUP_DEFERRED_MAX
    }

    /// What was put off is judged now that the group before is decided, so that it is not put off
    /// again and again by others.
    fn gather_deferred(&mut self) {
        for submission in std::mem::take(&mut self.deferred) {
            if let Some(submission) = self.judge_one(submission) {
                self.gather(submission);
            }
        }
    }

    /// Adds a submission to the next group, answers it if that can be done now, or puts it off.
    fn gather(&mut self, submission: Submission) {
        let batch = &submission.batch;
        if self.settling.share_with(batch) || self.gathered_members.share_with(batch) {
            self.deferred.push_back(submission);
        } else if let Some(submission) = self.judge_one(submission) {
            self.gathered_members.add(&submission.batch);
            self.gathered.push(submission);
        }
    }

    /// Answers every submission of a group, whatever it takes, within a bound of time.
    fn settle(&mut self, mut group: Vec<Submission>, submissions: &Receiver<Submission>) {
        let arrived = Instant::now();
        let mut begun = arrived;
        let mut lost_races = 0;
        loop {
            let position = self.position;
            let hold = self.take_hold(lost_races);
            group = self.judge(group);
            if group.is_empty() {
                return self.let_go(hold);
            }
            let attempt = self.try_commit(&mut group, hold, submissions);
            if self.position > position {
                // Others were faster: the database is well.
                begun = Instant::now();
            }
            lost_races += u32::from(matches!(attempt, Attempt::LostRace));
            let failure = match attempt {
                Attempt::Done => return,
                Attempt::LostRace | Attempt::Again if self.is_patient(arrived, begun) => continue,
                Attempt::LostRace | Attempt::Again => unavailable(),
                // One of many may be what the database refuses: the others need not go with it.
                Attempt::Failed(_) if group.len() > 1 => {
                    return self.settle_each(group, submissions);
                }
                Attempt::Failed(error) => error,
            };
            // A last look: a commit that did not answer may have gone through.
            if hold != Hold::Nothing && self.connected().is_some() {
                group = self.judge(group);
            }
            return self.give_up(group, &failure, submissions);
        }
    }

    fn settle_each(&mut self, group: Vec<Submission>, submissions: &Receiver<Submission>) {
        let mut rest = group.into_iter();
        while let Some(one) = rest.next() {
            self.settle(vec![one], submissions);
            if self.away_since.is_some() {
                let rest = self.judge(rest.collect());
                return self.give_up(rest, &unavailable(), submissions);
            }
        }
    }

    /// Refuses a group. If the database is away, who is queued behind the group is refused with it:
    /// else a queue would add up the waits of its groups.
    fn give_up(
        &mut self,
        mut group: Vec<Submission>,
        failure: &DatabaseError,
        submissions: &Receiver<Submission>,
    ) {
        if self.away_since.is_some() {
            self.gathered_members.clear();
            let mut queue = std::mem::take(&mut self.gathered);
            queue.extend(self.deferred.drain(..));
            queue.extend(std::iter::from_fn(|| self.waiting.pop()));
            queue.extend(submissions.try_iter());
            group.extend(self.judge(queue));
        }
        if group.is_empty() {
            return;
        }
        let uploads = group.len();
        tracing::error!(stage = "persist", uploads, error = %failure, "error inserting keys");
        refuse_all(group, failure);
    }

    /// Whether to try again. Who comes while the database is away waits no longer than who was
    /// there when it went.
    fn is_patient(&self, arrived: Instant, begun: Instant) -> bool {
        let since = self.away_since.map_or(begun, |since| since.min(begun));
        since.elapsed() < self.patience && arrived.elapsed() < limits::CONTENTION_PATIENCE
    }

    /// Answers what can be answered from memory: replays, taken tags, keys that came in behind
    /// the probe. Gives back what is to be written.
    fn judge(&mut self, group: Vec<Submission>) -> Vec<Submission> {
        group
            .into_iter()
            .filter_map(|submission| self.judge_one(submission))
            .collect()
    }

    fn judge_one(&mut self, mut submission: Submission) -> Option<Submission> {
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
                answer(submission, Ok(receipt))
            }
            TagState::Taken => {
                let key_count = batch.key_count;
                let rejection = Rejection::UploadTagTaken { key_count };
                answer(submission, Err(rejection.into()))
            }
            TagState::Free if batch.probe.at == Some(self.position) => Some(submission),
            TagState::Free => {
                self.insert_stored();
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
                answer(submission, Ok(receipt))
            }
        }
    }

    /// One attempt to write a judged group at the next positions. Takes the answered ones out of
    /// it. Does not connect: what a new connection reads must be judged first.
    fn try_commit(
        &mut self,
        group: &mut Vec<Submission>,
        hold: Hold,
        submissions: &Receiver<Submission>,
    ) -> Attempt {
        let Some(store) = self.store.take() else {
            return Attempt::Again;
        };
        self.committer.begin(Job {
            store,
            group: std::mem::take(group),
            first: self.position.next(),
            claimed: hold == Hold::Log,
        });
        // What is there already was judged beside another group.
        let earlier = self.gathered.len();
        let written = self.gather_until_written(submissions);
        self.store = Some(written.store);
        *group = written.group;
        match written.outcome {
            Ok(()) => {
                metrics::histogram!("efgs_commit_seconds").record(written.took);
                took("persist", written.took);
                metrics::histogram!("efgs_commit_batches").record(group.len() as f64);
                self.stored(std::mem::take(group));
                for submission in &mut self.gathered[earlier..] {
                    submission.batch.probe.at = Some(self.position);
                }
                Attempt::Done
            }
            Err(SqlError::Duplicate(UniqueIndex::Primary)) => {
                metrics::counter!("efgs_log_conflicts_total").increment(1);
                self.catch_up_or_disconnect();
                Attempt::LostRace
            }
            // Rows of the log have no other index: if the server does not say which, it is this.
            Err(SqlError::Duplicate(UniqueIndex::UploadTag | UniqueIndex::Other)) => {
                self.resolve_tags(group);
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

    /// Makes the next group ready while one is being written.
    fn gather_until_written(&mut self, submissions: &Receiver<Submission>) -> Written {
        let nothing = never();
        let mut submissions = submissions;
        self.insert_stored();
        loop {
            self.gather_waiting();
            select! {
                recv(self.committer.written) -> written => {
                    return written.expect("the commit thread has not panicked");
                }
                recv(submissions) -> submission => match submission {
                    Ok(submission) => self.waiting.push(submission.batch.country, submission),
                    Err(_) => submissions = &nothing,
                }
            }
        }
    }

    /// Everything is durable: let the bundler see it, then answer. Who comes with one of the keys
    /// from now on is judged after they are in the set.
    fn stored(&mut self, group: Vec<Submission>) {
        let mut replies = Vec::with_capacity(group.len());
        for Submission { batch, reply } in group {
            self.position = self.position.next();
            let (seq, day) = (self.position, batch.created_at.day());
            // The tag first: who finds the keys and then looks at the tag knows a replay.
            self.state
                .tags
                .insert(batch.country, batch.tag, batch.content, day);
            let identities = batch.probe.identities;
            self.not_inserted.push(NotInserted {
                seq,
                day,
                identities,
            });
            self.fresh.insert(seq, batch.segment);
            metrics::counter!("efgs_keys_stored_total").increment(u64::from(batch.key_count));
            replies.push((reply, batch.permit, batch.key_count));
        }
        // Nobody is told of a part of its duplicates who comes with keys of what is acknowledged now.
        self.set.announce(self.position);
        self.publish_position();
        for (reply, permit, key_count) in replies {
            drop(permit);
            reply(Ok(Receipt::Stored {
                key_count,
                replayed: false,
            }));
        }
    }

    /// Adds the identities of the upload at the next position of the log.
    fn learn(&mut self, identities: &[KeyIdentity], day: Day, seq: Seq) {
        self.recent.add(seq, identities);
        self.set.insert(identities, day, seq);
    }

    /// Brings the set up to the position.
    fn insert_stored(&mut self) {
        for stored in std::mem::take(&mut self.not_inserted) {
            self.learn(&stored.identities, stored.day, stored.seq);
        }
    }

    fn publish_position(&self) {
        self.state
            .position
            .store(self.position.0, Ordering::Release);
        // A full channel means that the bundler has yet to act on the last wake.
        let _already_awake = self.wake_bundler.try_send(());
    }

    /// A tag that the index does not know is in the database: its row is older than what the index
    /// was rebuilt from. Learn it, judge again.
    fn resolve_tags(&mut self, group: &[Submission]) {
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

fn answer(submission: Submission, answer: Result<Receipt, UploadError>) -> Option<Submission> {
    let Submission { batch, reply } = submission;
    // The room is free before the participant hears of it and sends the next upload.
    drop(batch);
    reply(answer);
    None
}

fn unavailable() -> DatabaseError {
    let source = format!("no answer within {:?}", limits::DATABASE_PATIENCE).into();
    DatabaseError {
        doing: "storing uploads",
        source,
    }
}

fn refuse_all(group: Vec<Submission>, failure: &DatabaseError) {
    for submission in group {
        let error = DatabaseError {
            doing: failure.doing,
            source: failure.source.to_string().into(),
        };
        answer(submission, Err(Failure::Database(error).into()));
    }
}

#[cfg(test)]
mod tests;
