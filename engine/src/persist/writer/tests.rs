//! Uploads that meet: in flight, gathered beside it, put off, and in the log of another gateway,
//! while commits fail in every way. On real databases, with connections that fail when told.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::atomic::AtomicU64;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use crossbeam::channel::bounded;
use loadgen::local::MariaDb;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::admission::Admission;
use crate::dedup::Probe;
use crate::domain::{ContentDigest, Country, Thumbprint, UnixMillis, UploadTag};
use crate::persist::faulty::{Fault, Moment};
use crate::persist::migrate;

const DAY_MS: u64 = 86_400_000;

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
        Err(UploadError::Failure(Failure::Database(_))) => Failed,
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
        SealedBatch {
            country: self.country,
            tag: self.tag(),
            uploader: Thumbprint([1; 32]),
            signer: Thumbprint([2; 32]),
            content: self.content(),
            batch_signature: "".into(),
            key_count: u32::try_from(self.keys.len()).unwrap(),
            created_at: UnixMillis(self.day * DAY_MS),
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
        store.append(Seq(at), &[&batch]).unwrap();
    }
}

/// A writer with its threads.
struct Gateway {
    state: Arc<WriterState>,
    admission: Admission,
    submissions: Sender<Submission>,
    thread: JoinHandle<()>,
}

impl Gateway {
    fn start(database: &Database, since: UnixMillis) -> Self {
        Self::start_with(database, since, limits::DATABASE_PATIENCE)
    }

    fn start_with(database: &Database, since: UnixMillis, patience: Duration) -> Self {
        let (wake, _wakes) = bounded(1);
        let (fresh, mut store) = (Arc::new(FreshSegments::new(0)), database.store().unwrap());
        let mut writer = Writer::start(database.clone(), &mut store, since, fresh, wake).unwrap();
        writer.patience = patience;
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
                self.submissions.send(Submission { batch, reply }).unwrap();
            }
            Err(_) if tag_state() == TagState::SameContent => reply(Replayed),
            Err(duplicates) => reply(Refused(duplicates)),
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
    database
        .store()
        .unwrap()
        .read_log(Seq::ZERO, 1 << 20)
        .unwrap()
}

#[test]
fn who_is_acknowledged_is_counted_among_the_duplicates_of_who_comes_next() {
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
        Err(duplicates) => assert_eq!(duplicates, [0, 2]),
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
    let failing = database.failing(move |moment| {
        if moment != Moment::Insert(gated) || arrived.send(()).is_err() {
            return None;
        }
        verdict.recv().unwrap_or(None)
    });
    (failing, arrivals, verdicts)
}

/// Sends upload `a`, others while it is being written, and lets each attempt to write it end as
/// said, after another gateway has written what it has to. Gives the answers.
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
    let mut other = database.store().unwrap();
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
fn who_comes_beside_a_commit_is_judged_again_when_another_gateway_was_faster() {
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
    // So often that the end of the log is claimed; and then the connection is lost.
    let mut attempts = [90, 12, 91, 92].map(|key| faster(&[key])).to_vec();
    let expected = [Stored, dup(&[1]), Taken, Replayed, dup(&[0]), dup(&[1])];
    check(&attempts, expected.clone());
    attempts.push((Some(Fault::Lost), None));
    check(&attempts, expected);
}

#[test]
fn who_shares_with_what_the_database_refuses_goes_on_without_it() {
    let dup = |at: &[u32]| Refused(at.to_vec());
    check(
        &[(Some(Fault::Refused), None)],
        [Failed, Stored, Stored, Taken, Stored, dup(&[1])],
    );
    let folder = tempfile::tempdir().unwrap();
    let database = on_sqlite(&folder);
    let mut other = database.store().unwrap();
    let (arrived, arrivals) = bounded(0);
    let (go_on, may_go_on) = bounded(0);
    let failing = database.failing(move |moment| match moment {
        Moment::Insert("bad") => Some(Fault::Refused),
        Moment::Insert("z" | "a") => {
            arrived.send(()).unwrap();
            may_go_on.recv().unwrap();
            None
        }
        _ => None,
    });
    let gateway = Gateway::start(&failing, UnixMillis(0));
    let z = gateway.send(&upload("z", &[99]));
    arrivals.recv().unwrap();
    let a = gateway.send(&upload("a", &[1]));
    let bad = gateway.send(&upload("bad", &[2]));
    go_on.send(()).unwrap();
    // Both in one group, whose second is refused.
    arrivals.recv().unwrap();
    let early = gateway.send(&upload("early", &[3, 4]));
    go_on.send(()).unwrap();
    // By itself.
    arrivals.recv().unwrap();
    let beside = gateway.send(&upload("beside", &[5, 6]));
    let shares = gateway.send(&upload("shares", &[2]));
    upload("faster", &[6, 3]).append(&mut other, 2);
    go_on.send(()).unwrap();
    // Again, behind the other gateway's.
    arrivals.recv().unwrap();
    let late = gateway.send(&upload("late", &[7, 1]));
    let last = gateway.send(&upload("last", &[8, 6]));
    go_on.send(()).unwrap();
    let answers =
        [z, a, bad, early, beside, shares, late, last].map(|answer| answer.recv().unwrap());
    let expected = [
        Stored,
        Stored,
        Failed,
        dup(&[0]),
        dup(&[1]),
        Stored,
        dup(&[1]),
        dup(&[1]),
    ];
    assert_eq!(answers, expected);
    gateway.stop();
    assert_eq!(log(&database).len(), 4);
}

#[test]
fn knows_a_tag_that_it_has_forgotten_from_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let database = on_sqlite(&folder);
    let mut other = database.store().unwrap();
    (0..2).for_each(|number| old_upload(number, true).append(&mut other, number + 1));
    let (failing, arrivals, verdicts) = gated(&database, "old-0");
    let gateway = Gateway::start(&failing, UnixMillis(DAY_MS));
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
fn who_is_queued_behind_a_database_that_is_away_is_refused_with_who_waited_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = on_sqlite(&folder);
    let (arrived, arrivals) = bounded(0);
    let (go_on, may_go_on) = bounded::<()>(0);
    let is_away = Arc::new(AtomicBool::new(false));
    let connects = Arc::new(AtomicU64::new(0));
    let (away, counter) = (Arc::clone(&is_away), Arc::clone(&connects));
    let failing = database.failing(move |moment| match moment {
        Moment::Insert("a") if !away.load(Ordering::SeqCst) => {
            arrived.send(()).unwrap();
            may_go_on.recv().ok()?;
            away.store(true, Ordering::SeqCst);
            Some(Fault::Lost)
        }
        Moment::Connect if away.load(Ordering::SeqCst) => {
            counter.fetch_add(1, Ordering::SeqCst);
            Some(Fault::Lost)
        }
        _ => None,
    });
    let gateway = Gateway::start_with(&failing, UnixMillis(0), Duration::from_millis(100));
    let (answered, answers) = bounded(100);
    let send = |upload: &Upload| {
        let (answered, connects) = (answered.clone(), Arc::clone(&connects));
        gateway.send_to(upload, move |answer| {
            let connects = connects.load(Ordering::SeqCst);
            answered.send((answer, connects)).unwrap();
        });
    };
    send(&upload("a", &[1]));
    arrivals.recv().unwrap();
    // Four groups, and one that is put off.
    for number in 2..10 {
        let mut large = upload(&number.to_string(), &[number]);
        large.bytes = limits::GROUP_BYTES_MAX / 2;
        send(&large);
    }
    send(&upload("shares", &[1, 20]));
    go_on.send(()).unwrap();
    let heard: Vec<_> = answers.iter().take(10).collect();
    let at_once = heard[0].1;
    assert_eq!(heard, vec![(Failed, at_once); 10]);
    drop((go_on, arrivals));
    is_away.store(false, Ordering::SeqCst);
    // The writer's next attempt to connect may have failed just now.
    let again = upload("2", &[2]);
    while gateway.send(&again).recv().unwrap() == Failed {}
    gateway.stop();
    assert_eq!(log(&database).len(), 1);
}

#[test]
fn does_not_claim_the_log_for_want_of_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let database = on_sqlite(&folder);
    let refused = AtomicU64::new(0);
    let failing = database.failing(move |moment| match moment {
        Moment::Insert("a") if refused.load(Ordering::SeqCst) == 0 => {
            refused.store(1, Ordering::SeqCst);
            Some(Fault::Lost)
        }
        Moment::Connect => {
            let number = refused.load(Ordering::SeqCst);
            let is_refused = (1..=u64::from(limits::LOST_RACES_MAX)).contains(&number);
            is_refused.then(|| {
                refused.fetch_add(1, Ordering::SeqCst);
                Fault::Lost
            })
        }
        Moment::Claim => panic!("nobody was faster"),
        _ => None,
    });
    let gateway = Gateway::start(&failing, UnixMillis(0));
    assert_eq!(gateway.send(&upload("a", &[1])).recv(), Ok(Stored));
    gateway.stop();
}

fn upload_of(country: &str, tag: &str, keys: &[u64]) -> Upload {
    Upload {
        country: Country::parse(country).unwrap(),
        ..upload(tag, keys)
    }
}

fn large(tag: &str, key: u64, bytes: usize) -> Upload {
    Upload {
        bytes,
        ..upload(tag, &[key])
    }
}

/// Stores an upload `a` of another country, and what has come while it was written. Gives the tags
/// of each group that was written after it, in the order of the log.
fn groups_of(queue: &[Upload]) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let (database, arrivals, verdicts) = gated(&on_sqlite(&folder), "a");
    let gateway = Gateway::start(&database, UnixMillis(0));
    let a = gateway.send(&upload_of("ES", "a", &[1]));
    arrivals.recv().unwrap();
    let (answered, answers) = bounded(queue.len());
    for upload in queue {
        let (answered, state) = (answered.clone(), Arc::clone(&gateway.state));
        // A group is answered together, when the position is at its end.
        gateway.send_to(upload, move |answer| {
            answered.send((answer, state.position())).unwrap();
        });
    }
    verdicts.send(None).unwrap();
    assert_eq!(a.recv(), Ok(Stored));
    let answers = answers.iter().take(queue.len());
    let stored = answers.filter(|(answer, _)| *answer == Stored);
    let ends: HashSet<Seq> = stored.map(|(_, end)| end).collect();
    gateway.stop();
    let mut groups = vec![Vec::new()];
    for entry in log(&database).into_iter().skip(1) {
        groups.last_mut().unwrap().push(entry.tag.to_string());
        if ends.contains(&entry.seq) {
            groups.push(Vec::new());
        }
    }
    assert_eq!(
        groups.pop(),
        Some(Vec::new()),
        "everything stored was answered"
    );
    groups
}

#[test]
fn participants_take_turns_behind_a_full_group() {
    let queue = [
        large("full", 2, limits::GROUP_BYTES_MAX),
        upload_of("DE", "d1", &[3]),
        upload_of("DE", "d2", &[4]),
        upload_of("DE", "d3", &[5]),
        upload_of("FR", "f1", &[6]),
        upload_of("IT", "i1", &[7]),
    ];
    let turns = vec!["d1", "f1", "i1", "d2", "d3"];
    assert_eq!(groups_of(&queue), [vec!["full"], turns]);
}

#[test]
fn a_group_takes_no_more_when_its_bytes_are_many() {
    let half = limits::GROUP_BYTES_MAX / 2;
    let queue = ["b", "c", "d", "e", "f"];
    let queue: Vec<_> = (2..)
        .zip(queue)
        .map(|(key, tag)| large(tag, key, half))
        .collect();
    assert_eq!(
        groups_of(&queue),
        [vec!["b", "c"], vec!["d", "e"], vec!["f"]]
    );
}

#[test]
fn a_group_takes_no_more_when_it_has_put_off_many() {
    let with_rivals = |count| {
        let mut queue = vec![upload("b", &[50])];
        queue.extend((0..count).map(|number| upload(&format!("rival-{number}"), &[50])));
        queue.push(upload("z", &[51]));
        groups_of(&queue)
    };
    assert_eq!(with_rivals(limits::GROUP_DEFERRED_MAX - 1), [["b", "z"]]);
    assert_eq!(with_rivals(limits::GROUP_DEFERRED_MAX), [["b"], ["z"]]);
}

#[test]
fn answers_everything_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (database, arrivals, verdicts) = gated(&on_sqlite(&folder), "a");
    let gateway = Gateway::start(&database, UnixMillis(0));
    let a = gateway.send(&upload("a", &[1]));
    arrivals.recv().unwrap();
    // One gathered, two put off: one of them twice.
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
    let database = on_sqlite(&folder).failing(|moment| match moment {
        Moment::Connect => None,
        _ => panic!("as told"),
    });
    let gateway = Gateway::start(&database, UnixMillis(0));
    let unanswered = gateway.send(&upload("a", &[1]));
    assert!(gateway.thread.join().is_err(), "the engine is restarted");
    assert!(unanswered.recv().is_err(), "nobody waits for ever");
}

/// What came of many uploads at once.
#[derive(Default)]
struct Record {
    /// Keys that a gateway has acknowledged, by gateway.
    acknowledged: Vec<HashSet<u64>>,
    heard: Vec<(Upload, Answer)>,
}

/// Senders on several gateways, whose uploads share keys and tags all the time.
struct Crowd {
    gateways: Vec<Gateway>,
    record: Mutex<Record>,
    next: AtomicU64,
}

const OLD_UPLOADS: u64 = 20;

impl Crowd {
    fn some_upload(&self, random: &mut ChaCha8Rng) -> Upload {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        if random.random_ratio(1, 20) {
            return old_upload(
                random.random_range(0..OLD_UPLOADS),
                random.random_ratio(1, 2),
            );
        }
        let record = self.record.lock().unwrap();
        if random.random_ratio(1, 10) && !record.heard.is_empty() {
            let newest = record.heard.len().saturating_sub(8);
            let at = random.random_range(newest..record.heard.len());
            return record.heard[at].0.clone();
        }
        drop(record);
        let number = if random.random_ratio(1, 10) {
            next.saturating_sub(3)
        } else {
            next
        };
        let near = next * 3..next * 3 + 12;
        let count = random.random_range(0..5);
        let keys: Vec<u64> = (0..count)
            .map(|_| random.random_range(near.clone()))
            .collect();
        upload(&format!("tag-{number}"), &keys)
    }

    fn send_some(&self, seed: u64, at: usize, count: u64) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..count {
            let upload = self.some_upload(&mut random);
            let of_gateway = |record: &Record| record.acknowledged[at].clone();
            let before = of_gateway(&self.record.lock().unwrap());
            let answer = self.gateways[at].send(&upload).recv().unwrap();
            if let Refused(found) = &answer {
                let repeats = upload.repeats();
                for (position, key) in (0..).zip(&upload.keys) {
                    let known = before.contains(key) || repeats.contains(&position);
                    assert!(
                        !known || found.contains(&position),
                        "{upload:?}: {answer:?}"
                    );
                }
            }
            let mut record = self.record.lock().unwrap();
            if matches!(answer, Stored | Replayed) {
                record.acknowledged[at].extend(&upload.keys);
            }
            record.heard.push((upload, answer));
        }
    }

    /// What was heard, against what is in the log.
    fn agrees_with(&self, log: &[LogEntry]) {
        assert!(log.iter().map(|entry| entry.seq.0).eq(1..=log.len() as u64));
        let mut keys = HashSet::new();
        for entry in log {
            assert!(
                entry.identities.iter().all(|key| keys.insert(key.0)),
                "stored twice"
            );
        }
        let tags: HashMap<String, [u8; 32]> = log
            .iter()
            .map(|entry| (entry.tag.to_string(), entry.content.0))
            .collect();
        assert_eq!(tags.len(), log.len());
        let record = self.record.lock().unwrap();
        let mut promised: HashMap<String, u32> = HashMap::new();
        for (upload, answer) in &record.heard {
            let stored = tags.get(&upload.tag);
            let is_stored = stored == Some(&upload.content().0);
            match answer {
                Stored | Replayed => {
                    assert!(is_stored, "{upload:?} is lost");
                    *promised.entry(upload.tag.clone()).or_default() +=
                        u32::from(*answer == Stored);
                }
                Taken => assert!(stored.is_some() && !is_stored, "{upload:?}"),
                Refused(found) => {
                    let repeats = upload.repeats();
                    assert!(!found.is_empty());
                    for position in found {
                        let key = identity(upload.keys[*position as usize]);
                        let known = keys.contains(&key.0) || repeats.contains(position);
                        assert!(known, "{upload:?}: {answer:?}");
                    }
                }
                Failed => {}
            }
        }
        assert!(promised.values().all(|&times| times <= 1), "stored twice");
        let old = usize::try_from(OLD_UPLOADS).unwrap();
        let unknown = log[old..]
            .iter()
            .filter(|e| !promised.contains_key(&e.tag.to_string()));
        assert_eq!(unknown.count(), 0, "stored, and nobody knows");
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

fn crowd(database: &Database, gateways: usize, seed: u64) {
    let mut store = database.store().unwrap();
    (0..OLD_UPLOADS).for_each(|number| old_upload(number, true).append(&mut store, number + 1));
    let random = Mutex::new(ChaCha8Rng::seed_from_u64(seed));
    let failing = database.failing(move |moment| {
        if matches!(moment, Moment::Connect | Moment::Claim) {
            return None;
        }
        let faults = [
            Fault::Conflict,
            Fault::Refused,
            Fault::Lost,
            Fault::LostAfterwards,
        ];
        let at = random.lock().unwrap().random_range(0..40);
        faults.get(at).copied()
    });
    // The first knows the old tags, and forgets them; the others have never heard of them.
    let since = |at: usize| UnixMillis(if at == 0 { 0 } else { DAY_MS });
    let crowd = Crowd {
        gateways: (0..gateways)
            .map(|at| Gateway::start(&failing, since(at)))
            .collect(),
        record: Mutex::new(Record {
            acknowledged: vec![HashSet::new(); gateways],
            heard: Vec::new(),
        }),
        next: AtomicU64::new(0),
    };
    thread::scope(|scope| {
        for sender in 0..gateways * 6 {
            let crowd = &crowd;
            scope.spawn(move || {
                crowd.send_some(seed * 100 + sender as u64, sender % gateways, 60);
                crowd.gateways[0]
                    .state
                    .forget_before(Day::from_unix_seconds(DAY_MS / 1000));
            });
        }
    });
    crowd.agrees_with(&log(database));
    crowd.gateways.into_iter().for_each(Gateway::stop);
}

#[test]
fn a_crowd_beside_commits_that_fail_is_answered_exactly_on_sqlite() {
    for (seed, gateways) in [(1, 1), (2, 1), (3, 3), (4, 3)] {
        let folder = tempfile::tempdir().unwrap();
        crowd(&on_sqlite(&folder), gateways, seed);
    }
}

#[test]
fn a_crowd_beside_commits_that_fail_is_answered_exactly_on_mariadb() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    for (seed, gateways) in [(5, 1), (6, 3), (7, 3)] {
        let name = format!("crowd_{seed}");
        server.create_database(&name).unwrap();
        let database = Database::new(server.url(&name).parse().unwrap());
        migrate(&database).unwrap();
        crowd(&database, gateways, seed);
    }
}
