//! Tampering with the database: rows changed, moved, inserted or deleted by someone without the
//! key. Each is found at start and by a verification, with its place; by running gateways when they
//! come to it.

use std::collections::BTreeSet;

use engine::admin::{Finding, Verification, Verified};
use engine::domain::Day;

use super::*;

/// A statement, how it is in SQLite if that differs, and what is found.
struct Case {
    sql: &'static str,
    on_sqlite: Option<&'static str>,
    /// What is said at start: the first that is found.
    found: &'static str,
    says: &'static str,
}

const fn case(sql: &'static str, found: &'static str, says: &'static str) -> Case {
    Case {
        sql,
        on_sqlite: None,
        found,
        says,
    }
}

const CHANGED: &str = "was changed after it was stored";
const MISPLACED: &str = "does not follow the row before it";
const UNLINKED: &str = "has lost its link";
const BATCH_MISPLACED: &str = "does not follow the download batch before it";
const BATCH_CHANGED: &str = "or its last upload was changed after it was cut";

/// Of a log of nine uploads, the first eight in two download batches.
fn cases() -> Vec<Case> {
    vec![
        // Swapped, moved, deleted, copied.
        case(
            "UPDATE upload_log SET seq = 100 WHERE seq = 2; \
             UPDATE upload_log SET seq = 2 WHERE seq = 3; \
             UPDATE upload_log SET seq = 3 WHERE seq = 100",
            "upload upload-3 of DE at position 2",
            MISPLACED,
        ),
        case(
            "UPDATE upload_log SET seq = 10 WHERE seq = 2",
            "upload upload-3 of DE at position 3",
            MISPLACED,
        ),
        case(
            "DELETE FROM upload_log WHERE seq = 6",
            "upload upload-7 of DE at position 7",
            MISPLACED,
        ),
        case(
            "DELETE FROM upload_log WHERE seq < 4",
            "upload upload-4 of DE at position 4",
            MISPLACED,
        ),
        case(
            "DELETE FROM upload_log WHERE seq = 5; INSERT INTO upload_log SELECT 5, created_at_ms, \
             country, 'copy', key_count, format_version, uploader_thumbprint, signer_thumbprint, \
             content_digest, chain, batch_signature, identities, sealed FROM upload_log \
             WHERE seq = 4",
            "upload copy of DE at position 5",
            CHANGED,
        ),
        // One column.
        case(
            "UPDATE upload_log SET created_at_ms = created_at_ms + 1 WHERE seq = 2",
            "upload upload-2 of DE at position 2",
            CHANGED,
        ),
        case(
            "UPDATE upload_log SET uploader_thumbprint = signer_thumbprint WHERE seq = 9",
            "upload upload-9 of DE at position 9",
            CHANGED,
        ),
        case(
            "UPDATE upload_log SET signer_thumbprint = uploader_thumbprint WHERE seq = 1",
            "upload upload-1 of DE at position 1",
            CHANGED,
        ),
        case(
            "UPDATE upload_log SET country = 'FR' WHERE seq = 4",
            "upload upload-4 of FR at position 4",
            CHANGED,
        ),
        case(
            "UPDATE upload_log SET key_count = 11 WHERE seq = 4",
            "upload upload-4 of DE at position 4",
            CHANGED,
        ),
        Case {
            sql: "UPDATE upload_log SET identities = REPEAT(CHAR(0), 160) WHERE seq = 7",
            on_sqlite: Some("UPDATE upload_log SET identities = zeroblob(160) WHERE seq = 7"),
            found: "upload upload-7 of DE at position 7",
            says: CHANGED,
        },
        case(
            "UPDATE upload_log SET identities = \
             (SELECT identities FROM (SELECT * FROM upload_log WHERE seq = 6) AS other) \
             WHERE seq = 7",
            "upload upload-7 of DE at position 7",
            CHANGED,
        ),
        case(
            "UPDATE upload_log SET batch_signature = \
             (SELECT batch_signature FROM (SELECT * FROM upload_log WHERE seq = 6) AS other) \
             WHERE seq = 7",
            "upload upload-7 of DE at position 7",
            CHANGED,
        ),
        // As if it was from before the chain.
        case(
            "UPDATE upload_log SET chain = '' WHERE seq = 5",
            "upload upload-5 of DE at position 5",
            UNLINKED,
        ),
        case(
            "UPDATE upload_log SET chain = '' WHERE seq < 5",
            "upload upload-5 of DE at position 5",
            MISPLACED,
        ),
        // Download batches: widened, emptied, turned round, named otherwise.
        case(
            "UPDATE download_batch SET last_seq = 9 WHERE ordinal = 2",
            "download batch 20210601-2 of positions 5 to 9",
            BATCH_CHANGED,
        ),
        case(
            "UPDATE download_batch SET last_seq = 5 WHERE ordinal = 1; \
             UPDATE download_batch SET first_seq = 6 WHERE ordinal = 2",
            "download batch 20210601-1 of positions 1 to 5",
            BATCH_CHANGED,
        ),
        case(
            "UPDATE download_batch SET last_seq = 4 WHERE ordinal = 2",
            "download batch 20210601-2 of positions 5 to 4",
            BATCH_MISPLACED,
        ),
        case(
            "UPDATE download_batch SET first_seq = 8, last_seq = 5 WHERE ordinal = 2",
            "download batch 20210601-2 of positions 8 to 5",
            BATCH_MISPLACED,
        ),
        case(
            "UPDATE download_batch SET first_seq = 6 WHERE ordinal = 2",
            "download batch 20210601-2 of positions 6 to 8",
            BATCH_MISPLACED,
        ),
        case(
            "UPDATE download_batch SET day = 20210602 WHERE ordinal = 2",
            "download batch 20210602-2 of positions 5 to 8",
            BATCH_CHANGED,
        ),
        case(
            "UPDATE download_batch SET number = 7 WHERE ordinal = 2",
            "download batch 20210601-7 of positions 5 to 8",
            BATCH_CHANGED,
        ),
        case(
            "UPDATE download_batch SET key_count = 39 WHERE ordinal = 1",
            "download batch 20210601-1 of positions 1 to 4",
            BATCH_CHANGED,
        ),
        case(
            "UPDATE download_batch SET digest = '' WHERE ordinal = 2",
            "download batch 20210601-2 of positions 5 to 8",
            "has lost its digest",
        ),
        case(
            "DELETE FROM download_batch WHERE ordinal = 1",
            "download batch 20210601-2 of positions 5 to 8",
            BATCH_MISPLACED,
        ),
    ]
}

impl Scene {
    /// Nine uploads, eight of them in two full download batches; gateways are stopped.
    fn with_nine_uploads(&mut self) {
        // Nothing is cut but what is full.
        self.installation.settings.bundle.max_delay = Duration::from_secs(3600);
        self.installation.settings.bundle.cache_bytes_max = 0;
        let gateway = self.installation.start();
        (1..=8).for_each(|number| self.stores(&gateway, number));
        drop(self.published(&gateway, 80));
        self.stores(&gateway, 9);
        drop(gateway);
    }

    pub(super) fn verify(&self, since: Option<Day>) -> (Verified, Vec<Finding>) {
        let settings = &self.installation.settings;
        let verification = Verification {
            keys: &settings.keys,
            trust_anchor_pem: &settings.trust_anchor_pem,
            since,
        };
        let mut findings = Vec::new();
        let mut on_finding = |finding: &Finding| findings.push(finding.clone());
        let verified = self
            .admin()
            .verify(&verification, &mut |_| {}, &mut on_finding)
            .unwrap();
        assert_eq!(verified.findings, findings.len() as u64);
        (verified, findings)
    }

    fn tamper(&self, case: &Case) {
        match (&self.server, case.on_sqlite) {
            (None, Some(sql)) => self.run(sql),
            _ => self.run(case.sql),
        }
    }

    /// What IT hears when it asks for all keys.
    fn download_fails(&self, engine: &Engine, tag: &str) {
        let (today, it) = (self.installation.now().day(), &participants()[1]);
        match download(engine, it.country, today, Some(tag), Format::Protobuf) {
            Err(DownloadError::Failure(Failure::Unseal(_))) => {}
            other => panic!("{tag}: {other:?}"),
        }
    }

    fn download_succeeds(&self, engine: &Engine, tag: &str) {
        let (today, it) = (self.installation.now().day(), &participants()[1]);
        download(engine, it.country, today, Some(tag), Format::Protobuf).unwrap();
    }

    /// An expression that replaces one byte of the sealed keys.
    fn broken_seal(&self) -> &'static str {
        match self.server {
            Some(_) => "INSERT(sealed, 40, 1, CHAR(ASCII(SUBSTR(sealed, 40, 1)) ^ 1))",
            None => {
                "CAST(substr(sealed, 1, 39) || \
                 CASE substr(sealed, 40, 1) WHEN x'00' THEN x'01' ELSE x'00' END || \
                 substr(sealed, 41) AS BLOB)"
            }
        }
    }
}

#[test]
fn a_start_and_a_verification_find_what_somebody_has_changed() {
    for mut scene in Scene::on_both() {
        scene.with_nine_uploads();
        let (verified, findings) = scene.verify(None);
        assert_eq!(findings, []);
        let counts = (verified.uploads, verified.keys, verified.download_batches);
        assert_eq!(counts, (9, 90, 2));
        assert_eq!((verified.unchained, verified.signatures_unchecked), (0, 0));
        scene.back_up();
        for case in cases() {
            scene.tamper(&case);
            let refused = scene.installation.try_start();
            let refused = refused.expect_err(case.sql).to_string();
            let sentence = format!("{} {}", case.found, case.says);
            assert!(refused.contains(&sentence), "{}: {refused}", case.sql);
            let (_, findings) = scene.verify(None);
            let is_found = |finding: &Finding| {
                finding.stops_gateways() && finding.to_string().starts_with(&sentence)
            };
            assert!(findings.iter().any(is_found), "{}: {findings:?}", case.sql);
            scene.restore();
        }
        drop(scene.installation.start());
    }
}

#[test]
fn what_is_accepted_stops_no_gateway_and_what_is_changed_then_does() {
    for mut scene in Scene::on_both() {
        scene.with_nine_uploads();
        let mut admin = scene.admin();
        for sql in [
            "DELETE FROM upload_log WHERE seq = 9",
            "UPDATE upload_log SET created_at_ms = created_at_ms + 1 WHERE seq = 2",
            "UPDATE download_batch SET key_count = 39 WHERE ordinal = 1",
        ] {
            scene.run(sql);
        }
        scene.installation.try_start().unwrap_err();
        let (_, findings) = scene.verify(None);
        assert_eq!(findings.len(), 2, "{findings:?}");
        findings
            .iter()
            .for_each(|finding| admin.accept(finding).unwrap());
        let gateway = scene.installation.start();
        // It continues at the position of a row that nobody can know of any more.
        scene.stores(&gateway, 10);
        scene.has_log_of(9);
        drop(gateway);
        assert_eq!(scene.verify(None).1, []);
        scene.run("UPDATE upload_log SET created_at_ms = created_at_ms + 1 WHERE seq = 2");
        scene.installation.try_start().unwrap_err();
        assert_eq!(scene.verify(None).1.len(), 1);
    }
}

#[test]
fn running_gateways_stop_at_a_row_that_follows_none_that_they_know() {
    for scene in Scene::on_both() {
        let gateways = [scene.installation.start(), scene.installation.start()];
        (1..=3).for_each(|number| scene.stores(&gateways[0], number));
        // A row that was good at another place.
        scene.run(
            "INSERT INTO upload_log SELECT 4, created_at_ms, country, 'inserted', key_count, \
             format_version, uploader_thumbprint, signer_thumbprint, content_digest, chain, \
             batch_signature, identities, sealed FROM upload_log WHERE seq = 2",
        );
        for gateway in &gateways {
            wait_until("it notices by itself", || {
                gateway.status().went_back.is_some()
            });
            let loss = gateway.status().went_back.unwrap();
            assert!(
                loss.contains("upload inserted of DE at position 4"),
                "{loss}"
            );
            scene.refuses_everything(gateway, &[5, 3]);
        }
    }
}

#[test]
fn a_bundle_is_built_only_from_what_was_cut_and_damage_is_named() {
    for mut scene in Scene::on_both() {
        scene.with_nine_uploads();
        scene.back_up();
        // Another content under the same tag, as it was before a restore.
        scene.run("DELETE FROM download_batch; DELETE FROM upload_log");
        let gateway = scene.installation.start();
        scene.stores_as(&gateway, 70, "upload-3");
        drop(gateway);
        let kept = match scene.server {
            Some(_) => "backup.kept",
            None => "kept",
        };
        scene.run(&format!(
            "CREATE TABLE {kept} AS SELECT sealed FROM upload_log"
        ));
        scene.restore();

        let broken = scene.broken_seal();
        for (sql, tag, found) in [
            (
                format!("UPDATE upload_log SET sealed = (SELECT sealed FROM {kept}) WHERE seq = 3"),
                "20210601-1",
                "upload upload-3 of DE at position 3 cannot be served",
            ),
            (
                format!("UPDATE upload_log SET sealed = {broken} WHERE seq = 7"),
                "20210601-2",
                "upload upload-7 of DE at position 7 cannot be served",
            ),
            (
                "UPDATE upload_log SET seq = 100 WHERE seq = 6; \
                 UPDATE upload_log SET seq = 6 WHERE seq = 7; \
                 UPDATE upload_log SET seq = 7 WHERE seq = 100"
                    .to_owned(),
                "20210601-2",
                "upload upload-7 of DE at position 6 does not follow the row before it",
            ),
        ] {
            let gateway = scene.installation.start();
            scene.download_succeeds(&gateway, tag);
            scene.run(&sql);
            (0..2).for_each(|_| scene.download_fails(&gateway, tag));
            let status = gateway.status();
            assert_eq!(status.went_back, None, "all else is served");
            let [sentence] = &status.damaged_uploads[..] else {
                panic!("{:?}", status.damaged_uploads);
            };
            assert!(sentence.starts_with(found), "{sentence}");
            let other = ["20210601-1", "20210601-2"];
            let other = other.into_iter().find(|other| *other != tag).unwrap();
            scene.download_succeeds(&gateway, other);
            // While it runs, too.
            let position = found.split(" cannot").next().unwrap();
            let position = position.split(" does").next().unwrap();
            let (_, findings) = scene.verify(None);
            assert!(
                findings.iter().any(|finding| finding.place == position),
                "{findings:?}"
            );
            drop(gateway);
            scene.restore();
        }
    }
}

#[test]
fn a_verification_looks_at_what_was_stored_since_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(Installation::on_sqlite(), None, folder);
    scene.with_nine_uploads();
    let yesterday = scene.installation.now().day();
    scene.installation.clock.advance_millis(86_400_000);
    let gateway = scene.installation.start();
    (10..=12).for_each(|number| scene.stores(&gateway, number));
    drop(gateway);
    let broken = scene.broken_seal();
    scene.run(&format!("UPDATE upload_log SET sealed = {broken}"));
    let today = scene.installation.now().day();
    let places = |since| {
        let (verified, findings) = scene.verify(Some(since));
        let places: BTreeSet<_> = findings.into_iter().map(|found| found.place).collect();
        (verified.uploads, verified.download_batches, places.len())
    };
    assert_eq!(places(today), (3, 1, 3));
    assert_eq!(places(yesterday), (12, 3, 12));
    assert_eq!(places(today.next()), (0, 0, 0));
}

#[test]
fn what_retention_deletes_leaves_a_mark_that_nobody_can_forge() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(Installation::on_sqlite(), None, folder);
    scene.with_nine_uploads();
    scene.installation.clock.advance_millis(20 * 86_400_000);
    let today = scene.installation.now().day();
    scene.admin().confirm_day(today, false).unwrap();
    let gateway = scene.installation.start();
    scene.stores(&gateway, 10);
    wait_until("the first eight are forgotten", || scene.rows() == 2);
    drop(gateway);
    let gateway = scene.installation.start();
    scene.stores(&gateway, 11);
    drop(gateway);
    let (verified, findings) = scene.verify(None);
    assert_eq!((verified.uploads, findings), (3, Vec::new()));
    let mark = "SELECT value FROM installation WHERE name = CAST('chain forgotten' AS BLOB)";
    // All that can be known without the key: the link of the next row.
    let forged = "UPDATE installation SET value = CAST(x'0000000000000009' || SUBSTR(value, 9, 32) \
         || (SELECT SUBSTR(chain, 1, 32) FROM upload_log WHERE seq = 9) AS BLOB) \
         WHERE name = CAST('chain forgotten' AS BLOB); DELETE FROM upload_log WHERE seq = 9";
    assert_eq!(scene.number(&format!("SELECT LENGTH(({mark}))")), 72);
    for sql in [
        forged,
        "DELETE FROM installation WHERE name = CAST('chain forgotten' AS BLOB)",
    ] {
        scene.run(sql);
        let refused = scene.installation.try_start().unwrap_err().to_string();
        let found = "upload upload-10 of DE at position 10 does not follow";
        assert!(refused.contains(found), "{refused}");
    }
}

#[test]
fn who_takes_over_cuts_nothing_that_was_moved_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(Installation::on_sqlite(), None, folder);
    scene.installation.settings.bundle.max_delay = Duration::from_secs(3600);
    let first = scene.installation.start();
    wait_until("it cuts", || first.status().cuts);
    let second = scene.installation.start();
    (1..=3).for_each(|number| scene.stores(&first, number));
    follows(&second, 3);
    scene.run(
        "UPDATE upload_log SET seq = 100 WHERE seq = 1; \
         UPDATE upload_log SET seq = 1 WHERE seq = 2; \
         UPDATE upload_log SET seq = 2 WHERE seq = 100",
    );
    drop(first);
    wait_until("it notices", || second.status().went_back.is_some());
    let loss = second.status().went_back.unwrap();
    let found = "the upload of DE at position 1 does not follow the row before it";
    assert!(loss.starts_with(found), "{loss}");
    assert_eq!(scene.number("SELECT COUNT(*) FROM download_batch"), 0);
}
