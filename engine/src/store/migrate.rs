//! Numbered migrations, applied in order, by one gateway at a time.

mod lock;

use std::time::Instant;

use crate::database::{Connection, Database, Dialect, SqlError, Timeouts};
use crate::failure::StartError;
use crate::limits;

/// All migrations; the position in the list, from 1, is the schema version.
const MIGRATIONS: [&str; 9] = [
    include_str!("../../schema/0001-sequenced-log.sql"),
    include_str!("../../schema/0002-statistics.sql"),
    include_str!("../../schema/0003-callbacks.sql"),
    include_str!("../../schema/0004-callback-failures.sql"),
    include_str!("../../schema/0005-log-chain.sql"),
    include_str!("../../schema/0006-withdrawals.sql"),
    include_str!("../../schema/0007-certificate-digests.sql"),
    include_str!("../../schema/0008-withdrawal-digests.sql"),
    include_str!("../../schema/0009-gateways.sql"),
];

pub(super) const VERSION_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_version (\
     version INTEGER NOT NULL PRIMARY KEY)";

/// Newest version that this program knows.
pub(crate) fn known_version() -> u32 {
    u32::try_from(MIGRATIONS.len()).expect("few migrations")
}

/// Brings the schema up to date; returns the version found before.
///
/// A statement that creates a table or adds a column is atomic, and repeating a migration that was
/// interrupted does no harm: that is a rule for those who write migrations. A column that is there
/// already is not added again.
pub(crate) fn migrate(database: &Database) -> Result<u32, StartError> {
    let mut connection = database
        .connect(Timeouts::Long)
        .map_err(|error| database.unreachable(error))?;
    let found = apply(&mut *connection).map_err(|error| database.unreachable(error))?;
    if found > known_version() {
        return Err(StartError::NewerSchema {
            found,
            known: known_version(),
        });
    }
    Ok(found)
}

/// The schema version, 0 for an empty database. Only reads.
pub(crate) fn version(connection: &mut dyn Connection) -> Result<u32, SqlError> {
    let find = connection.dialect().find_table;
    if connection
        .first(find, &["schema_version".into()])?
        .is_none()
    {
        return Ok(0);
    }
    let row = connection.first("SELECT COALESCE(MAX(version), 0) FROM schema_version", &[])?;
    let newest = row.map_or(Ok(0), |row| row.counted(0))?;
    u32::try_from(newest).map_err(|_| SqlError::Refused("schema_version: out of range".into()))
}

fn apply(connection: &mut dyn Connection) -> Result<u32, SqlError> {
    let found = version(connection)?;
    if found >= known_version() {
        return Ok(found);
    }
    if connection.is_server() {
        return apply_in_turn(connection);
    }
    // There is one writer at a time, and tables are made in transactions as well: all migrations
    // are one.
    connection.transaction(|c| apply_steps(c, &mut |_| Ok(())))
}

/// Applies the steps under the migration lock. The lock is a lease, which a cluster replicates,
/// as it does not `GET_LOCK`.
fn apply_in_turn(connection: &mut dyn Connection) -> Result<u32, SqlError> {
    let deadline = Instant::now() + limits::MIGRATION_WAIT_MAX;
    let holder = format!("{:032x}", lock::random());
    loop {
        match try_in_turn(connection, &holder) {
            // Another gateway migrates, or a node of a cluster was faster.
            Ok(None) | Err(SqlError::Conflict(_)) if Instant::now() < deadline => {
                std::thread::sleep(limits::MIGRATION_RETRY);
            }
            Ok(None) => {
                return Err(SqlError::Refused(
                    "another gateway has been migrating for a minute".into(),
                ));
            }
            Ok(Some(found)) => return Ok(found),
            Err(error) => return Err(error),
        }
    }
}

/// Nothing while another gateway migrates.
fn try_in_turn(connection: &mut dyn Connection, holder: &str) -> Result<Option<u32>, SqlError> {
    let found = version(connection)?;
    if found >= known_version() {
        return Ok(Some(found));
    }
    let lease_table = lease_table(connection.dialect());
    if !lock::acquire(connection, holder, &lease_table)? {
        return Ok(None);
    }
    let applied = apply_steps(connection, &mut |c| lock::renew(c, holder));
    // Otherwise the next gateway waits for it to expire.
    let released = lock::release(connection, holder);
    let found = applied?;
    released?;
    Ok(Some(found))
}

/// The statement of the first migration that makes it.
fn lease_table(dialect: &Dialect) -> String {
    let first = in_dialect(MIGRATIONS[0], dialect);
    let mut statements = first.split_inclusive(';');
    let made = statements.find(|sql| sql.contains("EXISTS lease "));
    made.unwrap_or_default().to_owned()
}

/// Applies what is missing; `proceed` is asked before each statement.
fn apply_steps(
    connection: &mut dyn Connection,
    proceed: &mut dyn FnMut(&mut dyn Connection) -> Result<(), SqlError>,
) -> Result<u32, SqlError> {
    connection.script(VERSION_TABLE)?;
    let found = version(connection)?;
    for (number, migration) in (1..).zip(MIGRATIONS) {
        if number > found {
            let sql = in_dialect(migration, connection.dialect());
            for statement in sql.split_inclusive(';') {
                proceed(connection)?;
                apply_statement(connection, statement)?;
            }
            let params = [u64::from(number).into()];
            let insert = "INSERT INTO schema_version (version) VALUES (?)";
            match connection.execute(insert, &params) {
                // A gateway that was slow and lost the lock has come so far after all.
                Ok(_) | Err(SqlError::Duplicate(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

fn apply_statement(connection: &mut dyn Connection, statement: &str) -> Result<(), SqlError> {
    if has_column_of(connection, statement)? {
        return Ok(());
    }
    match connection.script(statement) {
        Err(SqlError::Refused(_)) if has_column_of(connection, statement)? => Ok(()),
        done => done,
    }
}

/// A migration by its number, in a database's SQL.
pub(super) fn migration(number: u32, dialect: &Dialect) -> String {
    let known = (1..).zip(MIGRATIONS).find(|(of, _)| *of == number);
    in_dialect(known.map_or("", |(_, sql)| sql), dialect)
}

fn in_dialect(migration: &str, dialect: &Dialect) -> String {
    only_for(dialect.name, &without_comments(migration))
        .replace("${POSITION}", dialect.position)
        .replace("${OPTIONS}", dialect.table_options)
        .replace("${WIDEN_UPLOAD_TAG}", dialect.widen_upload_tag)
}

/// What both databases run, and behind a line `${NAME}` what only the one of that name does.
fn only_for(name: &str, sql: &str) -> String {
    let mut is_meant = true;
    let lines = sql.lines().filter(|line| match line.trim() {
        "${MYSQL}" | "${SQLITE}" => {
            is_meant = line.trim() == format!("${{{name}}}");
            false
        }
        _ => is_meant,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether a statement would add a column that is there already.
fn has_column_of(connection: &mut dyn Connection, statement: &str) -> Result<bool, SqlError> {
    let words: Vec<&str> = statement.split_whitespace().take(6).collect();
    let ["ALTER", "TABLE", table, "ADD", "COLUMN", column] = words[..] else {
        return Ok(false);
    };
    let find = connection.dialect().find_column;
    let found = connection.first(find, &[table.into(), column.into()])?;
    Ok(found.is_some())
}

/// Comments may hold semicolons, which separate statements.
fn without_comments(sql: &str) -> String {
    let code = sql
        .lines()
        .map(|line| line.split("--").next().unwrap_or(""));
    code.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use testkit::local::MariaDb;

    use super::*;
    use crate::database::Value;
    use crate::store::Store;

    /// As it was before the chain, with a row; a column may be there from a migration that was
    /// interrupted.
    fn check_chain(database: &Database, is_interrupted: bool) {
        migrate(database).unwrap();
        let mut store = Store::open(database).unwrap();
        let is_mysql = store.0.dialect().name == "MYSQL";
        let mut run = |sql: &str| store.0.script(sql).unwrap();
        for table in ["upload_log", "download_batch"] {
            run(&format!("DROP TABLE {table}"));
        }
        let mut steps = MIGRATIONS.iter();
        let step = steps.position(|sql| sql.contains("ADD COLUMN chain"));
        run(&format!(
            "DELETE FROM schema_version WHERE version > {}",
            step.unwrap()
        ));
        let options = if is_mysql { "ENGINE=InnoDB" } else { "" };
        let before = MIGRATIONS[0]
            .replace("${POSITION}", "BIGINT")
            .replace("${OPTIONS}", options);
        run(&without_comments(&before));
        let row = "7, 0, 'DE', 'a', 1, 256, '1', '2', '3', 'signature', 'identities', 'sealed'";
        run(&format!("INSERT INTO upload_log VALUES ({row})"));
        run("INSERT INTO download_batch VALUES (1, 20201006, 1, 7, 7, 1, 0)");
        if is_interrupted && is_mysql {
            run(
                "ALTER TABLE upload_log ADD COLUMN chain VARBINARY(64) NOT NULL AFTER content_digest",
            );
        }
        migrate(database).unwrap();
        let sql = "SELECT seq, chain, batch_signature, sealed FROM upload_log";
        let found = store.0.first(sql, &[]).unwrap().unwrap();
        let bytes = |text: &str| Value::Bytes(text.into());
        let expected = [
            Value::Number(7),
            bytes(""),
            bytes("signature"),
            bytes("sealed"),
        ];
        assert_eq!(found.0, expected);
        let sql = "SELECT last_seq, digest FROM download_batch";
        let found = store.0.first(sql, &[]).unwrap().unwrap();
        assert_eq!(found.0, [Value::Number(7), bytes("")]);
        // What a gateway from before appends would be in no chain.
        let old = "INSERT INTO upload_log (seq, created_at_ms, country, upload_tag, key_count, \
             format_version, uploader_thumbprint, signer_thumbprint, content_digest, \
             batch_signature, identities, sealed) \
             VALUES (8, 0, 'DE', 'b', 1, 256, '1', '2', '3', 'x', 'y', 'z')";
        assert!(matches!(
            store.0.execute(old, &[]),
            Err(SqlError::Refused(_))
        ));
    }

    #[test]
    fn puts_a_log_from_before_the_chain_in_front_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("db");
        check_chain(
            &Database::new(crate::settings::DatabaseUrl::Sqlite(file)),
            false,
        );
        let server = MariaDb::start(folder.path()).unwrap();
        for (name, is_interrupted) in [("whole", false), ("interrupted", true)] {
            server.create_database(name).unwrap();
            check_chain(
                &Database::new(server.url(name).parse().unwrap()),
                is_interrupted,
            );
        }
    }

    fn check(database: &Database) {
        let mut store = Store::open(database).unwrap();
        let find = store.0.dialect().find_table;
        let mut is_there = |table: &str| store.0.first(find, &[table.into()]).unwrap().is_some();
        assert!(!is_there("schema_version"));
        assert_eq!(Store::open(database).unwrap().schema_version().unwrap(), 0);
        assert!(!is_there("schema_version"), "reading has made it");
        assert_eq!(migrate(database).unwrap(), 0);
        assert!(is_there("schema_version") && is_there("upload_log"));
        assert_eq!(migrate(database).unwrap(), known_version());
    }

    #[test]
    fn reading_the_version_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("db");
        check(&Database::new(crate::settings::DatabaseUrl::Sqlite(file)));
        let server = MariaDb::start(folder.path()).unwrap();
        for name in ["other", "efgs"] {
            server.create_database(name).unwrap();
            check(&Database::new(server.url(name).parse().unwrap()));
        }
    }
}
