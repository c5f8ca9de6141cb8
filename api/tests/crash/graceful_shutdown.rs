//! The gateway gets a shutdown signal, under load and with uploads that wait for the database.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use efgs_client::{Answer, ClientError};
use tokio::task::JoinSet;

use crate::scene::{PATIENCE, Scene, Setup};
use crate::seed;

/// Waiting uploads per participant: below its share of the permits.
const WAITING: usize = 3;

#[test]
fn loses_nothing_under_load() {
    let mut scene = Scene::start(&Setup::new("told to stop"));
    scene.put_under_load();
    for stop in 0..seed::crashes(20).div_ceil(4) {
        scene.wait_for_a_random_instant(stop);
        let told = Instant::now();
        let status = scene.gateways[0].terminate().unwrap();
        assert_eq!(status.and_then(|status| status.code()), Some(0));
        let lost = scene.world.book.records().lost.split_off(0);
        let too_early: Vec<_> = lost.iter().filter(|sent_at| **sent_at < told).collect();
        assert!(too_early.is_empty(), "sent before {told:?}: {too_early:?}");
        scene.gateways[0].restart().unwrap();
    }
    scene.conclude();
}

#[test]
fn answers_every_upload_that_is_in_flight() {
    let mut scene = Scene::start(&Setup {
        on_mariadb: true,
        ..Setup::new("told to stop while uploads wait")
    });
    let database = scene.database.take().unwrap();
    let held = database.hold_writes("efgs.upload_log").unwrap();
    let (entered, waiting) = send_uploads(&scene);
    wait_until(|| in_flight(&scene) == Some(entered.len()));
    let address = scene.gateways[0].public();
    let mut gateway = scene.gateways.remove(0);
    let status = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| gateway.terminate());
        wait_until(|| TcpStream::connect(address).is_err());
        drop(held);
        stopping.join().unwrap().unwrap()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    for (index, answer) in scene.runtime.block_on(waiting.join_all()) {
        assert_eq!(answer.unwrap().status, 201);
        scene
            .world
            .book
            .record(index, &crate::book::Outcome::Stored);
    }
    gateway.restart().unwrap();
    scene.gateways.push(gateway);
    scene.database = Some(database);
    scene.put_under_load();
    scene.conclude();
}

type Sent = (usize, Result<Answer, ClientError>);

/// Sends uploads, each on its own connection; each yields its number and its answer.
fn send_uploads(scene: &Scene) -> (Vec<usize>, JoinSet<Sent>) {
    let mut sending = JoinSet::new();
    let mut entered = Vec::new();
    for backend in 0..scene.world.backends.len() {
        let random = seed::random("in flight", backend);
        let mut maker = scene
            .world
            .maker(backend, random, format!("in-flight-{backend}"));
        for _ in 0..WAITING {
            let (index, upload) = scene.world.book.enter(maker.of_size(10));
            let (world, upload) = (Arc::clone(&scene.world), Arc::clone(&upload));
            let send = async move { (index, world.lines(backend).upload(0, &upload).await) };
            sending.spawn_on(send, scene.runtime.handle());
            entered.push(index);
        }
    }
    (entered, sending)
}

/// Uploads that the gateway has admitted but not answered.
fn in_flight(scene: &Scene) -> Option<usize> {
    let (_, metrics) = scene.ask_operations(0, "/metrics")?;
    let mut lines = metrics.lines();
    let gauge = lines.find_map(|line| line.strip_prefix("efgs_admission_in_flight_batches "))?;
    gauge.parse().ok()
}

fn wait_until(happens: impl Fn() -> bool) {
    let begun = Instant::now();
    while !happens() {
        assert!(begun.elapsed() < PATIENCE, "it does not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}
