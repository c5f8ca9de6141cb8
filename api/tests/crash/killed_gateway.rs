//! The only gateway is killed at random instants, and started again.

use std::time::Duration;

use rand::Rng;

use crate::crash_test::{CrashTest, Setup};
use crate::seed;

#[test]
fn loses_nothing_on_sqlite() {
    kill_again_and_again(&Setup::new("killed on SQLite"));
}

/// Which requires TLS, as the server of many operators does.
#[test]
fn loses_nothing_on_mariadb() {
    kill_again_and_again(&Setup {
        on_mariadb: true,
        with_tls: true,
        ..Setup::new("killed on MariaDB")
    });
}

fn kill_again_and_again(setup: &Setup<'_>) {
    let mut test = CrashTest::start(setup);
    test.put_under_load();
    for crash in 0..seed::crashes(8) {
        if crash % 5 == 4 {
            let after = Duration::from_millis(test.random.random_range(0..150));
            test.gateways[0].kill9_while_starting(after).unwrap();
        } else {
            test.wait_for_a_random_instant(crash);
            test.gateways[0].kill9().unwrap();
        }
        test.gateways[0].restart().unwrap();
    }
    test.finish();
    // What was served from memory and what is read back are the same bytes.
    test.gateways[0].kill9().unwrap();
    test.gateways[0].restart().unwrap();
    test.read_everywhere();
    test.fail_on_violations();
}
