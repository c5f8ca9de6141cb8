//! Rows that no gateway has written: each is an error that names table, row and column.

use testkit::local::MariaDb;

use super::*;
use crate::domain::Day;
use crate::failure::StartError;

/// Reads what a table holds.
type Read = fn(&mut Store) -> Result<(), SqlError>;

const LOG: Read = |store| store.read_log(Seq::ZERO, 9).map(drop);
const REBUILD: Read = |store| store.read_whole_log(Seq(9), &mut drop);
const META: Read = |store| store.read_uncut(Seq::ZERO, 9).map(drop);
const SEALED: Read = |store| store.read_sealed(&(1..=9)).map(drop);
const AUDIT: Read = |store| store.read_audit(&(1..=9)).map(drop);
const BATCHES: Read = |store| {
    store
        .read_download_batches(0, Day::from_unix_seconds(0))
        .map(drop)
};
const NEWEST: Read = |store| store.newest_download_batch().map(drop);
const SUBSCRIPTIONS: Read = |store| store.callback_subscriptions(country()).map(drop);
const STATES: Read = |store| {
    let states = store.subscription_states(Day::from_unix_seconds(0));
    states.map(drop)
};
const CLEANUP: Read = |store| {
    store
        .newest_cleanup_day(Day::from_unix_seconds(u64::MAX))
        .map(drop)
};
const STATISTICS: Read = |store| {
    let day = |text| Day::parse_iso(text).unwrap();
    store
        .statistics(day("2020-01-01"), day("2021-01-01"))
        .map(drop)
};
const BUDGET: Read = |store| store.cut_budget().map(drop);

fn country() -> Country {
    Country::parse("DE").unwrap()
}

/// One good row in every table. What is looked for is bytes, as gateways write it: SQLite finds no
/// text by them.
const ROWS: [&str; 7] = [
    "INSERT INTO upload_log VALUES (7, 1601942400000, x'4445', 'tag', 1, 256, \
     'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', \
     'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '', 'signature', 'aaaaaaaaaaaaaaaa', 'sealed')",
    "INSERT INTO download_batch VALUES (3, 20201006, 1, 7, 7, 1, 1601942400000, '')",
    "INSERT INTO callback_subscription VALUES \
     (x'4445', x'6964', 'https://x', 0, 0, 0, 0, 0, NULL, 0, 0)",
    "INSERT INTO cleanup_statistics VALUES (20201006, 0, 0, 0, 0, 0, 0)",
    "INSERT INTO download_statistics VALUES (20201006, x'4445', 20201006, 1, 1, 1)",
    "INSERT INTO lease VALUES (x'62756e646c65', x'7765', 1, 0, 0)",
    // cut_budget, 5
    "INSERT INTO installation VALUES (x'6375745f627564676574', x'35')",
];

/// A statement that corrupts the good rows, who reads them, and what that says.
const CASES: [(&str, Read, &str); 22] = [
    (
        "UPDATE upload_log SET chain = 'short'",
        META,
        "table upload_log, row with seq 7: chain is no link of the chain",
    ),
    (
        "UPDATE download_batch SET digest = 'short'",
        BATCHES,
        "table download_batch, row with ordinal 3: digest has a wrong length",
    ),
    (
        "UPDATE upload_log SET country = 'X1'",
        LOG,
        "table upload_log, row with seq 7: country is no country of two letters",
    ),
    (
        "UPDATE upload_log SET country = 'D'",
        META,
        "table upload_log, row with seq 7: country is no country of two letters",
    ),
    (
        "UPDATE upload_log SET upload_tag = 'two\nlines'",
        LOG,
        "table upload_log, row with seq 7: upload_tag is no upload tag",
    ),
    (
        "UPDATE upload_log SET upload_tag = 'a blank'",
        SEALED,
        "table upload_log, row with seq 7: upload_tag is no upload tag",
    ),
    (
        "UPDATE upload_log SET content_digest = 'short'",
        REBUILD,
        "table upload_log, row with seq 7: content_digest has a wrong length",
    ),
    (
        "UPDATE upload_log SET identities = 'seventeen letters'",
        REBUILD,
        "table upload_log, row with seq 7: identities is no list of identities of 16 bytes",
    ),
    (
        "UPDATE upload_log SET created_at_ms = -1",
        LOG,
        "table upload_log, row with seq 7: created_at_ms is no number from 0 on",
    ),
    (
        "UPDATE upload_log SET key_count = -1",
        META,
        "table upload_log, row with seq 7: key_count is no number from 0 on",
    ),
    (
        "UPDATE upload_log SET uploader_thumbprint = ''",
        AUDIT,
        "table upload_log, row with seq 7: uploader_thumbprint has a wrong length",
    ),
    (
        "UPDATE upload_log SET batch_signature = x'ff'",
        AUDIT,
        "table upload_log, row with seq 7: batch_signature is not UTF-8",
    ),
    (
        "UPDATE download_batch SET day = 20261399",
        BATCHES,
        "table download_batch, row with ordinal 3: day is no day of the calendar",
    ),
    (
        "UPDATE download_batch SET number = -1",
        NEWEST,
        "table download_batch, row with ordinal 3: number is no number from 0 on",
    ),
    (
        "UPDATE download_batch SET last_seq = -1",
        NEWEST,
        "table download_batch, row with ordinal 3: last_seq is no number from 0 on",
    ),
    (
        "UPDATE callback_subscription SET callback_id = ''",
        SUBSCRIPTIONS,
        "table callback_subscription, row with country \"DE\", callback_id \"\": \
         callback_id is no callback id",
    ),
    (
        "UPDATE callback_subscription SET url = x'ff'",
        SUBSCRIPTIONS,
        "table callback_subscription, row with country \"DE\", callback_id \"id\": \
         url is not UTF-8",
    ),
    (
        "UPDATE callback_subscription SET country = 'X1'",
        STATES,
        "table callback_subscription, row with country \"X1\", callback_id \"id\": \
         country is no country of two letters",
    ),
    (
        "UPDATE callback_subscription SET delivered_ordinal = -9223372036854775807",
        STATES,
        "table callback_subscription, row with country \"DE\", callback_id \"id\": \
         delivered_ordinal is no number from 0 on",
    ),
    (
        "UPDATE cleanup_statistics SET day = 1",
        CLEANUP,
        "table cleanup_statistics, row with day 1: day is no day of the calendar",
    ),
    (
        "UPDATE download_statistics SET country = 'X1'",
        STATISTICS,
        "table download_statistics, row with day 20201006, country \"X1\": \
         country is no country of two letters",
    ),
    (
        "UPDATE installation SET value = 'soon' WHERE name = x'6375745f627564676574'",
        BUDGET,
        "table installation, row with name \"cut_budget\": value is no number",
    ),
];

/// What SQLite alone takes: its columns have no types, and its integers 64 bits.
const SQLITE_CASES: [(&str, Read, &str); 4] = [
    (
        "UPDATE upload_log SET created_at_ms = 'abc'",
        LOG,
        "table upload_log, row with seq 7: created_at_ms is no number from 0 on",
    ),
    (
        "UPDATE upload_log SET key_count = 1099511627776",
        META,
        "table upload_log, row with seq 7: key_count is out of range",
    ),
    (
        "UPDATE upload_log SET created_at_ms = 1.5",
        META,
        "table upload_log, row with seq 7: created_at_ms is no number from 0 on",
    ),
    (
        "UPDATE upload_log SET upload_tag = 5",
        LOG,
        "table upload_log, row with seq 7: upload_tag is no text and no bytes",
    ),
];

fn check(database: &Database, cases: &[(&str, Read, &str)]) {
    migrate(database).unwrap();
    let mut store = Store::open(database).unwrap();
    for (corrupt, read, expected) in cases {
        for table in ["upload_log", "download_batch", "callback_subscription"] {
            store.0.script(&format!("DELETE FROM {table}")).unwrap();
        }
        for table in ["cleanup_statistics", "download_statistics", "lease"] {
            store.0.script(&format!("DELETE FROM {table}")).unwrap();
        }
        let budget = "DELETE FROM installation WHERE name = x'6375745f627564676574'";
        store.0.script(budget).unwrap();
        for row in ROWS {
            store.0.execute(row, &[]).unwrap();
        }
        read(&mut store).unwrap_or_else(|error| panic!("before {corrupt}: {error}"));
        store.0.execute(corrupt, &[]).unwrap();
        match read(&mut store) {
            Err(error @ SqlError::Refused(_)) => {
                assert_eq!(error.to_string(), *expected);
                // A start on it does not say to look whether the server runs.
                let start = database.unreachable(error);
                assert!(matches!(start, StartError::UnreadableRow { .. }), "{start}");
            }
            other => panic!("{corrupt}: {other:?}"),
        }
    }
}

#[test]
fn name_table_row_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    server.create_database("efgs").unwrap();
    check(&Database::new(server.url("efgs").parse().unwrap()), &CASES);
    let file = folder.path().join("db");
    let database = Database::new(DatabaseUrl::Sqlite(file));
    check(&database, &CASES);
    check(&database, &SQLITE_CASES);
}

#[test]
fn leave_the_other_certificates_readable() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    server.create_database("efgs").unwrap();
    let file = folder.path().join("db");
    for database in [
        Database::new(server.url("efgs").parse().unwrap()),
        Database::new(DatabaseUrl::Sqlite(file)),
    ] {
        migrate(&database).unwrap();
        let mut store = Store::open(&database).unwrap();
        let rows = [
            ("a", "X1", "signing"),
            ("b", "DE", "none"),
            ("c", "DE", "signing"),
        ];
        for (letter, country, kind) in rows {
            let thumbprint = letter.repeat(32);
            let sql = format!(
                "INSERT INTO certificate VALUES \
                 ('{thumbprint}', '{kind}', '{country}', 'pem', 'signature', 0, NULL)"
            );
            store.0.execute(&sql, &[]).unwrap();
        }
        let found = store.certificates().unwrap();
        let found: Vec<_> = found.iter().map(|row| row.thumbprint.0).collect();
        assert_eq!(found, [*b"cccccccccccccccccccccccccccccccc"]);
    }
}
