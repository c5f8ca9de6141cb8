//! What only a real MariaDB shows: locks, and how long is waited for them.

mod corrupted;
mod hostile_values;

use std::thread;
use std::time::Duration;

use testkit::local::MariaDb;
use testkit::poll::holds_within;

use super::*;
use crate::database::{Database, SqlError, Timeouts, UniqueIndex};
use crate::domain::{
    ContentDigest, Country, FORMAT_VERSION, Seq, Thumbprint, UnixMillis, UploadTag,
};
use crate::limits;
use crate::log_chain::Link;
use crate::settings::DatabaseUrl;

const THUMBPRINT: Thumbprint = Thumbprint([1; 32]);
const CONTENT: ContentDigest = ContentDigest([3; 32]);
/// Timeout of every wait.
const TIMEOUT: Duration = Duration::from_secs(30);

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
        link: Link::from_bytes(&[4; 64]).unwrap(),
        batch_signature: "",
        identities: &[],
        sealed: &[],
    }
}

/// Waits until a statement waits for a row lock.
fn wait_for_a_lock_wait(database: &Database) {
    // `innodb_trx` shows the same, but is refreshed only when it was not read for 100 ms.
    let waiting = "SELECT CAST(variable_value AS UNSIGNED) FROM information_schema.global_status \
         WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS'";
    wait_until_positive(database, waiting);
}

/// Waits until a query's only number is positive.
fn wait_until_positive(database: &Database, query: &str) {
    let mut connection = database.connect(Timeouts::Short).unwrap();
    let mut number = || connection.first(query, &[]).unwrap().unwrap().number(0);
    assert!(holds_within(TIMEOUT, || number().unwrap() > 0), "{query}");
}

#[test]
fn a_probe_finds_a_full_database_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::Sqlite(folder.path().join("efgs.db"));
    let database = Database::new(url);
    migrate(&database).unwrap();
    let mut store = Store::open(&database).unwrap();
    store.0.script("PRAGMA max_page_count = 60").unwrap();
    store.probe_append(64 << 10).unwrap();
    for _ in 0..2 {
        let refused = store.probe_append(4 << 20).unwrap_err();
        assert!(matches!(refused, SqlError::Refused(_)), "{refused}");
        assert!(refused.to_string().contains("full"), "{refused}");
    }
    append(&mut store, 1, "1").unwrap();
    assert_eq!(store.log_end().unwrap(), Seq(1));
}

#[test]
fn blocks_other_appends_while_the_log_is_locked() {
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
        wait_for_a_lock_wait(&database);
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
        wait_for_a_lock_wait(&database);
        ours.unlock_log().unwrap();
        racing.join().unwrap().unwrap();
    });
    ours.probe_append(100_000).unwrap();
    let tags = ours.read_log(Seq::ZERO, 32).unwrap().newer.into_iter();
    let tags: Vec<_> = tags.map(|entry| entry.tag.to_string()).collect();
    assert_eq!(tags, ["1", "ours", "theirs"]);
}

#[test]
fn distinguishes_indexes_whatever_the_language_of_the_server() {
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
fn waits_while_another_gateway_migrates() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    server.create_database("efgs").unwrap();
    let database = Database::new(server.url("efgs").parse().unwrap());
    migrate(&database).unwrap();
    let mut other = database.connect(Timeouts::Short).unwrap();
    other.execute("DELETE FROM schema_version", &[]).unwrap();
    let take = format!(
        "UPDATE lease SET holder = 'other', expires_at_ms = {} + {} WHERE name = 'migrate'",
        other.dialect().now_ms,
        limits::MIGRATION_LEASE.as_millis()
    );
    other.begin().unwrap();
    assert_eq!(other.execute(&take, &[]).unwrap(), 1);
    thread::scope(|scope| {
        let migrating = scope.spawn(|| migrate(&database));
        // It finds the lock held by the other, and tries again.
        for _ in 0..2 {
            wait_for_a_lock_wait(&database);
            other.script("COMMIT").unwrap();
            other.begin().unwrap();
            assert_eq!(other.execute(&take, &[]).unwrap(), 1);
        }
        wait_for_a_lock_wait(&database);
        assert!(!migrating.is_finished(), "it still waits");
        let give_back = "UPDATE lease SET expires_at_ms = 0 WHERE name = 'migrate'";
        other.execute(give_back, &[]).unwrap();
        other.script("COMMIT").unwrap();
        assert_eq!(migrating.join().unwrap().unwrap(), 0);
    });
}
