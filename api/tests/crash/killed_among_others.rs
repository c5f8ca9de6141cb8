//! Several gateways on one MariaDB; one of them is killed repeatedly, mostly the one that cuts download
//! batches. The others continue.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::scene::{Scene, Setup};
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
    let mut scene = Scene::start(&Setup {
        on_mariadb: true,
        gateways,
        ..Setup::new(name)
    });
    scene.put_under_load();
    for crash in 0..seed::crashes(20).div_ceil(4) {
        if crash % 2 == 0 {
            kill_the_cutter(&mut scene, name);
        } else {
            let victim = scene.random.random_range(0..gateways);
            scene.wait_for_a_random_instant(crash);
            scene.gateways[victim].kill9().unwrap();
            let meanwhile = scene.random.random_range(0..20);
            scene.wait_for_more("uploads", meanwhile, |counts| counts.stored);
            scene.gateways[victim].restart().unwrap();
        }
    }
    scene.conclude();
}

/// While it is dead, another one cuts.
fn kill_the_cutter(scene: &mut Scene, name: &str) {
    scene.wait_for_more("batches", 1, |counts| counts.batches);
    let cutter = scene.wait_for_cutter();
    scene.wait_for_a_random_instant(0);
    scene.gateways[cutter].kill9().unwrap();
    let killed = Instant::now();
    scene.wait_for_cutter();
    let taken_over = killed.elapsed();
    println!("{name}: another gateway cuts after {taken_over:.1?}");
    assert!(taken_over < TAKEN_OVER_WITHIN, "{taken_over:?}");
    scene.wait_for_more("batches", 2, |counts| counts.batches);
    scene.gateways[cutter].restart().unwrap();
}
