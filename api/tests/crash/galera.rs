//! A Galera cluster of three nodes: two gateways share an order of hosts, a third has its own. Nodes
//! are killed, paused, cut off and restarted, and at last all of them are killed and bootstrapped.
//!
//! One test with one cluster, whose start and state transfers are most of its time.

use std::thread;
use std::time::Instant;

use testkit::local::Galera;
use testkit::poll::holds_within;

use crate::cli_support::{efgs, succeeds};
use crate::crash_test::{CrashTest, Setup, TIMEOUT};
use crate::final_check::present;
use crate::seed;

/// The orders of hosts of the gateways: two on one node, one on another.
const ORDERS: [[usize; 3]; 3] = [[0, 1, 2], [0, 1, 2], [1, 2, 0]];
/// The gateway that is alone on its node.
const ALONE: usize = 2;
/// Lines that say that the database went, or is away still: per gateway and event. A line per task and
/// second would be hundreds.
const OUTAGE_LINES_MAX: usize = 40;

#[test]
fn a_cluster_loses_nothing() {
    let begun = Instant::now();
    let mut cluster = Galera::start().unwrap();
    println!("Galera: three nodes after {:.1?}", begun.elapsed());
    cluster.node(0).create_database("efgs").unwrap();
    let urls = ORDERS.map(|order| cluster.url(&order, "efgs"));
    let mut test = CrashTest::start(&Setup {
        gateways: ORDERS.len(),
        errors_allowed: true,
        urls: &urls,
        ..Setup::new("Galera")
    });
    migrate_at_once(&cluster, &test);
    start_at_once(&mut test);
    test.put_under_load();
    // The long form repeats what happens to single nodes.
    for crash in 0..seed::crashes(1) {
        kill_the_common_node(&mut test, &mut cluster, crash);
        pause_a_node(&mut test, &cluster, crash);
        cut_off_a_node(&mut test, &cluster, crash);
    }
    kill_all(&test, &mut cluster);
    test.finish();
    check_nodes(&test, &cluster);
    for gateway in 0..ORDERS.len() {
        let lines = test.outage_lines(gateway);
        println!("Galera: gateway {gateway} has written {lines} lines about its database");
        let allowed = OUTAGE_LINES_MAX * usize::try_from(seed::crashes(1)).unwrap();
        assert!(lines <= allowed, "{lines}");
    }
}

/// `efgs db migrate` on all nodes at the same time.
fn migrate_at_once(cluster: &Galera, test: &CrashTest) {
    cluster.node(0).create_database("fresh").unwrap();
    let config = test.folder.path().join("efgs/efgs.toml");
    let config = config.to_str().unwrap();
    thread::scope(|scope| {
        for node in 0..cluster.len() {
            let url = cluster.node(node).url("fresh");
            scope.spawn(move || {
                let mut migrate = efgs(&["db", "migrate", "--config", config]);
                succeeds(migrate.env("EFGS__DATABASE__URL", url));
            });
        }
    });
    let count = "SELECT COUNT(*) FROM fresh.schema_version";
    let versions = cluster.node(0).number(count).unwrap();
    let newest = "SELECT MAX(version) FROM fresh.schema_version";
    assert_eq!(versions, cluster.node(0).number(newest).unwrap());
}

/// Starts of all gateways at the same time; each is ready when this returns.
fn start_at_once(test: &mut CrashTest) {
    for _ in 0..3 {
        thread::scope(|scope| {
            for gateway in &mut test.gateways {
                scope.spawn(move || gateway.restart().unwrap());
            }
        });
    }
}

/// Two gateways continue with another node, and go back when it is well again.
fn kill_the_common_node(test: &mut CrashTest, cluster: &mut Galera, crash: u64) {
    test.wait_for_a_random_instant(crash);
    cluster.node_mut(0).kill().unwrap();
    wait_for_all_gateways(test, 3);
    match crash % 2 {
        0 => cluster.rejoin(0).unwrap(),
        _ => cluster.rejoin_from_scratch(0).unwrap(),
    }
    wait_for_all_gateways(test, 3);
}

/// The others throw it out, and take it back.
fn pause_a_node(test: &mut CrashTest, cluster: &Galera, crash: u64) {
    test.wait_for_a_random_instant(crash + 1);
    let paused = cluster.node(1).freeze().unwrap();
    wait_for_all_gateways(test, 3);
    drop(paused);
    cluster.wait_until_member(1).unwrap();
}

/// A node without a quorum is passed over by its gateway: nothing is stored there.
fn cut_off_a_node(test: &mut CrashTest, cluster: &Galera, crash: u64) {
    test.wait_for_a_random_instant(crash + 2);
    cluster.isolate(1, true).unwrap();
    assert!(holds_within(TIMEOUT, || !cluster.is_member(1)));
    wait_for_all_gateways(test, 3);
    cluster.isolate(1, false).unwrap();
    cluster.wait_until_member(1).unwrap();
}

fn kill_all(test: &CrashTest, cluster: &mut Galera) {
    test.wait_for_more("uploads", 5, |counts| counts.stored);
    for node in 0..cluster.len() {
        cluster.node_mut(node).kill().unwrap();
    }
    cluster.bootstrap().unwrap();
    wait_for_all_gateways(test, 3);
}

/// Waits until each gateway has stored more.
fn wait_for_all_gateways(test: &CrashTest, count: u64) {
    for gateway in 0..ORDERS.len() {
        let what = if gateway == ALONE {
            "uploads of the gateway alone"
        } else {
            "uploads of a gateway"
        };
        test.wait_for_more(what, count, |counts| counts.by_gateway[gateway]);
    }
}

/// The log is the same on all nodes, without gaps, and has a row for each upload that was delivered.
fn check_nodes(test: &CrashTest, cluster: &Galera) {
    let delivered = present(&test.world.history.records()).len() as u64;
    let same = "SELECT BIT_XOR(CRC32(CONCAT(seq, content_digest, chain))) FROM efgs.upload_log";
    let sum = cluster.node(0).number(same).unwrap();
    for node in 0..cluster.len() {
        let number = |query: &str| cluster.node(node).number(query).unwrap();
        let rows = number("SELECT COUNT(*) FROM efgs.upload_log");
        let last = number("SELECT MAX(seq) FROM efgs.upload_log");
        println!("Galera: node {node} has {rows} rows up to {last}, {delivered} uploads delivered");
        assert_eq!((rows, last), (delivered, delivered));
        assert_eq!(number(same), sum, "node {node}");
    }
}
