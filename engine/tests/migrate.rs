//! Migrations run exactly once, whichever process starts first.

#![allow(clippy::unwrap_used, reason = "tests")]

use engine::admin::Admin;
use engine::settings::DatabaseUrl;
use testkit::local::MariaDb;

/// Concurrent starts, as of eight processes.
fn check(database: &DatabaseUrl) {
    let from: Vec<u32> = std::thread::scope(|scope| {
        let migrate = || scope.spawn(|| Admin::migrate(database).unwrap().from);
        #[allow(
            clippy::needless_collect,
            reason = "all start before one is waited for"
        )]
        let threads: Vec<_> = (0..8).map(|_| migrate()).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let (found, known) = Admin::schema_version(database).unwrap();
    assert_eq!(found, known);
    let fresh = from.iter().filter(|&&from| from == 0).count();
    let done = from.iter().filter(|&&from| from == known).count();
    assert_eq!(
        (fresh, done),
        (1, 7),
        "one migrates, the others find it done"
    );
}

#[test]
fn one_of_many_migrates_a_sqlite_file() {
    let folder = tempfile::tempdir().unwrap();
    check(&DatabaseUrl::Sqlite(folder.path().join("efgs.db")));
}

#[test]
fn one_of_many_migrates_a_mariadb_database() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    server.create_database("efgs").unwrap();
    check(&server.url("efgs").parse().unwrap());
}
