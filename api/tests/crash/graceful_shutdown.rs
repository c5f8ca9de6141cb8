//! The gateway gets a shutdown signal, under load and with uploads that wait for the database.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use efgs_client::{Answer, ClientError};
use testkit::poll::holds_within;
use tokio::task::JoinSet;

use crate::crash_test::{CrashTest, Setup, TIMEOUT};
use crate::seed;

/// Waiting uploads per participant: below its share of the permits.
const WAITING: usize = 3;

#[test]
fn loses_nothing_under_load() {
    let mut test = CrashTest::start(&Setup::new("told to stop"));
    test.put_under_load();
    for stop in 0..seed::crashes(8).div_ceil(4) {
        test.wait_for_a_random_instant(stop);
        let told = Instant::now();
        let status = test.gateways[0].terminate().unwrap();
        assert_eq!(status.and_then(|status| status.code()), Some(0));
        let lost = test.world.history.records().lost.split_off(0);
        let too_early: Vec<_> = lost.iter().filter(|sent_at| **sent_at < told).collect();
        assert!(too_early.is_empty(), "sent before {told:?}: {too_early:?}");
        test.gateways[0].restart().unwrap();
    }
    test.finish();
}

#[test]
fn answers_every_upload_that_is_in_flight() {
    let mut test = CrashTest::start(&Setup {
        on_mariadb: true,
        ..Setup::new("told to stop while uploads wait")
    });
    let database = test.database.take().unwrap();
    let held = database.hold_writes("efgs.upload_log").unwrap();
    let (entered, waiting) = send_uploads(&test);
    let all = u64::try_from(entered.len()).ok();
    assert!(holds_within(TIMEOUT, || test.in_flight(0) == all));
    let address = test.gateways[0].public();
    let mut gateway = test.gateways.remove(0);
    let status = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| gateway.terminate());
        assert!(holds_within(TIMEOUT, || TcpStream::connect(address).is_err()));
        drop(held);
        stopping.join().unwrap().unwrap()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    for (index, answer) in test.runtime.block_on(waiting.join_all()) {
        assert_eq!(answer.unwrap().status, 201);
        test.world
            .history
            .record(index, &crate::history::Outcome::Stored);
    }
    gateway.restart().unwrap();
    test.gateways.push(gateway);
    test.database = Some(database);
    test.put_under_load();
    test.finish();
}

type Sent = (usize, Result<Answer, ClientError>);

/// Sends uploads, each on its own connection; each yields its number and its answer.
fn send_uploads(test: &CrashTest) -> (Vec<usize>, JoinSet<Sent>) {
    let mut sending = JoinSet::new();
    let mut entered = Vec::new();
    for backend in 0..test.world.backends.len() {
        let random = seed::random("in flight", backend);
        let mut maker = test
            .world
            .maker(backend, random, format!("in-flight-{backend}"));
        for _ in 0..WAITING {
            let (index, upload) = test.world.history.enter(maker.of_size(10));
            let (world, upload) = (Arc::clone(&test.world), Arc::clone(&upload));
            let send = async move { (index, world.connections(backend).upload(0, &upload).await) };
            sending.spawn_on(send, test.runtime.handle());
            entered.push(index);
        }
    }
    (entered, sending)
}
