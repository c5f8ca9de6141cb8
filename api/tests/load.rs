//! Scenarios of `loadgen` against a real gateway: hostile, slow and repeated requests get the
//! responses that the scenario expects, and everything else is delivered.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use efgs_client::Protocol;
use loadgen::load::{Experiment, LoadOptions, Participants, UnexpectedResponses, Watch};
use loadgen::results::PhaseSummary;
use loadgen::scenario::Scenario;
use testkit::local::{Installation, LocalDatabase};

/// Runs a scenario against a fresh gateway on the embedded database.
async fn run(text: &str) -> (Vec<PhaseSummary>, UnexpectedResponses) {
    let scenario = Scenario::parse("test", text).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_efgs"));
    let participants = ["DE", "ES", "FR", "IT"];
    let start = || Installation::start(program, LocalDatabase::Sqlite, None, &participants);
    let mut installation = tokio::task::block_in_place(start).unwrap();
    let participants = Participants::read(
        &installation.pki(),
        scenario.participants,
        scenario.distribution,
        Protocol::Http1,
    );
    let gateway = installation.gateway().process_id().unwrap();
    let options = LoadOptions {
        targets: vec![installation.gateway().target()],
        timeout: Duration::from_secs(60),
        seed: 1,
        memory_bytes_max: 0,
        watch: Watch {
            processes: [("gateway".to_owned(), gateway)].into(),
            operations: None,
            database_files: vec![installation.database_files()],
        },
        results: None,
        record: None,
        name: scenario.name.clone(),
        text: scenario.text.clone(),
    };
    let mut experiment = Experiment::new(participants.unwrap(), options).unwrap();
    let mut phases = Vec::new();
    for phase in &scenario.phases {
        phases.push(experiment.phase(phase).await.unwrap());
    }
    tokio::task::block_in_place(|| installation.terminate()).unwrap();
    (phases, experiment.unexpected_responses())
}

const ORIGINALS: &str = r#"
    participants = 4
    [[phases]]
    name = "originals"
    [[phases.streams]]
    name = "uploads"
    does = "upload"
    arrivals = "closed"
    keys = 8000
    upload_keys = 500
    retry_seconds = 60
"#;

#[tokio::test(flavor = "multi_thread")]
async fn refuses_whatever_is_hostile_and_every_repeated_key_and_delivers_the_rest() {
    let text = format!(
        r#"{ORIGINALS}
        [[phases]]
        name = "mix"
        seconds = 4
        [[phases.streams]]
        name = "uploads"
        does = "upload"
        arrivals = "fixed"
        per_second = 10
        upload_keys = 100
        duplicates = 0.5
        [[phases.streams]]
        name = "hostile"
        does = "hostile"
        arrivals = "fixed"
        per_second = 10
        kinds = ["wrong-signature", "foreign-signer", "not-base64", "not-cms", "no-signature",
                 "no-tag", "long-tag", "truncated", "noise", "foreign-origin", "too-many-keys",
                 "oversized", "wrong-media-type", "wrong-certificate", "wrong-path", "wrong-date"]
        [[phases.streams]]
        name = "followers"
        does = "follow"
        arrivals = "fixed"
        per_second = 8
        [[phases]]
        name = "delivery"
        [[phases.streams]]
        name = "downloads"
        does = "follow"
        arrivals = "closed"
        retry_seconds = 60
        "#
    );
    let (phases, unexpected) = run(&text).await;
    assert_eq!(unexpected, UnexpectedResponses::default());
    let [originals, mix, delivery] = phases.as_slice() else {
        panic!("three phases");
    };
    assert_eq!((originals.all.uploads, originals.stored_keys), (16, 8000));
    assert!(originals.disk_bytes.unwrap() > 0 && originals.rss_bytes["gateway"] > 0);
    let uploads = &mix.streams["uploads"];
    let repeated = uploads.refused[&207];
    assert_eq!(uploads.due, 40, "every tenth of a second for four");
    assert_eq!(uploads.uploads + repeated, 40);
    // Half of them, within four standard deviations of 3.
    assert!((8..32).contains(&repeated), "{repeated}");
    let hostile = &mix.streams["hostile"].refused;
    assert_eq!(
        hostile.values().sum::<u64>(),
        40,
        "two turns of 16 kinds, and 8: {hostile:?}"
    );
    for (status, count) in [(403, 2), (404, 2), (413, 4), (415, 2), (400, 30)] {
        assert_eq!(hostile.get(&status), Some(&count), "{status}");
    }
    // Every participant has the keys of the three others.
    let delivered = mix.all.download_keys + delivery.all.download_keys;
    assert_eq!(delivered, 3 * delivery.stored_keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_slow_readers_and_disconnects_too_slow_ones() {
    let text = format!(
        r#"{ORIGINALS}
        [[phases]]
        name = "slow"
        seconds = 3
        [[phases.streams]]
        name = "uploads"
        does = "upload"
        arrivals = "fixed"
        per_second = 10
        upload_keys = 100
        [[phases.streams]]
        name = "slow-writers"
        does = "upload"
        arrivals = "closed"
        upload_keys = 1000
        bytes_per_second = 40_000
        [[phases.streams]]
        name = "slow-readers"
        does = "download"
        arrivals = "closed"
        bytes_per_second = 100_000
        expect = [404]
        [[phases.streams]]
        name = "too-slow-writers"
        does = "upload"
        arrivals = "closed"
        bytes_per_second = 200
        expect = [408]
        expect_broken = true
        "#
    );
    let (phases, unexpected) = run(&text).await;
    assert_eq!(unexpected, UnexpectedResponses::default());
    let slow = &phases[1].streams;
    assert_eq!(slow["uploads"].uploads, 30);
    // Near 60 kB at 40 kB/s: more than a second each.
    let writers = slow["slow-writers"].upload.unwrap();
    assert!(
        writers.service.count > 0 && writers.service.p50 > 1_000_000,
        "{writers:?}"
    );
    let readers = slow["slow-readers"].download.unwrap();
    assert!(readers.service.max > 1_000_000, "{readers:?}");
    let too_slow = &slow["too-slow-writers"];
    assert_eq!(too_slow.uploads, 0);
    let closed = too_slow.failed + too_slow.refused.get(&408).unwrap_or(&0);
    assert_eq!(closed, 4, "one of each participant: {too_slow:?}");
}
