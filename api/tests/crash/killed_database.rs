//! MariaDB is killed and restarted; the gateway recovers by itself.

use std::time::Duration;

use rand::Rng;
use testkit::poll::holds_within;

use crate::crash_test::{CrashTest, Setup, TIMEOUT};
use crate::seed;

/// The longest client timeout (IT): a client that times out before the error arrives does not know
/// the outcome.
const CLIENT_TIMEOUT_MIN: Duration = Duration::from_secs(10);

#[test]
fn answers_truthfully_and_recovers_by_itself() {
    let mut test = CrashTest::start(&Setup {
        on_mariadb: true,
        errors_allowed: true,
        ..Setup::new("MariaDB killed")
    });
    let process = test.gateways[0].process_id();
    test.put_under_load();
    for crash in 0..seed::crashes(8).div_ceil(2) {
        test.wait_for_a_random_instant(crash);
        database(&mut test).kill().unwrap();
        if crash % 5 == 1 {
            // Unavailable for longer than a gateway waits.
            test.wait_for_more("errors", 3, |counts| counts.errors);
            wait_until_ready_is(&test, 503);
        } else {
            let waiting = test.random.random_range(1..=8_u64);
            wait_for_waiting_uploads(&test, waiting);
        }
        database(&mut test).restart().unwrap();
        test.wait_for_more("uploads", 5, |counts| counts.stored);
        wait_until_ready_is(&test, 200);
    }
    assert_eq!(test.gateways[0].process_id(), process);
    assert_eq!(test.gateways[0].ended(), None);
    test.finish();
    let slowest = test.world.history.counts().slowest_error;
    let unresolved = test.unresolved_commits(0).unwrap();
    println!(
        "MariaDB killed: {unresolved} commits with an unknown outcome, the slowest error took {slowest:.1?}"
    );
    assert!(slowest < CLIENT_TIMEOUT_MIN, "{slowest:?}");
}

fn database(test: &mut CrashTest) -> &mut testkit::local::MariaDb {
    test.database.as_mut().unwrap()
}

fn wait_until_ready_is(test: &CrashTest, expected: u16) {
    let status = || test.get_operations(0, "/ready").map(|(status, _)| status);
    if !holds_within(TIMEOUT, || status() == Some(expected)) {
        test.fail(&format!("/ready does not become {expected}"));
    }
}

/// Waits until at least that many uploads are in flight, or their errors show that the gateway no
/// longer waits for its database.
fn wait_for_waiting_uploads(test: &CrashTest, count: u64) {
    let errors = test.world.history.counts().errors;
    let wait = || {
        let waiting = test.in_flight(0).is_some_and(|waiting| waiting >= count);
        waiting || test.world.history.counts().errors > errors
    };
    if !holds_within(TIMEOUT, wait) {
        test.fail(&format!("no {count} uploads wait for the database"));
    }
}
