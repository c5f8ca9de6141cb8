//! What only a real MariaDB shows: locks, and how long is waited for them.

mod corrupted;

use std::thread;
use std::time::{Duration, Instant};

use testkit::local::MariaDb;

use super::*;
use crate::database::{Database, SqlError, Timeouts, UniqueIndex};
use crate::domain::{ContentDigest, Country, Seq, Thumbprint, UnixMillis, UploadTag};
use crate::limits;

const THUMBPRINT: Thumbprint = Thumbprint([1; 32]);
const CONTENT: ContentDigest = ContentDigest([3; 32]);

fn append(store: &mut Store, seq: u64, tag: &str) -> Result<(), SqlError> {
    let tag = UploadTag::parse(tag).unwrap();
    store.append(None, &[row(seq, &tag)]).map(|_| ())
}

fn row(seq: u64, tag: &UploadTag) -> UploadRow<'_> {
    UploadRow {
        seq: Seq(seq),
        created_at: UnixMillis(0),
        country: Country::parse("DE").unwrap(),
        tag,
        key_count: 0,
        format_version: FORMAT_VERSION,
        uploader: &THUMBPRINT,
        signer: &THUMBPRINT,
        content: &CONTENT,
        batch_signature: "",
        identities: &[],
        sealed: &[],
    }
}

/// Waits until a transaction waits for a lock.
fn wait_for_a_waiter(database: &Database) {
    let mut connection = database.connect(Timeouts::Short).unwrap();
    let waiting = "SELECT COUNT(*) FROM information_schema.innodb_trx \
         WHERE trx_state = 'LOCK WAIT'";
    let begun = Instant::now();
    while connection.first(waiting, &[]).unwrap().unwrap().number(0) == Ok(0) {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody waits");
        // The server makes this table anew only for who has not asked for a tenth of a second.
        thread::sleep(Duration::from_millis(150));
    }
}

#[test]
fn nobody_else_appends_to_a_locked_log() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    server.create_database("efgs").unwrap();
    let database = Database::new(server.url("efgs").parse().unwrap());
    migrate(&database).unwrap();
    let (mut ours, mut theirs) = (
        Store::open(&database).unwrap(),
        Store::open(&database).unwrap(),
    );
    append(&mut theirs, 1, "1").unwrap();

    let ours_tag = UploadTag::parse("ours").unwrap();
    ours.lock_log().unwrap();
    let tail = ours.read_locked_log(Seq::ZERO, 32).unwrap();
    assert_eq!(tail.newer.len(), 1);
    thread::scope(|scope| {
        let racing = scope.spawn(|| append(&mut theirs, 2, "theirs"));
        wait_for_a_waiter(&database);
        ours.append_locked(None, &[row(2, &ours_tag)]).unwrap();
        let lost = racing.join().unwrap();
        assert!(
            matches!(lost, Err(SqlError::Duplicate(UniqueIndex::Primary))),
            "{lost:?}"
        );
    });

    ours.lock_log().unwrap();
    assert!(ours.read_locked_log(Seq(2), 32).unwrap().newer.is_empty());
    thread::scope(|scope| {
        let racing = scope.spawn(|| append(&mut theirs, 3, "theirs"));
        wait_for_a_waiter(&database);
        ours.unlock_log().unwrap();
        racing.join().unwrap().unwrap();
    });
    let tags = ours.read_log(Seq::ZERO, 32).unwrap().newer.into_iter();
    let tags: Vec<_> = tags.map(|entry| entry.tag.to_string()).collect();
    assert_eq!(tags, ["1", "ours", "theirs"]);
}

#[test]
fn tells_indexes_apart_whatever_language_the_server_speaks() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    server.create_database("efgs").unwrap();
    server.run("SET GLOBAL lc_messages = 'de_DE'").unwrap();
    let database = Database::new(server.url("efgs").parse().unwrap());
    migrate(&database).unwrap();
    let mut store = Store::open(&database).unwrap();
    append(&mut store, 1, "1").unwrap();
    for (seq, tag, index) in [
        (1, "2", UniqueIndex::Primary),
        (2, "1", UniqueIndex::UploadTag),
    ] {
        match append(&mut store, seq, tag) {
            Err(SqlError::Duplicate(found)) => assert_eq!(found, index),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn who_migrates_is_waited_for_longer_than_a_gateway_at_work_waits_for_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    server.create_database("efgs").unwrap();
    let database = Database::new(server.url("efgs").parse().unwrap());
    let mut other = database.connect(Timeouts::Short).unwrap();
    other.lock_migrations().unwrap();
    thread::scope(|scope| {
        let migrating = scope.spawn(|| migrate(&database));
        // There is no event in this: the time itself is what must not matter.
        thread::sleep(limits::ANSWER_TIMEOUT + Duration::from_secs(1));
        assert!(!migrating.is_finished(), "it waits");
        other.unlock_migrations().unwrap();
        assert_eq!(migrating.join().unwrap().unwrap(), 0);
    });
}
