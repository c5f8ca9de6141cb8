//! Uploads that meet: in flight, batched during its commit, deferred, and in the log of another gateway,
//! while commits fail in every way. On real databases, with connections that fail when told.

use super::*;
use crate::admission::Admission;
use crate::database::faulty::{Fault, Step};
use crate::dedup::{Probe, TagState};
use crate::domain::{ContentDigest, Country, FORMAT_VERSION, Thumbprint, UploadTag};
use crate::failure::Failure;
use crate::log_chain::{ChainKey, LogColumns};
use crate::persist::group::row;
use crate::persist::submission::FromMemory;
use crate::store::{LogEntry, migrate};
use crate::upload::{Rejection, SealedBatch, UploadError};
use bytes::Bytes;
use crossbeam::channel::{Sender, bounded};
use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::{self, JoinHandle};
use std::time::Duration;

mod concurrent_uploads;
mod groups;
mod outages;

/// The key of all gateways.
fn chain() -> ChainKey {
    ChainKey::new(&[1; 32], &[2; 32])
}

/// What a participant hears.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Stored,
    Replayed,
    Refused(Vec<u32>),
    Taken,
    Failed,
}

use Answer::{Failed, Refused, Replayed, Stored, Taken};

fn heard(answer: Result<Receipt, UploadError>) -> Answer {
    match answer {
        Ok(Receipt::Stored { replayed, .. }) if replayed => Replayed,
        Ok(Receipt::Stored { .. }) => Stored,
        Ok(Receipt::Refused { duplicates, .. }) => Refused(duplicates),
        Err(UploadError::Rejection(Rejection::UploadTagTaken { .. })) => Taken,
        Err(UploadError::Failure(Failure::Database(_) | Failure::StorageRefused(_))) => Failed,
        Err(other) => panic!("{other}"),
    }
}

/// An upload as a test writes it down.
#[derive(Debug, Clone)]
struct Upload {
    country: Country,
    tag: String,
    keys: Vec<u64>,
    day: u64,
    /// How much its row takes beside the identities.
    bytes: usize,
}

fn upload(tag: &str, keys: &[u64]) -> Upload {
    Upload {
        country: Country::parse("DE").unwrap(),
        tag: tag.to_owned(),
        keys: keys.to_vec(),
        day: 1,
        bytes: 0,
    }
}

fn old_upload(number: u64, same: bool) -> Upload {
    let mut old = upload(&format!("old-{number}"), &[u64::MAX - number]);
    old.day = 0;
    if !same {
        old.keys.push(u64::MAX - 1000 - number);
    }
    old
}

fn identity(key: u64) -> KeyIdentity {
    let spread = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    KeyIdentity(
        [spread.to_be_bytes(), spread.to_le_bytes()]
            .concat()
            .try_into()
            .unwrap(),
    )
}

impl Upload {
    fn content(&self) -> ContentDigest {
        let mut hasher = DefaultHasher::new();
        self.keys.hash(&mut hasher);
        ContentDigest(
            [hasher.finish().to_le_bytes(); 4]
                .concat()
                .try_into()
                .unwrap(),
        )
    }

    fn tag(&self) -> UploadTag {
        UploadTag::parse(&self.tag).unwrap()
    }

    fn repeats(&self) -> Vec<u32> {
        let mut seen = HashSet::new();
        let numbered = (0..).zip(&self.keys);
        numbered
            .filter(|(_, key)| !seen.insert(**key))
            .map(|(at, _)| at)
            .collect()
    }

    fn sealed(&self, probe: Probe, permit: crate::admission::Permit) -> SealedBatch {
        let key_count = u32::try_from(self.keys.len()).unwrap();
        let created_at = UnixMillis(self.day * Day::MILLIS);
        let (uploader, signer) = (Thumbprint([1; 32]), Thumbprint([2; 32]));
        let columns = chain().columns(&LogColumns {
            created_at,
            country: self.country,
            tag: &self.tag(),
            key_count,
            format_version: FORMAT_VERSION,
            uploader: &uploader,
            signer: &signer,
            content: &self.content(),
            batch_signature: "",
            identities: &probe.identities,
        });
        SealedBatch {
            country: self.country,
            tag: self.tag(),
            uploader,
            signer,
            content: self.content(),
            batch_signature: "".into(),
            key_count,
            created_at,
            columns,
            probe,
            segment: Bytes::new(),
            sealed: vec![0; self.bytes],
            permit,
        }
    }

    /// As another gateway writes it.
    fn append(&self, store: &mut Store, at: u64) {
        let probe = Probe {
            identities: self.keys.iter().copied().map(identity).collect(),
            at: None,
            repeats: Vec::new(),
        };
        let batch = self.sealed(probe, Admission::default().admit(self.country, 0).unwrap());
        let before = store.link_before(Seq(at), &chain()).unwrap();
        let link = chain().link(before, Seq(at), batch.columns);
        store.append(None, &[row(at, link, &batch)]).unwrap();
    }
}

/// Nobody bundles here.
#[derive(Debug)]
struct NothingToDo;

impl AfterCommit for NothingToDo {
    fn stored(&self, _: Seq, _: Bytes) {}

    fn log_grown(&self) {}
}

/// A writer with its threads.
struct Gateway {
    state: Arc<WriterState>,
    admission: Admission,
    submissions: Sender<Incoming>,
    thread: JoinHandle<()>,
}

impl Gateway {
    fn start(database: &Database, since: UnixMillis) -> Self {
        Self::start_with(database, since, limits::DATABASE_RETRY_MAX)
    }

    fn start_with(database: &Database, since: UnixMillis, retry_for: Duration) -> Self {
        let mut store = Store::open(database).unwrap();
        let after_commit = Box::new(NothingToDo);
        let continuity = Continuity::start(database, None, &chain(), &mut store).unwrap();
        let continuity = Arc::new(continuity);
        let mut writer = Writer::start(
            database.clone(),
            &mut store,
            since,
            after_commit,
            continuity,
            &StartProgress::default(),
        )
        .unwrap();
        writer.retries.retry_for = retry_for;
        let state = Arc::clone(writer.state());
        // Who has sent something knows that the writer has it.
        let (submissions, queue) = bounded(0);
        Self {
            state,
            admission: Admission::new(1000, 1 << 20),
            submissions,
            thread: thread::spawn(move || writer.run(&queue)),
        }
    }

    /// Takes an upload the way of a CPU job. `reply` runs where the answer is made.
    fn send_to(&self, upload: &Upload, reply: impl FnOnce(Answer) + Send + 'static) {
        let tag_state = || {
            self.state
                .tags
                .state(upload.country, &upload.tag(), &upload.content())
        };
        match tag_state() {
            TagState::SameContent => return reply(Replayed),
            TagState::Taken => return reply(Taken),
            TagState::Free => {}
        }
        let identities = upload.keys.iter().copied().map(identity).collect();
        match Probe::look_up(identities, upload.repeats(), &self.state.set) {
            Ok(probe) => {
                let permit = self.admission.admit(upload.country, 0).unwrap();
                let batch = upload.sealed(probe, permit);
                let reply = Box::new(|answer| reply(heard(answer)));
                let incoming = Incoming::Store(Submission { batch, reply });
                self.submissions.send(incoming).unwrap();
            }
            Err(_) if tag_state() == TagState::SameContent => reply(Replayed),
            Err(duplicates) => reply(Refused(duplicates.positions)),
        }
    }

    fn send(&self, upload: &Upload) -> Receiver<Answer> {
        let (sender, receiver) = bounded(1);
        self.send_to(upload, move |answer| sender.send(answer).unwrap());
        receiver
    }

    fn stop(self) {
        drop(self.submissions);
        self.thread.join().unwrap();
        assert_eq!(self.admission.batches_in_flight(), 0);
    }
}

fn on_sqlite(folder: &tempfile::TempDir) -> Database {
    let url = crate::settings::DatabaseUrl::Sqlite(folder.path().join("efgs.db"));
    let database = Database::new(url);
    migrate(&database).unwrap();
    database
}

/// Tags and keys in the order of the log.
fn log(database: &Database) -> Vec<LogEntry> {
    Store::open(database)
        .unwrap()
        .read_log(Seq::ZERO, 1 << 20)
        .unwrap()
        .newer
}

#[test]
fn reports_an_acknowledged_upload_as_duplicate_to_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&on_sqlite(&folder), UnixMillis(0));
    assert_eq!(gateway.send(&upload("a", &[1])).recv(), Ok(Stored));
    let (sender, looked_up) = bounded(1);
    let state = Arc::clone(&gateway.state);
    gateway.send_to(&upload("b", &[2]), move |answer| {
        assert_eq!(answer, Stored);
        let next = [1, 3, 2].map(identity).to_vec();
        sender
            .send(Probe::look_up(next, Vec::new(), &state.set))
            .unwrap();
    });
    match looked_up.recv().unwrap() {
        Err(duplicates) => assert_eq!(duplicates.positions, [0, 2]),
        Ok(probe) => assert_eq!(probe.at, None, "the writer finds out"),
    }
    assert_eq!(
        gateway.send(&upload("c", &[1, 3, 2])).recv(),
        Ok(Refused(vec![0, 2]))
    );
    gateway.stop();
}

/// A database whose insertions of the upload `gated` stop and ask what is to become of them.
fn gated(
    database: &Database,
    gated: &'static str,
) -> (Database, Receiver<()>, Sender<Option<Fault>>) {
    let (arrived, arrivals) = bounded(0);
    let (verdicts, verdict) = bounded(0);
    let failing = database.failing(move |step| {
        if step != Step::Insert(gated) || arrived.send(()).is_err() {
            return None;
        }
        verdict.recv().unwrap_or(None)
    });
    (failing, arrivals, verdicts)
}

/// Sends upload `a`, others while it is being written, and lets each attempt to write it end as
/// said, after another gateway has written what it has to. Returns the answers.
fn check(attempts: &[(Option<Fault>, Option<Upload>)], expected: [Answer; 6]) {
    let folder = tempfile::tempdir().unwrap();
    let database = on_sqlite(&folder);
    let (failing, arrivals, verdicts) = gated(&database, "a");
    let gateway = Gateway::start(&failing, UnixMillis(0));
    let uploads = [
        upload("a", &[1, 2]),
        upload("b", &[10, 2]),
        upload("a", &[11]),
        upload("a", &[1, 2]),
        upload("e", &[12, 13]),
        upload("f", &[14, 12]),
    ];
    let mut answers = vec![gateway.send(&uploads[0])];
    let mut other = Store::open(&database).unwrap();
    arrivals.recv().unwrap();
    answers.extend(uploads[1..].iter().map(|upload| gateway.send(upload)));
    let mut written = 0;
    for (attempt, (fault, faster)) in (1..).zip(attempts) {
        if attempt > 1 {
            arrivals.recv().unwrap();
        }
        if let Some(faster) = faster {
            written += 1;
            faster.append(&mut other, written);
        }
        verdicts.send(*fault).unwrap();
    }
    // From now on it is let through.
    drop((arrivals, verdicts));
    let answers: Vec<Answer> = answers
        .iter()
        .map(|answer| answer.recv().unwrap())
        .collect();
    assert_eq!(answers, expected, "{attempts:?}");
    gateway.stop();
    let log = log(&database);
    assert!(log.iter().map(|entry| entry.seq.0).eq(1..=log.len() as u64));
    let keys: Vec<KeyIdentity> = log
        .iter()
        .flat_map(|entry| entry.identities.clone())
        .collect();
    assert_eq!(
        keys.len(),
        keys.iter().map(|key| key.0).collect::<HashSet<_>>().len()
    );
    let stored = answers.iter().filter(|&answer| *answer == Stored).count();
    let faster = attempts
        .iter()
        .filter(|(_, faster)| faster.is_some())
        .count();
    let unheard = attempts.contains(&(Some(Fault::LostAfterwards), None));
    assert_eq!(log.len(), stored + faster + usize::from(unheard));
}

impl PartialEq for Upload {
    fn eq(&self, other: &Self) -> bool {
        self.tag == other.tag && self.keys == other.keys
    }
}

#[test]
fn who_comes_beside_a_commit_is_answered_as_if_it_came_after() {
    let dup = |at: &[u32]| Refused(at.to_vec());
    let after = [Stored, dup(&[1]), Taken, Replayed, Stored, dup(&[1])];
    check(&[(None, None)], after.clone());
    check(&[(Some(Fault::Conflict), None)], after.clone());
    check(&vec![(Some(Fault::Lost), None); 3], after.clone());
    let mut replayed = after;
    replayed[0] = Replayed;
    check(&[(Some(Fault::LostAfterwards), None)], replayed.clone());
    check(&[(None, Some(upload("a", &[1, 2])))], replayed);
}

#[test]
fn rechecks_what_came_during_a_commit_when_another_gateway_was_faster() {
    let dup = |at: &[u32]| Refused(at.to_vec());
    let faster = |keys: &[u64]| (None, Some(upload(&format!("x{}", keys[0]), keys)));
    check(
        &[faster(&[13, 10])],
        [Stored, dup(&[0, 1]), Taken, Replayed, dup(&[1]), Stored],
    );
    check(
        &[faster(&[3, 2])],
        [dup(&[1]), dup(&[1]), Stored, dup(&[1]), Stored, dup(&[1])],
    );
    check(
        &[(None, Some(upload("a", &[11])))],
        [Taken, Stored, Replayed, Taken, Stored, dup(&[1])],
    );
    // So many lost races that the writer locks the log tail; and then the connection is lost.
    let mut attempts = [90, 12, 91, 92].map(|key| faster(&[key])).to_vec();
    let expected = [Stored, dup(&[1]), Taken, Replayed, dup(&[0]), dup(&[1])];
    check(&attempts, expected.clone());
    attempts.push((Some(Fault::Lost), None));
    check(&attempts, expected);
}

#[test]
fn names_the_duplicates_that_another_gateway_has_just_stored_too() {
    let folder = tempfile::tempdir().unwrap();
    let database = on_sqlite(&folder);
    let gateway = Gateway::start(&database, UnixMillis(0));
    assert_eq!(gateway.send(&upload("a", &[1])).recv(), Ok(Stored));
    // The set has the key soon after the answer.
    let found = loop {
        let identities = [1, 7, 8].map(identity).to_vec();
        let looked_up = Probe::look_up(identities, Vec::new(), &gateway.state.set);
        if let Err(found) = looked_up {
            break found;
        }
    };
    assert_eq!(found.positions, [0], "as far as this gateway has followed");
    let mut other = Store::open(&database).unwrap();
    upload("b", &[8]).append(&mut other, 2);
    let (answered, answer) = bounded(1);
    let unconfirmed = Unconfirmed {
        answer: FromMemory::Duplicates(found),
        permit: gateway
            .admission
            .admit(upload("c", &[]).country, 0)
            .unwrap(),
        reply: Box::new(move |answer| answered.send(heard(answer)).unwrap()),
    };
    let sent = gateway.submissions.send(Incoming::Confirm(unconfirmed));
    sent.unwrap();
    assert_eq!(answer.recv(), Ok(Refused(vec![0, 2])));
    gateway.stop();
}

#[test]
fn tells_how_far_the_rebuild_has_come() {
    let folder = tempfile::tempdir().unwrap();
    let database = on_sqlite(&folder);
    let mut store = Store::open(&database).unwrap();
    for number in 1..=3 {
        upload(&number.to_string(), &[number, number + 10]).append(&mut store, number);
    }
    let progress = StartProgress::default();
    let continuity = Continuity::start(&database, None, &chain(), &mut store).unwrap();
    let continuity = Arc::new(continuity);
    let after_commit = Box::new(NothingToDo);
    let started = Writer::start(
        database,
        &mut store,
        UnixMillis(0),
        after_commit,
        continuity,
        &progress,
    );
    started.unwrap();
    assert_eq!((progress.keys_read(), progress.keys_expected()), (6, 6));
}

#[test]
fn knows_a_tag_that_it_has_forgotten_from_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let database = on_sqlite(&folder);
    let mut other = Store::open(&database).unwrap();
    (0..2).for_each(|number| old_upload(number, true).append(&mut other, number + 1));
    let (failing, arrivals, verdicts) = gated(&database, "old-0");
    let gateway = Gateway::start(&failing, UnixMillis(Day::MILLIS));
    let replay = gateway.send(&old_upload(0, true));
    arrivals.recv().unwrap();
    let others = [
        old_upload(1, false),
        old_upload(0, false),
        upload("a", &[1]),
    ];
    let others = others.map(|upload| gateway.send(&upload));
    verdicts.send(None).unwrap();
    drop((arrivals, verdicts));
    assert_eq!(replay.recv(), Ok(Replayed));
    assert_eq!(
        others.map(|answer| answer.recv().unwrap()),
        [Taken, Taken, Stored]
    );
    gateway.stop();
}

#[test]
fn answers_everything_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (database, arrivals, verdicts) = gated(&on_sqlite(&folder), "a");
    let gateway = Gateway::start(&database, UnixMillis(0));
    let a = gateway.send(&upload("a", &[1]));
    arrivals.recv().unwrap();
    // One batched, two deferred: one of them twice.
    let shared = [vec![2, 3], vec![4, 1], vec![3, 5]];
    let others = shared.map(|keys| gateway.send(&upload(&format!("u{}", keys[0]), &keys)));
    drop(gateway.submissions);
    verdicts.send(Some(Fault::Lost)).unwrap();
    drop((arrivals, verdicts));
    gateway.thread.join().unwrap();
    assert_eq!(a.try_recv(), Ok(Stored));
    let answers = others.map(|answer| answer.try_recv().unwrap());
    assert_eq!(answers, [Stored, Refused(vec![1]), Refused(vec![0])]);
    assert_eq!(gateway.admission.batches_in_flight(), 0);
}

#[test]
fn a_commit_thread_that_panics_takes_the_writer_along() {
    let folder = tempfile::tempdir().unwrap();
    let database = on_sqlite(&folder).failing(|step| match step {
        Step::Connect => None,
        _ => panic!("as told"),
    });
    let gateway = Gateway::start(&database, UnixMillis(0));
    let unanswered = gateway.send(&upload("a", &[1]));
    assert!(gateway.thread.join().is_err(), "the engine is restarted");
    assert!(unanswered.recv().is_err(), "nobody waits for ever");
}
