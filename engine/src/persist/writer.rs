//! The writer: one thread that orders, commits and answers.
//!
//! It keeps the exact set of identities and the tags up to position S, and appends at S+1. Whatever
//! waits goes into one transaction, within a bound of bytes: a slow disk makes groups grow. When
//! the database says that S+1 is taken, or does not say what became of a commit, the writer reads
//! what is newer than S and judges everything again: an upload that turns out to be stored is
//! answered like any replay, so both cases need no code of their own. A group that has lost S+1 too
//! often claims the end of the log, and then nobody is faster.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};

use super::connection::{SqlError, UniqueIndex};
use super::{Database, LogEntry, Store};
use crate::bundle::FreshSegments;
use crate::dedup::{GroupIdentities, IdentitySet, IdentitySetWriter, TagIndex, TagState};
use crate::domain::{Country, Seq, UploadTag};
use crate::error::{Failure, Rejection, StartError, UploadError};
use crate::limits;
use crate::upload::{Receipt, Reply, SealedBatch};

/// An upload on its last way, and who waits for it.
pub(crate) struct Submission {
    pub(crate) batch: SealedBatch,
    pub(crate) reply: Reply,
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
}

impl WriterState {
    /// The last log position that this gateway knows.
    pub(crate) fn position(&self) -> Seq {
        Seq(self.position.load(Ordering::Acquire))
    }
}

/// The writer thread's own.
pub(crate) struct Writer {
    database: Database,
    store: Option<Store>,
    set: IdentitySetWriter,
    state: Arc<WriterState>,
    fresh: Arc<FreshSegments>,
    /// Wakes the bundler after a commit; bounded by one, since one wake is as good as many.
    wake_bundler: Sender<()>,
    position: Seq,
    /// Since when there is no connection to be had.
    away_since: Option<Instant>,
    /// Submissions that share a tag or a key with one of the group before: next group's first.
    carried: VecDeque<Submission>,
}

/// How an attempt to commit ended.
enum Attempt {
    Done,
    /// Judge again: the log has moved, or the outcome is unknown.
    Again,
    /// Trying again does not help.
    Failed(crate::error::DatabaseError),
}

/// What the writer holds while it judges and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// The database is away.
    Nothing,
    /// A connection: another gateway may be faster.
    Connection,
    /// The end of the log: nobody else appends until this is over.
    Log,
}

impl Writer {
    /// Rebuilds the set and the tags from the log.
    pub(crate) fn start(
        database: Database,
        mut store: Store,
        since: crate::domain::UnixMillis,
        fresh: Arc<FreshSegments>,
        wake_bundler: Sender<()>,
    ) -> Result<Self, StartError> {
        let reading = |error: SqlError| database.unreachable(error);
        let position = store.log_end().map_err(reading)?;
        let mut set = IdentitySetWriter::new(Seq::ZERO);
        let tags = Arc::new(TagIndex::default());
        let mut on_entry = |entry: LogEntry| {
            set.insert(&entry.identities, entry.seq);
            tags.insert(entry.country, entry.tag, entry.content);
        };
        store
            .read_log_since(since, position, &mut on_entry)
            .map_err(reading)?;
        set.insert(&[], position);
        let state = Arc::new(WriterState {
            set: Arc::clone(set.shared()),
            tags,
            database_available: AtomicBool::new(true),
            position: AtomicU64::new(position.0),
        });
        Ok(Self {
            database,
            store: Some(store),
            set,
            state,
            fresh,
            wake_bundler,
            position,
            away_since: None,
            carried: VecDeque::new(),
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
                Ok(group) => self.settle(group),
                Err(RecvTimeoutError::Timeout) => self.follow(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Waits for one submission, then takes whatever else waits, within the bounds.
    fn next_group(
        &mut self,
        submissions: &Receiver<Submission>,
    ) -> Result<Vec<Submission>, RecvTimeoutError> {
        let first = match self.carried.pop_front() {
            Some(carried) => carried,
            None => submissions.recv_timeout(limits::FOLLOW_INTERVAL)?,
        };
        let mut members = GroupMembers::default();
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(submission) = next {
            if members.try_add(&submission.batch, &group) {
                group.push(submission);
            } else {
                self.carried.push_back(submission);
            }
            let full = members.bytes >= limits::GROUP_BYTES_MAX;
            let crowded = self.carried.len() >= limits::GROUP_CARRIED_MAX;
            next = if full || crowded {
                None
            } else {
                submissions.try_recv().ok()
            };
        }
        Ok(group)
    }

    /// Answers every submission of a group, whatever it takes, within a bound of time.
    fn settle(&mut self, mut group: Vec<Submission>) {
        let begun = Instant::now();
        let mut attempts = 0;
        loop {
            let hold = self.take_hold(attempts);
            group = self.judge(group);
            if group.is_empty() {
                return self.let_go(hold);
            }
            attempts += 1;
            let attempt = self.try_commit(&mut group, hold);
            let failure = match attempt {
                Attempt::Done => return,
                Attempt::Again if self.is_patient(begun) => continue,
                Attempt::Again => unavailable(),
                Attempt::Failed(error) => error,
            };
            tracing::error!(stage = "persist", error = %failure, "error inserting keys");
            refuse_all(group, &failure);
            return;
        }
    }

    /// Connects if need be, and claims the end of the log after too many lost races. Comes before
    /// the judgement, since both read what others wrote meanwhile.
    fn take_hold(&mut self, attempts: u32) -> Hold {
        if self.connected().is_none() {
            return Hold::Nothing;
        }
        if attempts < limits::LOST_RACES_MAX {
            return Hold::Connection;
        }
        metrics::counter!("efgs_log_claims_total").increment(1);
        match self.claim_log() {
            Ok(()) => Hold::Log,
            Err(error) => {
                tracing::warn!(stage = "persist", error = %error, "cannot claim the log");
                self.store = None;
                Hold::Nothing
            }
        }
    }

    fn claim_log(&mut self) -> Result<(), SqlError> {
        if let Some(store) = self.store.as_mut() {
            store.claim_log()?;
        }
        self.read_on(Store::read_claimed_log)
    }

    /// Ends a claim that is not needed.
    fn let_go(&mut self, hold: Hold) {
        let released = match (hold, self.store.as_mut()) {
            (Hold::Log, Some(store)) => store.release_log(),
            _ => Ok(()),
        };
        if released.is_err() {
            self.store = None;
        }
    }

    /// Whether to try again. Who comes while the database is away waits no longer than who was
    /// there when it went: else a queue would add up their waits.
    fn is_patient(&self, begun: Instant) -> bool {
        let since = self.away_since.unwrap_or(begun);
        since.elapsed() < limits::DATABASE_PATIENCE
    }

    /// Answers what can be answered from memory: replays, taken tags, keys that came in behind
    /// the probe. Gives back what is to be written.
    fn judge(&self, group: Vec<Submission>) -> Vec<Submission> {
        group
            .into_iter()
            .filter_map(|submission| self.judge_one(submission))
            .collect()
    }

    fn judge_one(&self, submission: Submission) -> Option<Submission> {
        let batch = &submission.batch;
        match self
            .state
            .tags
            .state(batch.country, &batch.tag, &batch.content)
        {
            TagState::SameContent => answer(submission, Ok(Receipt::Stored { replayed: true })),
            TagState::Taken => answer(submission, Err(Rejection::UploadTagTaken.into())),
            TagState::Free if batch.probe.at == Some(self.position) => Some(submission),
            TagState::Free => {
                let duplicates = batch.probe.find_duplicates(&self.state.set);
                if duplicates.is_empty() {
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
    fn try_commit(&mut self, group: &mut Vec<Submission>, hold: Hold) -> Attempt {
        let first = self.position.next();
        let Some(store) = self.store.as_mut() else {
            return Attempt::Again;
        };
        let append = match hold {
            Hold::Log => Store::append_claimed,
            Hold::Connection | Hold::Nothing => Store::append,
        };
        let batches: Vec<_> = group.iter().map(|submission| &submission.batch).collect();
        let started = Instant::now();
        match append(store, first, &batches) {
            Ok(()) => {
                metrics::histogram!("efgs_commit_seconds").record(started.elapsed());
                metrics::histogram!("efgs_commit_batches").record(batches.len() as f64);
                self.stored(std::mem::take(group));
                Attempt::Done
            }
            Err(SqlError::Duplicate(UniqueIndex::UploadTag)) => self.resolve_tags(group),
            Err(SqlError::Duplicate(_)) => {
                metrics::counter!("efgs_log_conflicts_total").increment(1);
                self.catch_up_or_disconnect()
            }
            Err(SqlError::Refused(source)) => {
                self.store = None;
                Attempt::Failed(crate::error::DatabaseError {
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

    /// Everything is durable: let probes and the bundler see it, then answer.
    fn stored(&mut self, group: Vec<Submission>) {
        let mut replies = Vec::with_capacity(group.len());
        for Submission { batch, reply } in group {
            self.position = self.position.next();
            // The tag first: who finds the keys and then looks at the tag knows a replay.
            self.state
                .tags
                .insert(batch.country, batch.tag, batch.content);
            self.set.insert(&batch.probe.identities, self.position);
            self.fresh.insert(self.position, batch.segment);
            metrics::counter!("efgs_keys_stored_total").increment(u64::from(batch.key_count));
            replies.push((reply, batch.permit));
        }
        self.publish_position();
        for (reply, permit) in replies {
            drop(permit);
            reply(Ok(Receipt::Stored { replayed: false }));
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
    fn resolve_tags(&mut self, group: &[Submission]) -> Attempt {
        let Some(store) = self.store.as_mut() else {
            return Attempt::Again;
        };
        let mut found = Vec::new();
        for Submission { batch, .. } in group {
            match store.find_content(batch.country, &batch.tag) {
                Ok(Some(content)) => found.push((batch.country, batch.tag.clone(), content)),
                Ok(None) => {}
                Err(error) => return Attempt::Failed(error.doing("looking up an upload tag")),
            }
        }
        for (country, tag, content) in found {
            self.state.tags.insert(country, tag, content);
        }
        self.catch_up_or_disconnect()
    }

    /// Between uploads: what other gateways have written.
    fn follow(&mut self) {
        if self.connected().is_some() {
            let _outcome = self.catch_up_or_disconnect();
        }
    }

    fn catch_up_or_disconnect(&mut self) -> Attempt {
        if let Err(error) = self.catch_up() {
            tracing::warn!(stage = "persist", error = %error, "cannot follow the log");
            self.store = None;
        }
        Attempt::Again
    }

    /// Reads the log behind our position, and makes it ours.
    fn catch_up(&mut self) -> Result<(), SqlError> {
        self.read_on(Store::read_log)
    }

    fn read_on(
        &mut self,
        read: fn(&mut Store, Seq, u64) -> Result<Vec<LogEntry>, SqlError>,
    ) -> Result<(), SqlError> {
        let Some(store) = self.store.as_mut() else {
            return Ok(());
        };
        loop {
            let entries = read(store, self.position, limits::FOLLOW_ROWS)?;
            let read = entries.len() as u64;
            for entry in entries {
                self.state
                    .tags
                    .insert(entry.country, entry.tag, entry.content);
                self.set.insert(&entry.identities, entry.seq);
                self.position = entry.seq;
            }
            if read > 0 {
                self.state
                    .position
                    .store(self.position.0, Ordering::Release);
                let _already_awake = self.wake_bundler.try_send(());
            }
            if read < limits::FOLLOW_ROWS {
                return Ok(());
            }
        }
    }

    /// The connection; a new one has followed the log to its end before it is used.
    fn connected(&mut self) -> Option<&mut Store> {
        if self.store.is_none() {
            self.reconnect();
        }
        self.store.as_mut()
    }

    fn reconnect(&mut self) {
        match self.database.store() {
            Ok(store) => {
                self.store = Some(store);
                if let Err(error) = self.catch_up() {
                    tracing::warn!(stage = "persist", error = %error, "cannot follow the log");
                    self.store = None;
                }
            }
            Err(error) => {
                tracing::warn!(stage = "persist", error = %error, "database is not available");
                std::thread::sleep(limits::RECONNECT_INTERVAL);
            }
        }
        let available = self.store.is_some();
        self.away_since = match available {
            true => None,
            false => self.away_since.or_else(|| Some(Instant::now())),
        };
        self.state
            .database_available
            .store(available, Ordering::Release);
    }
}

/// What the members of a group must not share.
#[derive(Default)]
struct GroupMembers {
    identities: GroupIdentities,
    tags: HashSet<(Country, UploadTag)>,
    bytes: usize,
}

impl GroupMembers {
    /// Adds a batch to those of `group`, unless it shares something with them.
    fn try_add(&mut self, batch: &SealedBatch, group: &[Submission]) -> bool {
        // An upload that is alone shares nothing: only with a second one the first is looked at.
        if let [first] = group {
            self.identities.try_add(&first.batch.probe.identities);
        }
        let tag = (batch.country, batch.tag.clone());
        let alone = group.is_empty();
        if self.tags.contains(&tag) || !(alone || self.identities.try_add(&batch.probe.identities))
        {
            return false;
        }
        self.tags.insert(tag);
        self.bytes += batch.stored_bytes();
        true
    }
}

fn answer(submission: Submission, answer: Result<Receipt, UploadError>) -> Option<Submission> {
    let Submission { batch, reply } = submission;
    // The room is free before the participant hears of it and sends the next upload.
    drop(batch);
    reply(answer);
    None
}

fn unavailable() -> crate::error::DatabaseError {
    let source = format!("no answer within {:?}", limits::DATABASE_PATIENCE).into();
    crate::error::DatabaseError {
        doing: "storing uploads",
        source,
    }
}

fn refuse_all(group: Vec<Submission>, failure: &crate::error::DatabaseError) {
    for submission in group {
        let error = crate::error::DatabaseError {
            doing: failure.doing,
            source: failure.source.to_string().into(),
        };
        answer(submission, Err(Failure::Database(error).into()));
    }
}
