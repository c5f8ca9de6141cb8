use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::channel::bounded;

use super::*;
use crate::clock::SystemClock;
use crate::database::faulty::{Fault, Step};
use crate::domain::UnixMillis;
use crate::log_chain::BatchColumns;
use crate::seal::Keys;
use crate::settings::DatabaseUrl;
use crate::store::{DownloadBatchRow, migrate};

fn database(folder: &tempfile::TempDir) -> Database {
    let database = Database::new(DatabaseUrl::Sqlite(folder.path().join("db")));
    migrate(&database).unwrap();
    database
}

fn continuity(database: &Database) -> Arc<Continuity> {
    let mut store = Store::open(database).unwrap();
    let keys = Keys::parse(&Keys::generate_text()).unwrap();
    Arc::new(Continuity::start(database, None, keys.chain(), &mut store).unwrap())
}

#[test]
fn nothing_is_claimed_from_a_database_that_went_back() {
    let folder = tempfile::tempdir().unwrap();
    let database = database(&folder);
    let id = CallbackId::parse("1").unwrap();
    let mut store = Store::open(&database).unwrap();
    store
        .subscribe(de(), &id, "https://de", UnixMillis(0))
        .unwrap();
    let continuity = continuity(&database);
    // A batch that this gateway has served, and the database lacks.
    let columns = BatchColumns {
        ordinal: 1,
        tag: BatchTag::parse("20201006-1").unwrap(),
        seqs: 1..=1,
        key_count: 1,
    };
    let batch = DownloadBatchRow {
        columns,
        digest: None,
    };
    continuity.remember_batch(&batch).unwrap();
    let (callbacks, worker) = Callbacks::new(&database, Arc::new(SystemClock), 2, &continuity);
    let thread = std::thread::spawn(move || worker.run());
    // The first finds it out, the second is not even queued.
    for _ in 0..2 {
        let (answered, answer) = bounded(1);
        callbacks.claim(
            Duration::from_secs(1),
            |_| Some(()),
            move |due| answered.send(due).unwrap(),
        );
        let answer = answer.recv().unwrap();
        let refused = matches!(
            answer,
            Err(CallbackError::Failure(Failure::DatabaseWentBack))
        );
        assert!(refused, "{answer:?}");
    }
    callbacks.stop();
    thread.join().unwrap();
}

fn de() -> Country {
    Country::parse("DE").unwrap()
}

#[test]
fn who_is_queued_behind_a_failed_connection_is_refused_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (arrived, arrivals) = bounded(0);
    let (go_on, may_go_on) = bounded::<()>(0);
    let connects = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&connects);
    let away = database(&folder).failing(move |step| {
        assert_eq!(step, Step::Connect);
        counter.fetch_add(1, Ordering::SeqCst);
        arrived.send(()).unwrap();
        may_go_on.recv().unwrap();
        Some(Fault::Lost)
    });
    let continuity = continuity(&database(&folder));
    let (callbacks, worker) = Callbacks::new(&away, Arc::new(SystemClock), 2, &continuity);
    let thread = std::thread::spawn(move || worker.run());
    let (answered, answers) = bounded(4);
    let ask = || {
        let answered = answered.clone();
        callbacks.list(de(), move |answer| answered.send(answer).unwrap());
    };
    ask();
    arrivals.recv().unwrap();
    (0..3).for_each(|_| ask());
    go_on.send(()).unwrap();
    for _ in 0..4 {
        let answer = answers.recv().unwrap();
        let refused = matches!(answer, Err(CallbackError::Failure(Failure::Database(_))));
        assert!(refused, "{answer:?}");
    }
    assert_eq!(connects.load(Ordering::SeqCst), 1);
    callbacks.stop();
    thread.join().unwrap();
}

#[test]
fn whoever_floods_the_thread_delays_and_refuses_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let (callbacks, worker) = Callbacks::new(
        &database(&folder),
        Arc::new(SystemClock),
        2,
        &continuity(&database(&folder)),
    );
    let (answered, answers) = bounded(1024);
    let ask = |country: &'static str| {
        let answered = answered.clone();
        callbacks.list(Country::parse(country).unwrap(), move |answer| {
            answered.send((country, answer.is_ok())).unwrap();
        });
    };
    let flood = limits::PARTICIPANT_CALLBACK_JOBS_MAX;
    (0..=flood).for_each(|_| ask("DE"));
    assert_eq!(answers.try_recv(), Ok(("DE", false)), "it has its share");
    ask("FR");
    callbacks.stop();
    worker.run();
    let order: Vec<_> = answers.try_iter().collect();
    assert_eq!(order.len(), flood + 1);
    assert_eq!(order[..3], [("DE", true), ("FR", true), ("DE", true)]);
}

#[test]
fn counts_what_participants_have_waiting_and_not_the_gateways_own() {
    let folder = tempfile::tempdir().unwrap();
    let (callbacks, _worker) = Callbacks::new(
        &database(&folder),
        Arc::new(SystemClock),
        2,
        &continuity(&database(&folder)),
    );
    for _ in 0..2 {
        callbacks.claim(Duration::ZERO, |_| Some(()), |_| {});
    }
    assert_eq!(callbacks.waiting_most(), 0);
    callbacks.list(de(), |_| {});
    assert_eq!(callbacks.waiting_most(), 1);
}

#[test]
fn who_is_removed_while_the_answer_is_lost_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let database = database(&folder);
    let id = CallbackId::parse("1").unwrap();
    let mut store = Store::open(&database).unwrap();
    let subscribed = store.subscribe(de(), &id, "https://de", UnixMillis(0));
    assert_eq!(subscribed.unwrap(), Subscribed::Taken);
    let commits = AtomicU64::new(0);
    let failing = database.failing(move |step| match step {
        Step::Commit if commits.fetch_add(1, Ordering::SeqCst) == 0 => Some(Fault::LostAfterwards),
        _ => None,
    });
    let continuity = continuity(&database);
    let (callbacks, worker) = Callbacks::new(&failing, Arc::new(SystemClock), 2, &continuity);
    let thread = std::thread::spawn(move || worker.run());
    let unsubscribe = || {
        let (answered, answer) = bounded(1);
        callbacks.unsubscribe(de(), id.clone(), move |found| answered.send(found).unwrap());
        answer.recv().unwrap().unwrap()
    };
    assert_eq!([unsubscribe(), unsubscribe()], [true, false]);
    callbacks.stop();
    thread.join().unwrap();
}

#[test]
fn takes_ids_of_1_to_32_characters() {
    for id in [
        "1",
        "5f4dcc3b5aa765d61d8327deb882cf99",
        &"é".repeat(32),
        "a/b c",
    ] {
        assert_eq!(CallbackId::parse(id).unwrap().as_str(), id);
    }
    for id in ["", &"x".repeat(33), "a\nb", "\u{7f}"] {
        assert_eq!(CallbackId::parse(id), Err(CallbackIdError), "{id:?}");
    }
}
