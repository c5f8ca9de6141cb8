//! The budget of download batches, with real gateways on both databases: all gateways share it, and
//! it survives each of them.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod support;

use std::path::Path;
use std::time::Duration;

use engine::Engine;
use engine::domain::Country;
use testkit::local::MariaDb;

use support::{Installation, download_chain, participants, upload};

const INTERVAL: Duration = Duration::from_secs(300);

/// Uploads one key per number, one after the other.
fn store(installation: &Installation, engine: &Engine, numbers: std::ops::Range<u64>) {
    let participants = participants();
    for number in numbers {
        let key = participants[0].key(number, installation.now());
        let tag = format!("upload-{number}");
        let request = participants[0].upload(&tag, &[key], installation.now());
        upload(engine, request).unwrap();
    }
}

/// How many keys each download batch has, once there are `keys` keys in all.
fn key_counts(installation: &Installation, engine: &Engine, keys: u64) -> Vec<u32> {
    let reader = Country::parse("ES").unwrap();
    let chain = download_chain(engine, reader, installation.now().day(), keys);
    chain.iter().map(|download| download.key_count()).collect()
}

fn shares_one_budget(installation: &mut Installation) {
    let bundle = &mut installation.settings.bundle;
    bundle.paced = true;
    bundle.paced_batches_max = 2;
    bundle.paced_interval = INTERVAL;
    let first = installation.start();
    for (number, expected) in [(0, vec![1]), (1, vec![1, 1])] {
        store(installation, &first, number..number + 1);
        assert_eq!(key_counts(installation, &first, number + 1), expected);
    }
    drop(first);

    // The budget is empty, also for the next gateway: new uploads wait for it.
    let second = installation.start();
    store(installation, &second, 2..40);
    installation
        .clock
        .advance_millis(INTERVAL.as_millis().try_into().unwrap());
    assert_eq!(key_counts(installation, &second, 40), [1, 1, 38]);
}

#[test]
fn shares_one_budget_of_download_batches_on_sqlite() {
    shares_one_budget(&mut Installation::on_sqlite());
}

#[test]
fn shares_one_budget_of_download_batches_on_mariadb() {
    let server = MariaDb::start(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    shares_one_budget(&mut Installation::on_mysql(&server, "pacing"));
}
