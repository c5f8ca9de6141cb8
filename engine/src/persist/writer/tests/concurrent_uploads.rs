//! Many uploads at once, through several gateways, beside commits that fail at random.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::thread;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use testkit::local::MariaDb;

use super::*;

/// What came of many uploads at once.
#[derive(Default)]
struct Record {
    /// Keys that a gateway has acknowledged, by gateway.
    acknowledged: Vec<HashSet<u64>>,
    heard: Vec<(Upload, Answer)>,
}

/// Senders on several gateways, whose uploads share keys and tags all the time.
struct Senders {
    gateways: Vec<Gateway>,
    record: Mutex<Record>,
    next: AtomicU64,
}

const OLD_UPLOADS: u64 = 20;

impl Senders {
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

fn upload_concurrently(database: &Database, gateways: usize, seed: u64) {
    let mut store = Store::open(database).unwrap();
    (0..OLD_UPLOADS).for_each(|number| old_upload(number, true).append(&mut store, number + 1));
    let random = Mutex::new(ChaCha8Rng::seed_from_u64(seed));
    let failing = database.failing(move |step| {
        if matches!(step, Step::Connect | Step::LockLog) {
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
    let since = |at: usize| UnixMillis(if at == 0 { 0 } else { Day::MILLIS });
    let senders = Senders {
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
            let senders = &senders;
            scope.spawn(move || {
                senders.send_some(seed * 100 + sender as u64, sender % gateways, 60);
                senders.gateways[0]
                    .state
                    .forget_before(UnixMillis(Day::MILLIS).day());
            });
        }
    });
    senders.agrees_with(&log(database));
    senders.gateways.into_iter().for_each(Gateway::stop);
}

#[test]
fn concurrent_uploads_beside_commits_that_fail_are_answered_exactly_on_sqlite() {
    for (seed, gateways) in [(1, 1), (2, 1), (3, 3), (4, 3)] {
        let folder = tempfile::tempdir().unwrap();
        upload_concurrently(&on_sqlite(&folder), gateways, seed);
    }
}

#[test]
fn concurrent_uploads_beside_commits_that_fail_are_answered_exactly_on_mariadb() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    for (seed, gateways) in [(5, 1), (6, 3), (7, 3)] {
        let name = format!("concurrent_{seed}");
        server.create_database(&name).unwrap();
        let database = Database::new(server.url(&name).parse().unwrap());
        migrate(&database).unwrap();
        upload_concurrently(&database, gateways, seed);
    }
}
