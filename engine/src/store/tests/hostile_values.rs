//! Every column of every table with what no gateway writes there: whatever reads it says which, or
//! continues without it. Never a panic.

use testkit::local::MariaDb;

use crate::database::{Database, SqlError};
use crate::domain::{BatchTag, CallbackId, Country, Day, KeyIdentity, Seq, UnixMillis, UploadTag};
use crate::log_chain::{Accepted, BatchColumns, ChainKey, WithdrawalColumns, WithdrawalMark};
use crate::settings::DatabaseUrl;
use crate::store::schema::Made;
use crate::store::{
    Announcement, ClaimTerms, Cut, DownloadBatchRow, Expiry, Lease, LeaseToken, Store,
    WithdrawalError, WithdrawalRequest, known_version, migrate,
};

/// In SQL. What a column's type or a key refuses is left out.
const VALUES: [&str; 11] = [
    "NULL",
    "-1",
    "1.5",
    "1099511627776",
    "9223372036854775807",
    "20261399",
    "''",
    "'abc'",
    "'X1'",
    "x'ff0a1b'",
    "x'74776f0a6c696e6573'",
];

/// A good row in every table, as gateways write it.
const ROWS: [&str; 14] = [
    "INSERT INTO upload_log (seq, created_at_ms, country, upload_tag, key_count, format_version, \
     uploader_thumbprint, signer_thumbprint, content_digest, chain, batch_signature, identities, \
     sealed) \
     VALUES (7, 1601942400000, x'4445', x'746167', 1, 256, \
     x'6161616161616161616161616161616161616161616161616161616161616161', \
     x'6161616161616161616161616161616161616161616161616161616161616161', \
     x'6161616161616161616161616161616161616161616161616161616161616161', x'', \
     x'7369', x'61616161616161616161616161616161', x'7365')",
    "INSERT INTO download_batch (ordinal, day, number, first_seq, last_seq, key_count, \
     created_at_ms, digest) VALUES (3, 20201006, 1, 7, 7, 1, 1601942400000, x'')",
    "INSERT INTO callback_subscription (country, callback_id, url, created_at_ms, changed_at_ms, \
     delivered_ordinal, failed_attempts, next_attempt_at_ms, disabled_at_ms, claim_token, \
     claimed_until_ms) VALUES (x'4445', x'6964', x'68', 0, 0, 0, 0, 0, NULL, 0, 0)",
    "INSERT INTO callback_failure (country, callback_id, failed_at_ms, reason) \
     VALUES (x'4445', x'6964', 5, x'68')",
    "INSERT INTO cleanup_statistics (day, cleaned_at_ms, keys_before, keys_deleted, keys_after, \
     emptied_to, forgotten_to) VALUES (20201006, 0, 5, 3, 2, 6, 5)",
    "INSERT INTO upload_statistics (day, country, upload_count, key_count) \
     VALUES (20201006, x'4445', 1, 1)",
    "INSERT INTO download_statistics (day, country, batch_day, batch_number, download_count, \
     key_count) VALUES (20201006, x'4445', 20201006, 1, 1, 1)",
    "INSERT INTO lease (name, holder, token, fence, expires_at_ms) \
     VALUES (x'62756e646c65', x'7765', 1, 0, 0)",
    "INSERT INTO lease (name, holder, token, fence, expires_at_ms) \
     VALUES (x'726574656e74696f6e', x'7765', 1, 0, 0)",
    "INSERT INTO installation (name, value) VALUES (x'6375745f627564676574', x'35')",
    "INSERT INTO installation (name, value) VALUES (x'65706f6368', x'30')",
    "INSERT INTO installation (name, value) \
     VALUES (x'63657274696669636174655f7265766973696f6e', x'35')",
    "INSERT INTO certificate (thumbprint, kind, country, pem, operator_signature, created_at_ms, \
     revoked_at_ms) VALUES (x'6161616161616161616161616161616161616161616161616161616161616161', \
     x'7369676e696e67', x'4445', x'70', x'73', 0, NULL)",
    "INSERT INTO gateway (name, version, started_at_ms, seen_at_ms, figures) \
     VALUES (x'6e', x'31', 0, 9000000000000, x'7b7d')",
];

/// What the database says: rows that are not as they were written are no error of it.
fn database_error<T>(outcome: Result<T, WithdrawalError>) -> Result<(), SqlError> {
    match outcome {
        Err(WithdrawalError::Database(error)) => Err(error),
        Err(WithdrawalError::Fault(_)) | Ok(_) => Ok(()),
    }
}

/// And one whose digest has to fit.
fn good_rows() -> Vec<String> {
    let row = WithdrawalColumns {
        number: 1,
        seq: Seq(7),
        country: de(),
        tag: &UploadTag::parse("tag").unwrap(),
        key_count: 1,
        is_freed: false,
        withdrawn_at: UnixMillis(0),
        reason: "r",
    };
    let digest = chain().withdrawal(None, &row);
    let end = chain().end_of_withdrawals(1, Some(digest));
    let hex = |bytes: [u8; 32]| -> String {
        let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
        digits.collect()
    };
    let withdrawal = format!(
        "INSERT INTO withdrawal (number, seq, country, upload_tag, key_count, is_freed, \
         withdrawn_at_ms, reason, digest) \
         VALUES (1, 7, x'4445', x'746167', 1, 0, 0, x'72', x'{}')",
        hex(digest.0)
    );
    let end = format!(
        "INSERT INTO installation (name, value) VALUES (x'7769746864726177616c7320656e64', x'{}')",
        hex(end)
    );
    let rows = ROWS.into_iter().map(str::to_owned);
    rows.chain([withdrawal, end]).collect()
}

const NOW: UnixMillis = UnixMillis(1_602_028_800_000);

fn de() -> Country {
    Country::parse("DE").unwrap()
}

fn chain() -> ChainKey {
    ChainKey::new(&[1; 32], &[2; 32])
}

fn day(text: &str) -> Day {
    Day::parse_iso(text).unwrap()
}

type Work = fn(&mut Store) -> Result<(), SqlError>;

fn token(store: &mut Store, lease: Lease) -> Result<LeaseToken, SqlError> {
    let held = store.hold_lease(lease, "we", 60_000)?;
    Ok(held.unwrap_or_else(|| LeaseToken {
        number: 0,
        holder: "we".into(),
    }))
}

fn retain(store: &mut Store) -> Result<(), SqlError> {
    let token = token(store, Lease::Retention)?;
    let today = day("2020-10-20");
    store.newest_cleanup_day(today)?;
    store.begin_cleanup(&token, today, NOW)?;
    let expiry = Expiry {
        oldest_day: today,
        cut_before: Some(NOW),
    };
    store.empty_sealed(&token, today, expiry, NOW)?;
    store.forget_uploads(&token, today, today, &chain())?;
    store.forget_download_batches(&token, today)?;
    store.release_lease(Lease::Retention, "we")
}

fn cut(store: &mut Store) -> Result<(), SqlError> {
    let token = token(store, Lease::Bundle)?;
    let newest = store.newest_download_batch()?;
    let uploads = store.read_uncut(Seq::ZERO, 9)?;
    let Some(last_upload) = uploads.last() else {
        return Ok(());
    };
    let before = newest.as_ref().map(|batch| &batch.columns);
    let columns = BatchColumns {
        ordinal: before.map_or(1, |batch| batch.ordinal.saturating_add(1)),
        tag: BatchTag {
            day: day("2020-10-07"),
            number: before.map_or(1, |batch| batch.tag.number.saturating_add(1)),
        },
        seqs: 8..=8,
        key_count: 1,
    };
    let batch = DownloadBatchRow {
        columns,
        digest: None,
    };
    let epoch = store.epoch()?.number;
    store.cut(&Cut {
        token: &token,
        epoch,
        newest: newest.as_ref(),
        last_upload: &last_upload.meta,
        newest_row: None,
        batches: &[batch],
        budget: 1,
        now: NOW,
    })?;
    Ok(())
}

fn deliver(store: &mut Store) -> Result<(), SqlError> {
    store.callback_summary()?;
    let terms = ClaimTerms {
        ttl_ms: 1000,
        oldest_day: day("2020-10-01"),
    };
    for (due, ()) in store.claim_deliveries(&terms, |_| Some(()), || 5)? {
        store.record_failed(&due, 1000, 3, "no")?;
        store.record_delivered(&due)?;
    }
    store.callback_subscriptions(de())?;
    let id = CallbackId::parse("id").unwrap();
    store.enable_subscription(de(), &id)?;
    store.subscribe(de(), &id, "https://x", NOW)?;
    store.subscription_states(day("2020-10-01")).map(drop)
}

/// Everything that a gateway and the command line do, by reading alone where that is possible.
const WORK: [(&str, Work); 18] = [
    ("version", |store| store.schema_version().map(drop)),
    ("start", |store| {
        store.epoch()?;
        store.last_log_mark()?;
        let end = store.log_end()?;
        store.log_mark(end)?;
        store.count_keys_since(UnixMillis(0), end)?;
        store.forgotten(&chain())?;
        store.accepted()?;
        store.link_before(Seq(8), &chain())?;
        store.read_whole_log(end, &mut |entry| {
            let _ = entry.mark().digest();
        })
    }),
    ("follow", |store| store.read_log(Seq::ZERO, 9).map(drop)),
    ("position", |store| store.read_log(Seq(7), 9).map(drop)),
    ("lock", |store| {
        store.lock_log()?;
        let read = store.read_locked_log(Seq::ZERO, 9).map(drop);
        store.unlock_log()?;
        read
    }),
    ("recall", |store| store.recall(3).map(drop)),
    ("catalog", |store| {
        store.first_ordinal()?;
        store.read_download_batches(0, day("2020-10-01"))?;
        store.read_upload_range(&(1..=9)).map(drop)
    }),
    ("bundle", |store| store.read_sealed(&(1..=9)).map(drop)),
    ("audit", |store| store.read_audit(&(1..=9)).map(drop)),
    ("tag", |store| {
        let tag = UploadTag::parse("tag").unwrap();
        store.find_content(de(), &tag).map(drop)
    }),
    ("withdrawals", |store| {
        let known: Vec<KeyIdentity> = store.read_identities(Seq(7))?;
        drop(known);
        let accepted = Accepted::default();
        // What no gateway writes is a fault of the list, or is left out of it.
        let read = store.read_withdrawals(&chain(), &accepted, WithdrawalMark::default());
        database_error(read)?;
        store.withdrawal_list()?.into_readable();
        let tag = UploadTag::parse("tag").unwrap();
        let request = WithdrawalRequest {
            country: de(),
            tag: &tag,
            reason: "r",
            free: true,
            now: NOW,
        };
        database_error(store.withdraw(&chain(), &accepted, &request))
    }),
    ("trust", |store| {
        store.certificate_revision()?;
        store.certificates().map(drop)
    }),
    ("statistics", |store| {
        store.statistics(day("2020-01-01"), day("2021-01-01"))?;
        store.read_signatures(day("2020-01-01"), day("2021-01-01"), &mut |_, _, _| {})
    }),
    ("overview", |store| {
        let end = store.log_end()?;
        store.uploads_by_hour(Seq::ZERO, end)?;
        store.downloads_on(day("2020-10-06"))?;
        store.announce(&Announcement {
            name: "another".to_owned(),
            version: "1".to_owned(),
            started_at: NOW,
            figures: b"{}".to_vec(),
        })?;
        store.gateways()?;
        store.forget_gateways()
    }),
    ("budget", |store| store.cut_budget().map(drop)),
    ("deliver", deliver),
    ("cut", cut),
    ("retain", retain),
];

/// Tables with their columns, as the migrations make them.
fn columns() -> Vec<(String, String)> {
    let made = Made::by(known_version(), true).unwrap();
    let tables = made.tables.into_iter();
    tables
        .flat_map(|(table, made)| {
            let columns = made.columns.into_iter();
            columns.map(move |column| (table.clone(), column.name))
        })
        .collect()
}

/// A start from the same rows, whatever was written to them.
fn reset(store: &mut Store, tables: &[String], rows: &[String]) {
    let version = format!("INSERT INTO schema_version VALUES ({})", known_version());
    let done = store.0.transaction(|c| {
        for table in tables {
            c.execute(&format!("DELETE FROM {table}"), &[])?;
        }
        c.execute(&version, &[])?;
        rows.iter()
            .try_for_each(|row| c.execute(row, &[]).map(|_| ()))
    });
    done.unwrap();
}

/// What was seen while one column after the other was written by hand.
#[derive(Default)]
struct Seen {
    written: usize,
    refused: usize,
    wrong: Vec<String>,
}

/// Runs everything on a database in which one column was written by hand.
fn work_on(store: &mut Store, table: &str, spoil: &str, seen: &mut Seen) {
    for (name, work) in WORK {
        match work(store) {
            Ok(()) => {}
            Err(error @ SqlError::Refused(_)) => {
                seen.refused += 1;
                let text = error.to_string();
                if !text.contains(table) || text.contains(char::is_control) {
                    seen.wrong.push(format!("{name} after {spoil}: {text:?}"));
                }
            }
            // As another gateway's row or lease would be.
            Err(SqlError::Duplicate(_)) => {}
            Err(error) => seen.wrong.push(format!("{name} after {spoil}: {error:?}")),
        }
    }
}

fn check(database: &Database, values: &[&str], unsafe_and_fast: &str) {
    migrate(database).unwrap();
    let mut store = Store::open(database).unwrap();
    store.0.script(unsafe_and_fast).unwrap();
    let columns = columns();
    let mut tables: Vec<_> = columns.iter().map(|(table, _)| table.clone()).collect();
    tables.dedup();
    let rows = good_rows();
    reset(&mut store, &tables, &rows);
    for (name, work) in WORK {
        work(&mut store).unwrap_or_else(|error| panic!("{name} on good rows: {error}"));
    }
    let mut seen = Seen::default();
    reset(&mut store, &tables, &rows);
    for (table, column) in &columns {
        for value in values {
            let spoil = format!("UPDATE {table} SET {column} = {value}");
            if store.0.script(&spoil).is_ok() {
                seen.written += 1;
                work_on(&mut store, table, &spoil, &mut seen);
                reset(&mut store, &tables, &rows);
            }
        }
    }
    assert!(seen.wrong.is_empty(), "{:#?}", seen.wrong);
    let (written, refused) = (seen.written, seen.refused);
    assert!(written > 100 && refused > 100, "{written}, {refused}");
}

/// No gateway relies on what the lease row held: whatever it holds, one of them acquires it.
#[test]
fn of_a_lease_are_overcome() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::new(DatabaseUrl::Sqlite(folder.path().join("db")));
    migrate(&database).unwrap();
    let mut store = Store::open(&database).unwrap();
    for value in VALUES.iter().filter(|value| **value != "NULL") {
        for column in ["token", "fence", "expires_at_ms"] {
            store.0.script("DELETE FROM lease").unwrap();
            store
                .hold_lease(Lease::Bundle, "they", 1000)
                .unwrap()
                .unwrap();
            // Theirs has expired, unless that is what was written.
            let spoil = format!("UPDATE lease SET expires_at_ms = 0, {column} = {value}");
            store.0.script(&spoil).unwrap();
            let held = store.hold_lease(Lease::Bundle, "we", 1000);
            let token = held.unwrap_or_else(|error| panic!("{spoil}: {error}"));
            assert!(token.is_some(), "{spoil}");
        }
    }
}

#[test]
fn are_named_or_left_out_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let file = DatabaseUrl::Sqlite(folder.path().join("db"));
    check(&Database::new(file), &VALUES, "PRAGMA synchronous = OFF");
}

#[test]
fn are_named_or_left_out_on_mariadb() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    server.create_database("efgs").unwrap();
    server
        .run("SET GLOBAL innodb_flush_log_at_trx_commit = 0")
        .unwrap();
    // Its columns have types: these are the kinds of values that get through.
    let values = ["-1", "9223372036854775807", "20261399", "'X1'", "x'ff0a1b'"];
    check(
        &Database::new(server.url("efgs").parse().unwrap()),
        &values,
        "",
    );
}
