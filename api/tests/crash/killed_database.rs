//! MariaDB is killed and restarted; the gateway recovers by itself.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::scene::{PATIENCE, Scene, Setup};
use crate::seed;

/// The longest client timeout (IT): a client that times out before the error arrives does not know
/// the outcome.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn answers_truthfully_and_recovers_by_itself() {
    let mut scene = Scene::start(&Setup {
        on_mariadb: true,
        errors_are_fine: true,
        ..Setup::new("MariaDB killed")
    });
    let process = scene.gateways[0].process_id();
    scene.put_under_load();
    for crash in 0..seed::crashes(20).div_ceil(2) {
        scene.wait_for_a_random_instant(crash);
        database(&mut scene).kill().unwrap();
        if crash % 5 == 1 {
            // Unavailable for longer than a gateway waits.
            scene.wait_for_more("errors", 3, |counts| counts.errors);
            wait_until_ready_is(&scene, 503);
        } else {
            let millis = scene.random.random_range(0..1000);
            std::thread::sleep(Duration::from_millis(millis));
        }
        database(&mut scene).restart().unwrap();
        scene.wait_for_more("uploads", 5, |counts| counts.stored);
        wait_until_ready_is(&scene, 200);
    }
    assert_eq!(scene.gateways[0].process_id(), process);
    assert_eq!(scene.gateways[0].ended(), None);
    scene.conclude();
    let slowest = scene.world.book.counts().slowest_error;
    let unresolved = scene.logged(0, "commit did not go through");
    println!(
        "MariaDB killed: {unresolved} commits with an unknown outcome, the slowest error took {slowest:.1?}"
    );
    assert!(slowest < SHORTEST_TIMEOUT, "{slowest:?}");
}

fn database(scene: &mut Scene) -> &mut testkit::local::MariaDb {
    scene.database.as_mut().unwrap()
}

fn wait_until_ready_is(scene: &Scene, expected: u16) {
    let begun = Instant::now();
    let status = || scene.ask_operations(0, "/ready").map(|(status, _)| status);
    while status() != Some(expected) {
        if begun.elapsed() > PATIENCE {
            scene.fail(&format!("/ready does not become {expected}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
