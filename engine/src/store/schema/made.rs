//! What the migrations make, and how it is read from SQLite.

use std::collections::{BTreeMap, BTreeSet};

use super::fault::{SchemaFault, shown};
use crate::database::{Connection, Row, SqlError, in_memory};
use crate::store::migrate::{VERSION_TABLE, migration};

/// A table as far as it is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store) struct Table {
    /// SQLite's text of the table, blanks and quotes aside; empty on a server.
    pub(super) text: String,
    pub(in crate::store) columns: BTreeSet<Column>,
    pub(super) indexes: BTreeSet<Index>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Column {
    pub(in crate::store) name: String,
    /// The type without length, in small letters.
    pub(super) kind: String,
    pub(super) is_nullable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Index {
    pub(super) is_unique: bool,
    pub(super) columns: Vec<String>,
}

/// What the migrations up to a version make.
#[derive(Debug)]
pub(in crate::store) struct Made {
    pub(in crate::store) tables: BTreeMap<String, Table>,
}

/// What a database has: its tables by name, and what else there is.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) tables: BTreeMap<String, Table>,
    pub(super) foreign: Vec<SchemaFault>,
}

impl Table {
    /// What is different in another one.
    pub(super) fn difference(&self, found: &Self) -> String {
        let added = found.columns.difference(&self.columns).next();
        let removed = self.columns.difference(&found.columns).next();
        if let Some(column) = added.or(removed) {
            return format!("column {} is not as it was made", shown(&column.name));
        }
        let added = found.indexes.difference(&self.indexes).next();
        let removed = self.indexes.difference(&found.indexes).next();
        match added.or(removed) {
            Some(index) => {
                let columns = shown(&index.columns.join(", "));
                format!("the index over {columns} is not as it was made")
            }
            None => "it is not as it was made".to_owned(),
        }
    }
}

impl Made {
    /// Runs the migrations up to a version on a database in memory. For a server, without what only
    /// SQLite has.
    pub(in crate::store) fn by(version: u32, for_server: bool) -> Result<Self, SqlError> {
        let mut connection = in_memory()?;
        let mut dialect = connection.dialect().clone();
        if for_server {
            dialect.position = "BIGINT";
        }
        if version > 0 {
            connection.script(VERSION_TABLE)?;
        }
        for number in 1..=version {
            connection.script(&migration(number, &dialect))?;
        }
        let mut tables = read_file(&mut *connection)?.tables;
        if for_server {
            tables.values_mut().for_each(|table| table.text.clear());
        }
        Ok(Self { tables })
    }
}

/// Reads the schema of an SQLite database.
pub(super) fn read_file(c: &mut dyn Connection) -> Result<Found, SqlError> {
    let sql = "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(tbl_name AS BLOB), \
         CAST(COALESCE(sql, '') AS BLOB) FROM sqlite_master";
    let objects = c.rows(sql, &[], |row| {
        Ok([
            text(&row, 0)?,
            text(&row, 1)?,
            text(&row, 2)?,
            text(&row, 3)?,
        ])
    })?;
    let mut found = Found::default();
    for [kind, name, table, sql] in objects {
        let kind = match kind.as_str() {
            "table" if name.starts_with("sqlite_") => continue,
            "table" => {
                let made = Table {
                    // A table that was renamed has its name in quotes.
                    text: sql.split_whitespace().collect::<String>().replace('"', ""),
                    columns: columns(c, &name)?,
                    indexes: indexes(c, &name)?,
                };
                found.tables.insert(name, made);
                continue;
            }
            // Those of other tables are not ours to check; ours are compared with their tables.
            "index" => continue,
            "trigger" => "trigger",
            "view" => "view",
            _ => "object",
        };
        let table = match kind {
            "view" => String::new(),
            _ => table,
        };
        found
            .foreign
            .push(SchemaFault::Foreign { kind, name, table });
    }
    Ok(found)
}

fn columns(c: &mut dyn Connection, table: &str) -> Result<BTreeSet<Column>, SqlError> {
    let sql = "SELECT CAST(name AS BLOB), CAST(type AS BLOB), \"notnull\" \
         FROM pragma_table_xinfo(CAST(? AS TEXT))";
    let columns = c.rows(sql, &[table.into()], |row| {
        Ok(Column {
            name: text(&row, 0)?,
            kind: kind_of(&text(&row, 1)?),
            is_nullable: row.number(2)? == 0,
        })
    })?;
    Ok(columns.into_iter().collect())
}

/// All indexes, with the primary key, which SQLite may have no index for.
fn indexes(c: &mut dyn Connection, table: &str) -> Result<BTreeSet<Index>, SqlError> {
    let sql = "SELECT CAST(name AS BLOB), \"unique\" FROM pragma_index_list(CAST(? AS TEXT))";
    let names = c.rows(sql, &[table.into()], |row| {
        Ok((text(&row, 0)?, row.number(1)? == 1))
    })?;
    let mut indexes = BTreeSet::new();
    for (name, is_unique) in names {
        let sql = "SELECT CAST(COALESCE(name, '') AS BLOB) \
             FROM pragma_index_info(CAST(? AS TEXT)) ORDER BY seqno";
        let columns = c.rows(sql, &[name.as_str().into()], |row| text(&row, 0))?;
        indexes.insert(Index { is_unique, columns });
    }
    let sql = "SELECT CAST(name AS BLOB) FROM pragma_table_info(CAST(? AS TEXT)) \
         WHERE pk > 0 ORDER BY pk";
    let columns = c.rows(sql, &[table.into()], |row| text(&row, 0))?;
    if !columns.is_empty() {
        indexes.insert(Index {
            is_unique: true,
            columns,
        });
    }
    Ok(indexes)
}

/// `VARBINARY(64)` and `int(11) unsigned` without length; what both databases call differently, as
/// servers do.
pub(super) fn kind_of(declared: &str) -> String {
    let kind = declared.split('(').next().unwrap_or_default();
    match kind.trim().to_ascii_lowercase().as_str() {
        "integer" => "int".to_owned(),
        kind => kind.to_owned(),
    }
}

pub(super) fn text(row: &Row, column: usize) -> Result<String, SqlError> {
    Ok(String::from_utf8_lossy(row.bytes(column)?).into_owned())
}
