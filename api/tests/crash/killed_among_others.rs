//! Several gateways on one MariaDB; one of them is killed repeatedly, mostly the one that cuts
//! download batches. The others continue.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::crash_test::{CrashTest, Setup};
use crate::seed;

/// Another gateway cuts by then: the lease is free after three seconds, the rest is a margin for
/// a busy machine.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn two_gateways_lose_nothing() {
    kill_one_of(2, "one of two killed");
}

#[test]
fn four_gateways_lose_nothing() {
    kill_one_of(4, "one of four killed");
}

fn kill_one_of(gateways: usize, name: &'static str) {
    let mut test = CrashTest::start(&Setup {
        on_mariadb: true,
        gateways,
        ..Setup::new(name)
    });
    test.put_under_load();
    for crash in 0..seed::crashes(8).div_ceil(4) {
        if crash % 2 == 0 {
            kill_the_cutter(&mut test, name);
        } else {
            let victim = test.random.random_range(0..gateways);
            test.wait_for_a_random_instant(crash);
            test.gateways[victim].kill9().unwrap();
            let meanwhile = test.random.random_range(0..20);
            test.wait_for_more("uploads", meanwhile, |counts| counts.stored);
            test.gateways[victim].restart().unwrap();
        }
    }
    test.finish();
}

/// While it is dead, another one cuts.
fn kill_the_cutter(test: &mut CrashTest, name: &str) {
    test.wait_for_more("batches", 1, |counts| counts.batches);
    let cutter = test.wait_for_cutter();
    test.wait_for_a_random_instant(0);
    test.gateways[cutter].kill9().unwrap();
    let killed = Instant::now();
    test.wait_for_cutter();
    let taken_over = killed.elapsed();
    println!("{name}: another gateway cuts after {taken_over:.1?}");
    assert!(taken_over < TAKEN_OVER_WITHIN, "{taken_over:?}");
    test.wait_for_more("batches", 2, |counts| counts.batches);
    test.gateways[cutter].restart().unwrap();
}
