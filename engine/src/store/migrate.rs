//! Numbered migrations, applied in order under a lock.

use crate::database::{Connection, Database, SqlError, Timeouts};
use crate::failure::StartError;

/// All migrations; the position in the list, from 1, is the schema version.
const MIGRATIONS: [&str; 4] = [
    include_str!("../../schema/0001-sequenced-log.sql"),
    include_str!("../../schema/0002-statistics.sql"),
    include_str!("../../schema/0003-callbacks.sql"),
    include_str!("../../schema/0004-callback-failures.sql"),
];

const VERSION_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_version (\
     version INTEGER NOT NULL PRIMARY KEY)";

/// Newest version that this program knows.
pub(crate) fn known_version() -> u32 {
    u32::try_from(MIGRATIONS.len()).expect("few migrations")
}

/// Brings the schema up to date; gives the version found before.
///
/// A statement that creates a table is atomic, and repeating a migration that was interrupted
/// does no harm: that is a rule for those who write migrations.
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
    Ok(row.map_or(Ok(0), |row| row.number_32(0))?)
}

fn apply(connection: &mut dyn Connection) -> Result<u32, SqlError> {
    connection.lock_migrations()?;
    connection.script(VERSION_TABLE)?;
    let found = version(connection)?;
    for (number, migration) in (1..).zip(MIGRATIONS) {
        if number > found {
            let dialect = connection.dialect();
            let sql = without_comments(migration)
                .replace("${POSITION}", dialect.position)
                .replace("${OPTIONS}", dialect.table_options);
            connection.script(&sql)?;
            let params = [u64::from(number).into()];
            connection.execute("INSERT INTO schema_version (version) VALUES (?)", &params)?;
        }
    }
    connection.unlock_migrations()?;
    Ok(found)
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
    use crate::store::Store;

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
