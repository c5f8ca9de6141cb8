//! MariaDB answers and stores nothing: it is made read-only, its disk is full, or a replica takes its
//! place that lacks the last commits.

use testkit::local::MariaDb;
use testkit::poll::holds_within;

use crate::crash_test::{CrashTest, Setup, TIMEOUT};
use crate::seed;

/// All tables in one file, which may grow to so many MiB.
fn disk_of(mebibytes: u64) -> [String; 2] {
    [
        "--innodb-file-per-table=0".to_owned(),
        format!("--innodb-data-file-path=ibdata1:12M:autoextend:max:{mebibytes}M"),
    ]
}

#[test]
fn nothing_is_lost_while_the_database_refuses_or_a_replica_is_behind() {
    let mut mebibytes = 60;
    let mut test = CrashTest::start(&Setup {
        on_mariadb: true,
        gateways: 2,
        errors_allowed: true,
        database_options: &disk_of(mebibytes),
        ..Setup::new("refusing database")
    });
    // What all rights hold, read-only does not stop.
    run(
        &test,
        "REVOKE SUPER, READ_ONLY ADMIN ON *.* FROM efgs@127.0.0.1; KILL USER efgs",
    );
    test.put_under_load();
    for round in 0..seed::crashes(8).div_ceil(3) {
        test.wait_for_a_random_instant(round);
        match round % 3 {
            0 => be_read_only(&test),
            1 => fail_over_and_back(&mut test),
            _ => fill_the_disk(&mut test, &mut mebibytes),
        }
        wait_until_ready_is(&test, 200);
        test.wait_for_more("uploads", 10, |counts| counts.stored);
    }
    test.finish();
}

fn run(test: &CrashTest, statements: &str) {
    database(test).run(statements).unwrap();
}

fn database(test: &CrashTest) -> &MariaDb {
    test.database.as_ref().unwrap()
}

/// As an automatic failover leaves the former primary. Connections that are open find out as well.
fn be_read_only(test: &CrashTest) {
    run(test, "SET GLOBAL read_only = 1");
    refuse_until_not_ready(test);
    run(test, "SET GLOBAL read_only = 0");
}

/// The former primary is back in its place afterwards, with all that it had acknowledged: what went
/// into the replica would be lost.
fn fail_over_and_back(test: &mut CrashTest) {
    run(
        test,
        "USE efgs; CREATE TABLE other_log LIKE upload_log; \
         CREATE TABLE other_batch LIKE download_batch; \
         INSERT INTO other_batch SELECT * FROM download_batch \
         WHERE ordinal < (SELECT MAX(ordinal) FROM download_batch); \
         INSERT INTO other_log SELECT * FROM upload_log \
         WHERE seq <= (SELECT MAX(last_seq) FROM other_batch)",
    );
    exchange(test);
    refuse_until_not_ready(test);
    exchange(test);
    run(
        test,
        "USE efgs; DROP TABLE other_log; DROP TABLE other_batch",
    );
    for gateway in &mut test.gateways {
        gateway.kill9().unwrap();
        gateway.restart().unwrap();
    }
}

/// At one moment, and all sessions end.
fn exchange(test: &CrashTest) {
    run(
        test,
        "USE efgs; RENAME TABLE upload_log TO third_log, other_log TO upload_log, \
         third_log TO other_log, download_batch TO third_batch, other_batch TO download_batch, \
         third_batch TO other_batch; KILL USER efgs",
    );
}

/// To the last page.
fn fill_the_disk(test: &mut CrashTest, mebibytes: &mut u64) {
    run(
        test,
        "CREATE DATABASE IF NOT EXISTS filler; \
         CREATE TABLE IF NOT EXISTS filler.filler (bytes LONGBLOB)",
    );
    let mut bytes = 4 << 20;
    while bytes > 8000 {
        let fill = format!("INSERT INTO filler.filler VALUES (REPEAT('x', {bytes}))");
        if database(test).run(&fill).is_err() {
            bytes /= 2;
        }
    }
    refuse_until_not_ready(test);
    *mebibytes += 60;
    let options = disk_of(*mebibytes);
    let options = options.each_ref().map(String::as_str);
    let server = test.database.as_mut().unwrap();
    server.restart_with(&options).unwrap();
}

fn refuse_until_not_ready(test: &CrashTest) {
    test.wait_for_more("errors", 5, |counts| counts.errors);
    wait_until_ready_is(test, 503);
}

fn wait_until_ready_is(test: &CrashTest, expected: u16) {
    for gateway in 0..test.gateways.len() {
        let status = || {
            let ready = test.get_operations(gateway, "/ready");
            ready.map(|(status, _)| status)
        };
        if !holds_within(TIMEOUT, || status() == Some(expected)) {
            test.fail(&format!(
                "/ready of gateway {gateway} does not become {expected}"
            ));
        }
    }
}
