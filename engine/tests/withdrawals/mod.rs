//! Uploads that an operator withdraws (decision 33), on both databases, with several gateways.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::time::Duration;

use engine::Engine;
use engine::admin::Finding;
use engine::domain::{BatchTag, Format, UploadTag};
use engine::upload::Receipt;

use super::support::{download, participants};
use super::{Installation, Scene, wait_until};

/// Four uploads of ten keys fill a download batch; nothing is cut for its age.
fn scenes() -> [Scene; 2] {
    let mut scenes = Scene::on_both();
    for scene in &mut scenes {
        scene.installation.settings.bundle.max_delay = Duration::from_secs(3600);
    }
    scenes
}

impl Scene {
    fn withdraw(&self, number: u64, free: bool) {
        let tag = UploadTag::parse(&format!("upload-{number}")).unwrap();
        let done = self
            .admin()
            .withdraw(self.keys(), (self.de.country, &tag), "a test", free)
            .unwrap();
        assert_eq!((done.position, done.key_count), (number, 10));
    }

    /// Number of keys that IT gets of each download batch.
    fn given(&self, engine: &Engine, keys: u64) -> Vec<(BatchTag, usize)> {
        let count = |bytes: Vec<u8>| {
            let each = self.de.key(0, self.installation.now()).len();
            bytes.len() / each
        };
        let published = self.published(engine, keys);
        published
            .into_iter()
            .map(|(tag, bytes)| (tag, count(bytes)))
            .collect()
    }

    /// Number of uploads that an audit lists.
    fn audited(&self, engine: &Engine, tag: BatchTag) -> usize {
        let (sender, receiver) = channel();
        let reply = move |entries| sender.send(entries).unwrap();
        engine.audit(participants()[1].country, tag.day, &tag.to_string(), reply);
        let audit = receiver.recv().unwrap().unwrap();
        let body: Vec<u8> = (0..audit.chunk_count())
            .flat_map(|at| audit.chunk(at))
            .collect();
        let entries: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap();
        entries.len()
    }

    fn waits_until_given(&self, engine: &Engine, expected: &[usize]) {
        wait_until("it follows the withdrawal", || {
            let given = self.given(engine, 0);
            given
                .iter()
                .map(|(_, keys)| *keys)
                .eq(expected.iter().copied())
        });
    }
}

const fn stored(replayed: bool) -> Receipt {
    Receipt::Stored {
        key_count: 10,
        replayed,
    }
}

#[test]
fn a_withdrawn_upload_goes_to_nobody_and_all_else_stays() {
    for scene in scenes() {
        let gateways = [scene.installation.start(), scene.installation.start()];
        (1..=8).for_each(|number| scene.stores(&gateways[0], number));
        let before = scene.published(&gateways[1], 80);
        drop(scene.published(&gateways[0], 80));
        let tags: Vec<_> = before.keys().copied().collect();
        scene.withdraw(2, false);
        (5..=8).for_each(|number| scene.withdraw(number, false));
        let third = scene.installation.start();
        for gateway in gateways.iter().chain([&third]) {
            scene.waits_until_given(gateway, &[30, 0]);
            let given = scene.given(gateway, 30);
            let given: BTreeMap<_, _> = given.into_iter().collect();
            assert!(given.keys().eq(&tags), "the chain is as it was");
            let json = download(
                gateway,
                participants()[1].country,
                tags[1].day,
                Some(&tags[1].to_string()),
                Format::Json,
            );
            let json: Vec<u8> = json.unwrap().chunks().flatten().collect();
            assert_eq!(json, b"{\"keys\":[]}");
            assert_eq!(scene.audited(gateway, tags[0]), 3);
            assert_eq!(scene.audited(gateway, tags[1]), 0);
            // Its keys and its tag are as taken as before.
            assert_eq!(scene.send(gateway, 2).unwrap(), stored(true));
        }
        scene.has_log_of(8);
        let today = engine::Clock::now(&engine::SystemClock).day();
        let listed = scene.admin().withdrawals(today, today.next()).unwrap();
        let listed: Vec<_> = listed
            .iter()
            .map(|row| (row.seq.0, row.tag.as_str(), &*row.reason, row.is_freed))
            .collect();
        assert_eq!(listed.len(), 5);
        assert_eq!(listed[0], (2, "upload-2", "a test", false));
    }
}

#[test]
fn an_upload_that_is_withdrawn_before_it_is_cut_goes_to_nobody() {
    for scene in scenes() {
        let gateway = scene.installation.start();
        (1..=3).for_each(|number| scene.stores(&gateway, number));
        scene.withdraw(2, false);
        scene.stores(&gateway, 4);
        scene.waits_until_given(&gateway, &[30]);
    }
}

#[test]
fn freed_keys_and_tags_can_be_sent_again_to_every_gateway() {
    for scene in scenes() {
        let gateways = [scene.installation.start(), scene.installation.start()];
        (1..=4).for_each(|number| scene.stores(&gateways[0], number));
        super::follows(&gateways[1], 4);
        assert_eq!(scene.send(&gateways[1], 2).unwrap(), stored(true));
        scene.withdraw(2, false);
        scene.withdraw(2, true);
        scene.withdraw(3, true);
        // Each is freed at the gateway that did not store it, and at the one that did.
        for (number, gateway, other) in [
            (2, &gateways[1], &gateways[0]),
            (3, &gateways[0], &gateways[1]),
        ] {
            let mut sent = stored(true);
            wait_until("it is freed", || {
                sent = scene.send(gateway, number).unwrap();
                sent == stored(false)
            });
            // Stored once, for all of them.
            assert_eq!(scene.send(other, number).unwrap(), stored(true));
            assert_eq!(scene.send(gateway, number).unwrap(), stored(true));
        }
        scene.has_log_of(6);
        (5..=6).for_each(|number| scene.stores(&gateways[1], number));
        for gateway in gateways.iter().chain([&scene.installation.start()]) {
            scene.waits_until_given(gateway, &[20, 40]);
            for number in 1..=4 {
                assert_eq!(scene.send(gateway, number).unwrap(), stored(true));
            }
            let duplicates = scene.send_as(gateway, 2, "another-tag").unwrap();
            assert_eq!(
                duplicates,
                Receipt::Refused {
                    key_count: 10,
                    duplicates: (0..10).collect()
                }
            );
        }
        scene.has_log_of(8);
        // What was sent again can be withdrawn again.
        let tag = UploadTag::parse("upload-2").unwrap();
        let again =
            scene
                .admin()
                .withdraw(scene.keys(), (scene.de.country, &tag), "once more", true);
        assert_eq!(again.unwrap().position, 5);
        scene
            .admin()
            .withdraw(scene.keys(), (scene.de.country, &tag), "gone", true)
            .unwrap_err();
        wait_until("it is freed again", || {
            scene.send(&gateways[0], 2).unwrap() == stored(false)
        });
        scene.has_log_of(9);
    }
}

#[test]
fn a_damaged_upload_is_healed_by_sending_it_again() {
    for scene in scenes() {
        let gateway = scene.installation.start();
        (1..=4).for_each(|number| scene.stores(&gateway, number));
        let tag = *scene.published(&gateway, 40).keys().next().unwrap();
        drop(gateway);
        scene.run("UPDATE upload_log SET sealed = x'00' WHERE seq = 3");
        let gateway = scene.installation.start();
        let it = participants()[1].country;
        let ask = || {
            download(
                &gateway,
                it,
                tag.day,
                Some(&tag.to_string()),
                Format::Protobuf,
            )
        };
        ask().unwrap_err();
        scene.withdraw(3, true);
        wait_until("the others can be read", || ask().is_ok());
        wait_until("it is freed", || {
            scene.send(&gateway, 3).unwrap() == stored(false)
        });
        (5..=7).for_each(|number| {
            scene.stores(&gateway, number);
        });
        scene.waits_until_given(&gateway, &[30, 40]);
    }
}

/// A statement of somebody without a key, the withdrawal that is named, and what is said of it. Two
/// uploads are withdrawn, the second is freed as well, which makes three withdrawals.
const HANDS: [(&str, &str, &str); 10] = [
    (
        "INSERT INTO withdrawal (number, seq, country, upload_tag, key_count, is_freed, \
         withdrawn_at_ms, reason) SELECT 4, 4, country, x'75706c6f61642d34', key_count, 0, \
         withdrawn_at_ms, reason FROM withdrawal WHERE number = 1",
        "withdrawal 4 (upload upload-4 of DE at position 4)",
        CHANGED,
    ),
    (
        "INSERT INTO withdrawal SELECT 4, 4, country, upload_tag, key_count, is_freed, \
         withdrawn_at_ms, reason, digest FROM withdrawal WHERE number = 3",
        "withdrawal 4 (upload upload-3 of DE at position 4)",
        CHANGED,
    ),
    (
        "UPDATE withdrawal SET seq = 1 WHERE number = 1",
        "withdrawal 1 (upload upload-2 of DE at position 1)",
        CHANGED,
    ),
    (
        "UPDATE withdrawal SET is_freed = 1 WHERE number = 1",
        "withdrawal 1 (upload upload-2 of DE at position 2)",
        CHANGED,
    ),
    (
        "UPDATE withdrawal SET digest = NULL WHERE number = 2",
        "withdrawal 2 (upload upload-3 of DE at position 3)",
        CHANGED,
    ),
    (
        "DELETE FROM withdrawal WHERE number = 1",
        "withdrawal 2 (upload upload-3 of DE at position 3)",
        CHANGED,
    ),
    (
        "UPDATE withdrawal SET key_count = -1 WHERE number = 2",
        "table withdrawal, row with number 2: key_count is no number from 0 on",
        "cannot be read",
    ),
    (
        "DELETE FROM withdrawal WHERE number = 3",
        "the withdrawals",
        FEWER,
    ),
    ("DELETE FROM withdrawal", "the withdrawals", FEWER),
    (
        "DELETE FROM installation WHERE name = CAST('withdrawals end' AS BINARY(15))",
        "the withdrawals",
        FEWER,
    ),
];

const CHANGED: &str = "is not as it was written, or the withdrawal before it is not or is gone";
const FEWER: &str = "are fewer or more than were written";

impl Scene {
    /// Three withdrawals of four uploads; gateways are stopped.
    fn with_withdrawals(&self) {
        let gateway = self.installation.start();
        (1..=4).for_each(|number| self.stores(&gateway, number));
        drop(gateway);
        self.withdraw(2, false);
        self.withdraw(3, false);
        self.withdraw(3, true);
    }

    fn tamper_with_withdrawals(&self, sql: &str) {
        // SQLite has another word for it.
        self.run(&match self.server {
            Some(_) => sql.to_owned(),
            None => sql.replace("AS BINARY(15)", "AS BLOB"),
        });
    }
}

#[test]
fn a_start_and_a_verification_find_withdrawals_made_outside_of_efgs() {
    for scene in scenes() {
        scene.with_withdrawals();
        assert_eq!(scene.verify(None).1, []);
        scene.back_up();
        for (sql, place, says) in HANDS {
            scene.tamper_with_withdrawals(sql);
            let sentence = format!("{place} {says}");
            let refused = scene.installation.try_start().expect_err(sql).to_string();
            assert!(refused.contains(&sentence), "{sql}: {refused}");
            let (_, findings) = scene.verify(None);
            let is_found = |finding: &Finding| {
                finding.stops_gateways() && finding.to_string().starts_with(&sentence)
            };
            assert!(findings.iter().any(is_found), "{sql}: {findings:?}");
            let tag = UploadTag::parse("upload-1").unwrap();
            let mut admin = scene.admin();
            let refused = admin.withdraw(scene.keys(), (scene.de.country, &tag), "no", false);
            let refused = refused.expect_err(sql).to_string();
            assert!(refused.contains(&sentence), "{sql}: {refused}");
            scene.restore();
        }
        drop(scene.installation.start());
    }
}

#[test]
fn running_gateways_stop_at_withdrawals_made_outside_of_efgs() {
    let forged = HANDS[0];
    let taken_back = (
        "DELETE FROM withdrawal WHERE number = 3",
        "withdrawal 3",
        "is gone, or is another one",
    );
    for scene in scenes() {
        scene.with_withdrawals();
        scene.back_up();
        for (sql, place, says) in [forged, taken_back] {
            let gateways = [scene.installation.start(), scene.installation.start()];
            scene.tamper_with_withdrawals(sql);
            for gateway in &gateways {
                wait_until("it notices by itself", || {
                    gateway.status().went_back.is_some()
                });
                let loss = gateway.status().went_back.unwrap();
                assert!(loss.contains(&format!("{place} {says}")), "{loss}");
                scene.refuses_everything(gateway, &[1, 2, 5]);
            }
            drop(gateways);
            scene.restore();
        }
    }
}

/// While no gateway runs, only the state file knows that there were withdrawals.
#[test]
fn a_state_file_knows_the_withdrawals_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    let mut scene = Scene::new(Installation::on_sqlite(), None, folder);
    scene.installation.settings.continuity.state_file = Some(file);
    scene.with_withdrawals();
    drop(scene.installation.start());
    scene.run(
        "DELETE FROM withdrawal; \
         DELETE FROM installation WHERE name = CAST('withdrawals end' AS BLOB)",
    );
    let refused = scene.installation.try_start().unwrap_err().to_string();
    assert!(refused.contains("its withdrawal 3"), "{refused}");
}

#[test]
fn withdrawals_that_are_accepted_are_in_force_and_others_follow_them() {
    for scene in scenes() {
        scene.with_withdrawals();
        scene.tamper_with_withdrawals(HANDS[0].0);
        let mut admin = scene.admin();
        for finding in scene.verify(None).1 {
            admin.accept(&finding).unwrap();
        }
        assert_eq!(scene.verify(None).1, []);
        let gateway = scene.installation.start();
        scene.withdraw(1, false);
        scene.waits_until_given(&gateway, &[0]);
        assert_eq!(scene.verify(None).1, []);
        drop(gateway);
        drop(scene.installation.start());
        scene.run("UPDATE withdrawal SET is_freed = 1 WHERE number = 4");
        scene.installation.try_start().unwrap_err();
    }
}

#[test]
fn a_withdrawal_that_the_database_takes_back_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::new(Installation::on_sqlite(), None, folder);
    let gateway = scene.installation.start();
    scene.stores(&gateway, 1);
    scene.run("CREATE TRIGGER back AFTER INSERT ON withdrawal BEGIN DELETE FROM withdrawal; END");
    let tag = UploadTag::parse("upload-1").unwrap();
    let told = scene
        .admin()
        .withdraw(scene.keys(), (scene.de.country, &tag), "no", false);
    let told = told.unwrap_err().to_string();
    assert!(told.contains("nothing is withdrawn for certain"), "{told}");
}
