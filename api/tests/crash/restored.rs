//! The drill of docs/operate/backup.md: a backup under load, more uploads, the backup in place of the
//! database, a new epoch, and participants who send again what was lost and go on downloading.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use engine::domain::{BatchTag, Country};
use testkit::poll::poll;

use crate::cli_support::{efgs, refuses, succeeds};
use crate::connections::Connections;
use crate::crash_test::{CrashTest, Setup, TIMEOUT};
use crate::history::{Outcome, UploadIndex, digest_of};
use crate::uploads::Upload;

/// The state file, beside the configuration: not where the database is, as far as a test can.
const STATE_FILE: (&str, &str) = ("EFGS__DATABASE__STATE_FILE", "state");

#[test]
fn a_backup_of_sqlite_brings_back_what_was_in_it() {
    let setup = Setup {
        environment: &[STATE_FILE],
        ..Setup::new("restored on SQLite")
    };
    let database = |test: &CrashTest| test.folder.path().join("efgs/efgs.sqlite");
    let drill = Drill {
        back_up: &|test, file| {
            let mut command = with_config(test, &["db", "backup"]);
            let said = succeeds(command.arg(file));
            assert!(said.contains("up to position"), "{said}");
        },
        restore: &|test, file| {
            let path = database(test);
            for end in ["-wal", "-shm"] {
                let beside = path.with_extension(format!("sqlite{end}"));
                drop(fs::remove_file(beside));
            }
            fs::copy(file, path).unwrap();
        },
    };
    drill.run(&setup);
}

#[test]
fn a_dump_of_mariadb_brings_back_what_was_in_it() {
    let setup = Setup {
        on_mariadb: true,
        with_tls: true,
        environment: &[STATE_FILE],
        ..Setup::new("restored on MariaDB")
    };
    let client = |test: &CrashTest, program: &str| {
        let socket = test.database.as_ref().unwrap().socket();
        let mut client = Command::new(program);
        client.args([
            "--no-defaults",
            "--user=root",
            "--default-character-set=binary",
        ]);
        client.arg(format!("--socket={}", socket.display()));
        client
    };
    let drill = Drill {
        back_up: &|test, file| {
            let mut dump = client(test, "mariadb-dump");
            dump.args(["--single-transaction", "--hex-blob", "--databases", "efgs"]);
            run(dump.stdout(File::create(file).unwrap()));
        },
        restore: &|test, file| {
            let server = test.database.as_ref().unwrap();
            server.run("DROP DATABASE efgs").unwrap();
            run(client(test, "mariadb").stdin(File::open(file).unwrap()));
        },
    };
    drill.run(&setup);
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}

/// A command about the installation of a test.
fn with_config(test: &CrashTest, arguments: &[&str]) -> Command {
    let mut command = efgs(arguments);
    command.env(STATE_FILE.0, STATE_FILE.1);
    command
        .arg("--config")
        .arg(test.folder.path().join("efgs/efgs.toml"));
    command
}

type Step<'a> = &'a dyn Fn(&CrashTest, &Path);

struct Drill<'a> {
    /// Makes a file, under load.
    back_up: Step<'a>,
    /// Puts it in place of the database, without a gateway.
    restore: Step<'a>,
}

impl Drill<'_> {
    fn run(&self, setup: &Setup<'_>) {
        let mut test = CrashTest::start(setup);
        let file: PathBuf = test.folder.path().join("backup");
        test.put_under_load();
        test.wait_for_more("uploads", 10, |counts| counts.stored);
        test.wait_for_more("batches", 2, |counts| counts.batches);
        (self.back_up)(&test, &file);
        test.wait_for_more("uploads", 10, |counts| counts.stored);
        test.wait_for_more("batches", 2, |counts| counts.batches);
        test.finish();
        test.gateways[0].kill9().unwrap();

        (self.restore)(&test, &file);
        refuses(&mut with_config(&test, &["serve"]), &["efgs db recovered"]);
        let said = succeeds(&mut with_config(&test, &["db", "recovered"]));
        assert!(said.contains("are lost"), "{said}");
        assert!(said.contains("epoch 1 has begun"), "{said}");
        succeeds(&mut with_config(&test, &["db", "verify"]));
        test.gateways[0].restart().unwrap();
        send_everything_again(&test);
        for backend in 0..test.world.backends.len() {
            goes_on_downloading(&test, backend);
        }
    }
}

/// Acknowledged uploads, unchanged: stored again, or there already, and 201 in either case.
fn send_everything_again(test: &CrashTest) {
    for (backend, country) in test.world.countries().into_iter().enumerate() {
        let mut connections = connections(test, backend);
        for (_, upload) in stored(test, |uploader| uploader == country) {
            let answer = connections.upload(0, &upload);
            let answer = test.runtime.block_on(answer).unwrap();
            let body = String::from_utf8_lossy(&answer.body);
            assert_eq!(answer.status, 201, "{} of {country}: {body}", upload.tag);
        }
    }
}

fn connections(test: &CrashTest, backend: usize) -> Connections {
    let targets = [test.gateways[0].target()];
    Connections::new(
        &test.world.backends[backend].caller,
        &targets,
        test.world.day,
    )
}

type Stored = Vec<(UploadIndex, Arc<Upload>)>;

fn stored(test: &CrashTest, by: impl Fn(Country) -> bool) -> Stored {
    let records = test.world.history.records();
    let entries = records.uploads.iter().enumerate();
    let stored = entries.filter(|(_, entry)| entry.outcome == Outcome::Stored);
    let stored = stored.filter(|(_, entry)| by(entry.upload.country));
    stored
        .map(|(index, entry)| (index, Arc::clone(&entry.upload)))
        .collect()
}

/// A batch that a participant has seen has the same bytes or is gone; whatever was acknowledged to
/// others is in one batch that it can reach.
fn goes_on_downloading(test: &CrashTest, backend: usize) {
    let reader = test.world.backends[backend].participant.country;
    let due: HashSet<UploadIndex> = stored(test, |uploader| uploader != reader)
        .into_iter()
        .map(|(index, _)| index)
        .collect();
    let mut connections = connections(test, backend);
    let known: BTreeMap<BatchTag, Vec<u8>> = test.world.history.records().received[&reader]
        .iter()
        .map(|(tag, page)| (*tag, page.digest.clone()))
        .collect();
    let newest = *known.keys().last().unwrap();
    let mut gone = 0;
    for (tag, digest) in &known {
        let answer = connections.download(0, Some(*tag));
        let answer = test.runtime.block_on(answer).unwrap();
        match answer.status {
            200 => assert_eq!(*digest, digest_of(&answer.body), "{tag} for {reader}"),
            404 | 410 => gone += 1,
            status => panic!("{tag} for {reader}: {status}"),
        }
    }
    assert!(gone > 0, "batches were cut after the backup");
    let arrived = poll(TIMEOUT, || {
        let chain = chain(test, &mut connections);
        let mut found = HashSet::new();
        for (tag, body) in &chain {
            assert!(
                known.contains_key(tag) || *tag > newest,
                "{tag} is given again"
            );
            for index in test.world.history.records().split(body).unwrap() {
                assert!(found.insert(index), "{reader} gets an upload twice");
            }
        }
        due.is_subset(&found).then_some(())
    });
    assert!(arrived.is_some(), "{reader} lacks uploads");
}

/// All batches that lead from the first, in their order.
fn chain(test: &CrashTest, connections: &mut Connections) -> Vec<(BatchTag, Vec<u8>)> {
    let mut chain = Vec::new();
    let mut next = None;
    loop {
        let answer = connections.download(0, next);
        let answer = test.runtime.block_on(answer).unwrap();
        assert_eq!(answer.status, 200, "{next:?}");
        let tag = |name| BatchTag::parse(answer.header(name).unwrap()).ok();
        chain.push((tag("batchtag").unwrap(), answer.body.to_vec()));
        next = tag("nextbatchtag");
        if next.is_none() {
            return chain;
        }
    }
}
