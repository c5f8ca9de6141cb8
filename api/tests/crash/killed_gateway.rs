//! The only gateway is killed at random instants, and started again.

use std::time::Duration;

use rand::Rng;

use crate::scene::{Scene, Setup};
use crate::seed;

#[test]
fn loses_nothing_on_sqlite() {
    kill_again_and_again(&Setup::new("killed on SQLite"));
}

#[test]
fn loses_nothing_on_mariadb() {
    kill_again_and_again(&Setup {
        on_mariadb: true,
        ..Setup::new("killed on MariaDB")
    });
}

fn kill_again_and_again(setup: &Setup<'_>) {
    let mut scene = Scene::start(setup);
    scene.put_under_load();
    for crash in 0..seed::crashes(20) {
        if crash % 5 == 4 {
            let after = Duration::from_millis(scene.random.random_range(0..150));
            scene.gateways[0].kill9_while_starting(after).unwrap();
        } else {
            scene.wait_for_a_random_instant(crash);
            scene.gateways[0].kill9().unwrap();
        }
        scene.gateways[0].restart().unwrap();
    }
    scene.conclude();
    // What was served from memory and what is read back are the same bytes.
    scene.gateways[0].kill9().unwrap();
    scene.gateways[0].restart().unwrap();
    scene.read_everywhere();
    scene.give_up_on_complaints();
}
