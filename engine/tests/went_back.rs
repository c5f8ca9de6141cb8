//! A database that went back: a restore, a failover that lost the last commits, a file that was
//! exchanged. On both databases, with real gateways. Each is noticed before anything is answered.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first unexpected result"
)]

mod support;
#[path = "went_back/tampering.rs"]
mod tampering;
mod withdrawals;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use engine::admin::{Admin, RowOutcome};
use engine::bundle::DownloadError;
use engine::domain::{BatchTag, Format};
use engine::seal::Keys;
use engine::settings::DatabaseUrl;
use engine::upload::Receipt;
use engine::{Engine, Failure, UploadError};
use mysql::prelude::Queryable as _;
use support::{Installation, Participant, download, download_chain, participants, upload};
use tempfile::TempDir;
use testkit::local::MariaDb;

const TABLES: [&str; 10] = [
    "upload_log",
    "download_batch",
    "installation",
    "lease",
    "certificate",
    "upload_statistics",
    "download_statistics",
    "cleanup_statistics",
    "callback_subscription",
    "withdrawal",
];

/// An installation whose database an operator has a hand on.
struct Scene {
    installation: Installation,
    server: Option<MariaDb>,
    backup: PathBuf,
    folder: TempDir,
    de: Participant,
}

impl Scene {
    /// One on each database.
    fn on_both() -> [Self; 2] {
        let (sqlite, mysql) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let server = MariaDb::start(mysql.path()).unwrap();
        server.create_database("backup").unwrap();
        let on_mysql = Installation::on_mysql(&server, "efgs");
        [
            Self::new(Installation::on_sqlite(), None, sqlite),
            Self::new(on_mysql, Some(server), mysql),
        ]
    }

    fn new(installation: Installation, server: Option<MariaDb>, folder: TempDir) -> Self {
        Self {
            installation,
            server,
            backup: folder.path().join("backup"),
            folder,
            de: participants().remove(0),
        }
    }

    fn file(&self) -> PathBuf {
        match &self.installation.settings.database {
            DatabaseUrl::Sqlite(path) => path.clone(),
            DatabaseUrl::Mysql(_) => panic!("it is no file"),
        }
    }

    /// Runs statements past the gateways.
    fn run(&self, sql: &str) {
        match &self.server {
            Some(server) => server.run(&format!("USE efgs; {sql}")).unwrap(),
            None => {
                let file = rusqlite::Connection::open(self.file()).unwrap();
                file.busy_timeout(Duration::from_secs(30)).unwrap();
                file.execute_batch(sql).unwrap();
            }
        }
    }

    fn back_up(&self) {
        if self.server.is_none() {
            return self.run(&format!("VACUUM INTO '{}'", self.backup.display()));
        }
        for table in TABLES {
            self.run(&format!(
                "CREATE TABLE backup.{table} LIKE {table}; \
                 INSERT INTO backup.{table} SELECT * FROM {table}"
            ));
        }
    }

    /// Puts the backup in place of what there is, as a dump that is read in does.
    fn restore(&self) {
        if self.server.is_some() {
            for table in TABLES {
                self.run(&format!(
                    "DROP TABLE {table}; CREATE TABLE {table} LIKE backup.{table}; \
                     INSERT INTO {table} SELECT * FROM backup.{table}"
                ));
            }
            return;
        }
        let copy =
            |table| format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM b.{table};");
        let tables: String = TABLES.iter().map(copy).collect();
        let backup = self.backup.display();
        self.run(&format!(
            "ATTACH '{backup}' AS b; BEGIN IMMEDIATE; {tables} COMMIT"
        ));
    }

    /// The newest rows are lost, and the download batches with them; so are all sessions.
    fn fail_over(&self, keep: u64) {
        self.run(&format!(
            "DELETE FROM download_batch WHERE last_seq > {keep}; \
             DELETE FROM upload_log WHERE seq > {keep}"
        ));
        if let Some(server) = &self.server {
            server.run("KILL USER efgs").unwrap();
        }
    }

    fn send(&self, engine: &Engine, number: u64) -> Result<Receipt, UploadError> {
        self.send_as(engine, number, &format!("upload-{number}"))
    }

    fn send_as(&self, engine: &Engine, number: u64, tag: &str) -> Result<Receipt, UploadError> {
        let now = self.installation.now();
        let keys: Vec<_> = (0..10)
            .map(|key| self.de.key(number * 100 + key, now))
            .collect();
        upload(engine, self.de.upload(tag, &keys, now))
    }

    fn stores(&self, engine: &Engine, number: u64) {
        self.stores_as(engine, number, &format!("upload-{number}"));
    }

    fn stores_as(&self, engine: &Engine, number: u64, tag: &str) {
        let receipt = self.send_as(engine, number, tag).unwrap();
        let stored = Receipt::Stored {
            key_count: 10,
            replayed: false,
        };
        assert_eq!(receipt, stored, "upload {number}");
    }

    /// Nothing is said of an upload, and nothing is served.
    fn is_stopped(&self, engine: &Engine, numbers: &[u64]) {
        self.refuses_everything(engine, numbers);
        let went_back = engine.status().went_back.expect("the status says so");
        assert!(went_back.contains("expected"), "{went_back}");
    }

    fn refuses_everything(&self, engine: &Engine, numbers: &[u64]) {
        for &number in numbers {
            match self.send(engine, number) {
                Err(UploadError::Failure(Failure::DatabaseWentBack)) => {}
                other => panic!("upload {number}: {other:?}"),
            }
        }
        let today = self.installation.now().day();
        match download(engine, self.de.country, today, None, Format::Protobuf) {
            Err(DownloadError::Failure(Failure::DatabaseWentBack)) => {}
            other => panic!("{other:?}"),
        }
    }

    /// What IT can download.
    fn published(&self, engine: &Engine, keys: u64) -> BTreeMap<BatchTag, Vec<u8>> {
        let it = &participants()[1];
        let today = self.installation.now().day();
        let chain = download_chain(engine, it.country, today, keys);
        chain
            .into_iter()
            .map(|download| {
                let bytes = download.chunks().flat_map(|chunk| chunk.to_vec());
                (download.batch.tag, bytes.collect())
            })
            .collect()
    }

    fn keys(&self) -> &Keys {
        &self.installation.settings.keys
    }

    fn admin(&self) -> Admin {
        Admin::open(&self.installation.settings.database).unwrap()
    }

    /// A number that the database has.
    fn number(&self, sql: &str) -> u64 {
        match &self.server {
            Some(server) => {
                let mut connection = server.connect("efgs").unwrap();
                connection.query_first(sql).unwrap().unwrap()
            }
            None => {
                let file = rusqlite::Connection::open(self.file()).unwrap();
                let found: i64 = file.query_row(sql, [], |row| row.get(0)).unwrap();
                found.try_into().unwrap()
            }
        }
    }

    fn rows(&self) -> u64 {
        self.number("SELECT COUNT(*) FROM upload_log")
    }

    /// The log has no hole, and is as long as said.
    fn has_log_of(&self, rows: u64) {
        let last = self.number("SELECT COALESCE(MAX(seq), 0) FROM upload_log");
        assert_eq!((self.rows(), last), (rows, rows));
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn follows(engine: &Engine, position: u64) {
    wait_until("the other gateway follows", || {
        engine.status().log_position >= position
    });
}

/// Every later download batch would be named after the end of the century.
#[test]
fn a_download_batch_of_a_day_after_the_databases_own_stops_cutting_and_the_start() {
    for scene in Scene::on_both() {
        let engine = scene.installation.start();
        scene.stores(&engine, 0);
        scene.published(&engine, 10);
        scene.stores(&engine, 1);
        scene.published(&engine, 20);
        let set_day = |day: u32, ordinal: u32| {
            scene.run(&format!(
                "UPDATE download_batch SET day = {day} WHERE ordinal = {ordinal}"
            ));
        };
        set_day(20_991_231, 1);
        wait_until("it stops cutting", || {
            let stopped = engine.status().day.cutting_stopped;
            stopped.is_some_and(|why| why.contains("table download_batch, ordinal 1: day 20991231"))
        });
        scene.stores(&engine, 2);
        engine.shutdown();
        let newest = scene.number("SELECT MAX(ordinal) FROM download_batch");
        assert_eq!(newest, 2, "nothing is cut behind it");
        set_day(20_210_601, 1);
        set_day(20_991_231, 2);
        let refused = scene.installation.try_start().unwrap_err().to_string();
        for part in ["ordinal 2", "20991231", "2021-06-01", "efgs db confirm-day"] {
            assert!(refused.contains(part), "{refused}");
        }
        // An operator corrects the row.
        set_day(20_210_601, 2);
        let engine = scene.installation.start();
        assert_eq!(engine.status().day.cutting_stopped, None);
        scene.published(&engine, 30);
    }
}

#[test]
fn a_restore_under_running_gateways_stops_them() {
    for scene in Scene::on_both() {
        let gateways = [scene.installation.start(), scene.installation.start()];
        (1..=2).for_each(|number| scene.stores(&gateways[0], number));
        follows(&gateways[1], 2);
        scene.back_up();
        (3..=6).for_each(|number| scene.stores(&gateways[0], number));
        follows(&gateways[1], 6);
        scene.restore();
        for gateway in &gateways {
            wait_until("it notices by itself", || {
                gateway.status().went_back.is_some()
            });
            // One that is new, one that was lost, one that is there.
            scene.is_stopped(gateway, &[7, 5, 1]);
            wait_until("it cuts nothing more", || !gateway.status().cuts);
        }
        scene.has_log_of(2);
    }
}

#[test]
fn a_failover_without_the_last_commits_is_recovered_from() {
    for scene in Scene::on_both() {
        let gateways = [scene.installation.start(), scene.installation.start()];
        (1..=3).for_each(|number| scene.stores(&gateways[0], number));
        let before = scene.published(&gateways[1], 30);
        (4..=6).for_each(|number| scene.stores(&gateways[0], number));
        let lost = scene.published(&gateways[1], 60);
        let newest = *lost.keys().last().unwrap();
        scene.fail_over(3);
        // The lost ones are no replays and no duplicates.
        gateways
            .iter()
            .for_each(|gateway| scene.is_stopped(gateway, &[4, 5, 7]));
        scene.has_log_of(3);
        drop(gateways);

        let plan = scene.admin().plan_recovery(&[], Some(newest)).unwrap();
        assert_eq!((plan.epoch, plan.skipped_to), (1, Some(newest)));
        assert_eq!(plan.log_end.unwrap().position, 3);
        scene.admin().begin_epoch(&plan).unwrap();
        let gateway = scene.installation.start();
        (4..=7).for_each(|number| scene.stores(&gateway, number));
        scene.has_log_of(7);
        let after = scene.published(&gateway, 70);
        for (tag, content) in &after {
            let is_kept = before.get(tag) == Some(content);
            assert!(is_kept || *tag > newest, "{tag} is given again");
        }
        assert!(before.keys().all(|tag| after.contains_key(tag)));
    }
}

#[test]
fn gateways_of_the_epoch_before_stop() {
    for scene in Scene::on_both() {
        let gateway = scene.installation.start();
        scene.stores(&gateway, 1);
        let tag = BatchTag::parse("20210601-50").unwrap();
        let plan = scene.admin().plan_recovery(&[], Some(tag)).unwrap();
        scene.admin().begin_epoch(&plan).unwrap();
        scene.admin().begin_epoch(&plan).unwrap_err();
        wait_until("it notices", || gateway.status().went_back.is_some());
        scene.is_stopped(&gateway, &[1, 2]);
        let next = scene.installation.start();
        scene.stores(&next, 2);
        let newest = scene.published(&next, 20).into_keys().last().unwrap();
        assert!(newest > tag || scene.rows() == 1, "{newest}");
    }
}

#[test]
fn another_row_at_our_position_stops_us() {
    for scene in Scene::on_both() {
        let gateway = scene.installation.start();
        (1..=2).for_each(|number| scene.stores(&gateway, number));
        // As when a gateway that was started again has taken the position.
        scene.run("UPDATE upload_log SET created_at_ms = created_at_ms + 1 WHERE seq = 2");
        scene.is_stopped(&gateway, &[3, 2]);
        scene.has_log_of(2);
    }
}

#[test]
fn the_newest_download_batch_counts_too() {
    for scene in Scene::on_both() {
        let gateways = [scene.installation.start(), scene.installation.start()];
        scene.stores(&gateways[0], 1);
        gateways
            .iter()
            .for_each(|gateway| drop(scene.published(gateway, 10)));
        scene.run("DELETE FROM download_batch");
        for gateway in &gateways {
            wait_until("it notices by itself", || {
                gateway.status().went_back.is_some()
            });
            scene.is_stopped(gateway, &[1, 2]);
        }
        assert_eq!(scene.number("SELECT COUNT(*) FROM download_batch"), 0);
    }
}

#[test]
fn a_start_on_an_older_database_is_refused_by_the_state_file() {
    for mut scene in Scene::on_both() {
        let file = scene.folder.path().join("state");
        scene.installation.settings.continuity.state_file = Some(file.clone());
        let gateway = scene.installation.start();
        scene.stores(&gateway, 1);
        let before = scene.published(&gateway, 10);
        drop(gateway);
        scene.back_up();
        let gateway = scene.installation.start();
        (2..=4).for_each(|number| scene.stores(&gateway, number));
        let newest = *scene.published(&gateway, 40).keys().last().unwrap();
        drop(gateway);
        drop(scene.installation.start());
        scene.restore();

        let refused = scene.installation.try_start().unwrap_err().to_string();
        assert!(refused.contains("efgs db recovered"), "{refused}");
        assert!(refused.contains("position 4"), "{refused}");
        let files = [file.clone()];
        let plan = scene.admin().plan_recovery(&files, None).unwrap();
        assert_eq!(plan.skipped_to, Some(newest));
        let (place, outcome) = plan.remembered.unwrap();
        assert_eq!((place.position, outcome), (4, RowOutcome::Gone));
        scene.installation.try_start().unwrap_err();
        scene.admin().begin_epoch(&plan).unwrap();

        let gateway = scene.installation.start();
        (2..=5).for_each(|number| scene.stores(&gateway, number));
        scene.has_log_of(5);
        for (tag, content) in scene.published(&gateway, 50) {
            assert!(before.get(&tag) == Some(&content) || tag > newest, "{tag}");
        }
        drop(gateway);
        drop(scene.installation.start());
    }
}

#[test]
fn nothing_is_acknowledged_that_the_state_file_does_not_hold() {
    for mut scene in Scene::on_both() {
        let folder = scene.folder.path().join("state");
        std::fs::create_dir(&folder).unwrap();
        scene.installation.settings.continuity.state_file = Some(folder.join("file"));
        let gateway = scene.installation.start();
        scene.stores(&gateway, 1);
        drop(scene.published(&gateway, 10));
        std::fs::remove_dir_all(&folder).unwrap();
        for _ in 0..2 {
            match scene.send(&gateway, 2) {
                Err(UploadError::Failure(Failure::StateFile)) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(!gateway.status().state_file_writable, "it is not ready");
        std::fs::create_dir(&folder).unwrap();
        let replayed = Receipt::Stored {
            key_count: 10,
            replayed: true,
        };
        assert_eq!(scene.send(&gateway, 2).unwrap(), replayed);
        assert!(gateway.status().state_file_writable);
    }
}

#[test]
fn who_cannot_remember_leaves_the_cutting_to_another_gateway() {
    for mut scene in Scene::on_both() {
        let folder = scene.folder.path().join("state");
        std::fs::create_dir(&folder).unwrap();
        scene.installation.settings.continuity.state_file = Some(folder.join("file"));
        let forgetful = scene.installation.start();
        wait_until("it cuts", || forgetful.status().cuts);
        scene.installation.settings.continuity.state_file = None;
        let other = scene.installation.start();
        assert!(!other.status().cuts);
        std::fs::remove_dir_all(&folder).unwrap();
        scene.send(&forgetful, 1).unwrap_err();
        wait_until("the other gateway cuts", || other.status().cuts);
        assert!(!forgetful.status().cuts && !forgetful.status().state_file_writable);
        scene.stores(&other, 2);
        assert!(!scene.published(&other, 20).is_empty());
    }
}

#[test]
fn a_start_that_is_refused_has_not_migrated() {
    for mut scene in Scene::on_both() {
        drop(scene.installation.start());
        // As an earlier program leaves it: a version less.
        let version = "SELECT MAX(version) FROM schema_version";
        let newest = scene.number(version);
        scene.run(&format!(
            "DELETE FROM schema_version WHERE version = {newest}"
        ));
        let keys = scene.installation.settings.keys.clone();
        scene.installation.settings.keys = Keys::parse(&Keys::generate_text()).unwrap();
        let refused = scene.installation.try_start().unwrap_err().to_string();
        assert!(refused.contains("key"), "{refused}");
        assert_eq!(scene.number(version), newest - 1);
        scene.installation.settings.keys = keys;
        drop(scene.installation.start());
        assert_eq!(scene.number(version), newest);
    }
}

#[test]
fn a_start_on_a_database_with_a_trigger_is_refused_with_its_name() {
    for scene in Scene::on_both() {
        let act = match &scene.server {
            Some(_) => "SET new.sealed = ''",
            None => "BEGIN DELETE FROM upload_log; END",
        };
        let time = if scene.server.is_some() {
            "BEFORE"
        } else {
            "AFTER"
        };
        scene.run(&format!(
            "CREATE TRIGGER gone {time} INSERT ON upload_log FOR EACH ROW {act}"
        ));
        let refused = scene.installation.try_start().unwrap_err().to_string();
        assert!(
            refused.contains("trigger gone on table upload_log"),
            "{refused}"
        );
        let faults = scene.admin().check_schema().unwrap();
        assert_eq!(faults.len(), 1);
        scene.run("DROP TRIGGER gone");
        scene.stores(&scene.installation.start(), 1);
    }
}

#[test]
fn an_sqlite_file_that_is_exchanged_or_removed_is_noticed() {
    for is_removed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(Installation::on_sqlite(), None, folder);
        let gateway = scene.installation.start();
        scene.stores(&gateway, 1);
        drop(scene.published(&gateway, 10));
        // It has all that the gateway knows.
        scene.back_up();
        match is_removed {
            true => std::fs::remove_file(scene.file()).unwrap(),
            false => std::fs::rename(&scene.backup, scene.file()).unwrap(),
        }
        scene.is_stopped(&gateway, &[2, 1]);
        assert_eq!(scene.file().exists(), !is_removed, "no new one is made");
        drop(gateway);
    }
}

#[test]
fn a_server_that_may_lose_commits_is_used_only_when_that_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    let mut installation = Installation::on_mysql(&server, "efgs");
    for value in [0, 2] {
        let set = format!("SET GLOBAL innodb_flush_log_at_trx_commit = {value}");
        server.run(&set).unwrap();
        installation.settings.continuity.accept_unflushed_commits = false;
        let refused = installation.try_start().unwrap_err().to_string();
        assert!(
            refused.contains("innodb_flush_log_at_trx_commit to 1"),
            "{refused}"
        );
        installation.settings.continuity.accept_unflushed_commits = true;
        drop(installation.start());
    }
}
