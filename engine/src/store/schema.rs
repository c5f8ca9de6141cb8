//! Whether the schema is what the migrations made: anyone who can write to the database could let a
//! trigger undo what gateways store, unseen.
//!
//! What the migrations make is not written down a second time: they run on an empty SQLite database
//! in memory, and tables, columns and indexes are read back from it. SQLite's own text of a table is
//! compared whole; on a server, names, kinds and nullability of the columns, and the columns of the
//! indexes. Other tables beside ours are of no concern while they do not refer to ours;
//! triggers, views and events are refused wherever they are.

mod fault;
mod made;
mod server;

pub use fault::SchemaFault;
pub(super) use made::Made;

use fault::CONSTRAINT;
use made::Found;

use super::migrate::known_version;
use super::session::Store;
use crate::database::SqlError;

/// A list of faults for a sentence.
pub(crate) fn list(faults: &[SchemaFault]) -> String {
    let texts: Vec<_> = faults.iter().take(10).map(ToString::to_string).collect();
    texts.join("; ")
}

impl Store {
    /// Compares the schema with what the migrations make, in the order of the faults' kinds.
    ///
    /// Before a migration a table may be as any version from the one found on makes it: another
    /// gateway, or one that was killed, may be in the middle.
    pub(crate) fn check_schema(&mut self) -> Result<Vec<SchemaFault>, SqlError> {
        let version = self.schema_version()?;
        let found = match self.0.is_server() {
            true => server::read(self)?,
            false => made::read_file(&mut *self.0)?,
        };
        let versions = version.min(known_version())..=known_version();
        let made: Vec<Made> = versions
            .map(|version| Made::by(version, self.0.is_server()))
            .collect::<Result<_, _>>()?;
        Ok(compare(&made, found))
    }
}

/// The first of `made` is what must be there at least.
fn compare(made: &[Made], found: Found) -> Vec<SchemaFault> {
    let mut faults = found.foreign;
    let Some((first, last)) = made.first().zip(made.last()) else {
        return faults;
    };
    // Those of other tables are of no concern.
    faults.retain(|fault| match fault {
        SchemaFault::Foreign { kind, table, .. } => {
            *kind != CONSTRAINT || last.tables.contains_key(table)
        }
        _ => true,
    });
    for name in last.tables.keys() {
        let expected: Vec<_> = made
            .iter()
            .filter_map(|made| made.tables.get(name))
            .collect();
        match found.tables.get(name) {
            Some(table) if expected.contains(&table) => {}
            Some(table) => faults.extend(expected.first().map(|made| SchemaFault::Changed {
                table: name.clone(),
                difference: made.difference(table),
            })),
            None if first.tables.contains_key(name) => {
                faults.push(SchemaFault::Missing(name.clone()));
            }
            None => {}
        }
    }
    faults.sort();
    faults
}

#[cfg(test)]
mod tests {
    use testkit::local::MariaDb;

    use super::*;
    use crate::database::Database;
    use crate::settings::DatabaseUrl;
    use crate::store::migrate;

    /// What is done to a database, how it is undone, and what is said of it.
    type Case = (&'static str, &'static str, &'static str);

    const ON_BOTH: [Case; 4] = [
        (
            "CREATE VIEW peek AS SELECT seq FROM upload_log",
            "DROP VIEW peek",
            "view peek",
        ),
        (
            "CREATE INDEX slow ON upload_log (created_at_ms)",
            "DROP INDEX slow ${ON}",
            "table upload_log: the index over created_at_ms is not as it was made",
        ),
        (
            "ALTER TABLE download_batch ADD COLUMN note INTEGER",
            "ALTER TABLE download_batch DROP COLUMN note",
            "table download_batch: column note is not as it was made",
        ),
        (
            "ALTER TABLE lease RENAME TO elsewhere",
            "ALTER TABLE elsewhere RENAME TO lease",
            "table lease is missing",
        ),
    ];

    const ON_SQLITE: [Case; 2] = [
        (
            "CREATE TRIGGER gone AFTER INSERT ON upload_log BEGIN \
             DELETE FROM upload_log WHERE seq = new.seq; END",
            "DROP TRIGGER gone",
            "trigger gone on table upload_log",
        ),
        (
            "ALTER TABLE installation RENAME TO was; CREATE TABLE installation \
             (name VARBINARY(64) NOT NULL PRIMARY KEY, value VARBINARY(255) NOT NULL CHECK (1))",
            "DROP TABLE installation; ALTER TABLE was RENAME TO installation",
            "table installation: it is not as it was made",
        ),
    ];

    const ON_MARIADB: [Case; 4] = [
        (
            "CREATE TRIGGER empty BEFORE INSERT ON upload_log FOR EACH ROW SET new.sealed = ''",
            "DROP TRIGGER empty",
            "trigger empty on table upload_log",
        ),
        (
            "CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM upload_log",
            "DROP EVENT nightly",
            "event nightly",
        ),
        (
            "ALTER TABLE upload_log ADD CONSTRAINT few CHECK (key_count < 10)",
            "ALTER TABLE upload_log DROP CONSTRAINT few",
            "constraint few on table upload_log",
        ),
        (
            "ALTER TABLE upload_log MODIFY sealed MEDIUMBLOB NULL",
            "ALTER TABLE upload_log MODIFY sealed MEDIUMBLOB NOT NULL",
            "table upload_log: column sealed is not as it was made",
        ),
    ];

    fn check(database: &Database, on: &str, cases: &[Case]) {
        let mut store = Store::open(database).unwrap();
        for (act, undo, expected) in cases {
            store.0.script(act).unwrap();
            let faults = store.check_schema().unwrap();
            assert_eq!(list(&faults), *expected, "{act}");
            store.0.script(&undo.replace("${ON}", on)).unwrap();
            assert_eq!(store.check_schema().unwrap(), [], "{undo}");
        }
    }

    fn is_clean_at_every_version(database: &Database) {
        let mut store = Store::open(database).unwrap();
        assert_eq!(store.check_schema().unwrap(), [], "an empty database");
        migrate(database).unwrap();
        assert_eq!(store.check_schema().unwrap(), []);
        // As in the middle of a migration: the tables are there, the version is not yet.
        store
            .0
            .script("DELETE FROM schema_version WHERE version > 1")
            .unwrap();
        assert_eq!(store.check_schema().unwrap(), []);
        migrate(database).unwrap();
        store.0.script("CREATE TABLE theirs (x INTEGER)").unwrap();
        assert_eq!(store.check_schema().unwrap(), [], "what is not ours");
    }

    #[test]
    fn names_what_no_migration_has_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = Database::new(DatabaseUrl::Sqlite(folder.path().join("db")));
        is_clean_at_every_version(&file);
        check(&file, "", &ON_BOTH);
        check(&file, "", &ON_SQLITE);
        let server = MariaDb::start(folder.path()).unwrap();
        server.create_database("efgs").unwrap();
        let database = Database::new(server.url("efgs").parse().unwrap());
        is_clean_at_every_version(&database);
        check(&database, "ON upload_log", &ON_BOTH);
        check(&database, "", &ON_MARIADB);
    }

    #[test]
    fn does_not_take_a_foreign_table_for_ours() {
        let folder = tempfile::tempdir().unwrap();
        let file = Database::new(DatabaseUrl::Sqlite(folder.path().join("db")));
        let mut store = Store::open(&file).unwrap();
        // As in a database of the reference.
        store
            .0
            .script("CREATE TABLE certificate (id BIGINT)")
            .unwrap();
        let faults = list(&store.check_schema().unwrap());
        assert!(faults.starts_with("table certificate: column"), "{faults}");
    }
}
