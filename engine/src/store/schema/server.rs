//! How the schema is read from a MySQL-compatible server.

use std::collections::{BTreeMap, BTreeSet};

use super::fault::{CONSTRAINT, SchemaFault};
use super::made::{Column, Found, Index, Table, kind_of, text};
use crate::database::SqlError;
use crate::store::Store;

/// Everything that acts by itself or stands before a table: what it is, its name, its table.
const FOREIGN: [(&str, &str); 4] = [
    (
        "trigger",
        "SELECT trigger_name, event_object_table FROM information_schema.triggers \
         WHERE event_object_schema = DATABASE()",
    ),
    (
        "view",
        "SELECT table_name, '' FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_type <> 'BASE TABLE'",
    ),
    (
        "event",
        "SELECT event_name, '' FROM information_schema.events WHERE event_schema = DATABASE()",
    ),
    (
        CONSTRAINT,
        "SELECT constraint_name, table_name FROM information_schema.table_constraints \
         WHERE table_schema = DATABASE() AND constraint_type NOT IN ('PRIMARY KEY', 'UNIQUE') \
         UNION ALL SELECT constraint_name, referenced_table_name \
         FROM information_schema.referential_constraints \
         WHERE unique_constraint_schema = DATABASE()",
    ),
];

pub(super) fn read(store: &mut Store) -> Result<Found, SqlError> {
    let mut found = Found {
        tables: tables(store)?,
        foreign: Vec::new(),
    };
    for (kind, sql) in FOREIGN {
        let named = |(name, table)| SchemaFault::Foreign { kind, name, table };
        let rows = store
            .0
            .rows(sql, &[], |row| Ok((text(&row, 0)?, text(&row, 1)?)))?;
        found.foreign.extend(rows.into_iter().map(named));
    }
    Ok(found)
}

fn tables(store: &mut Store) -> Result<BTreeMap<String, Table>, SqlError> {
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    let sql = "SELECT c.table_name, c.column_name, c.data_type, c.is_nullable, c.extra \
         FROM information_schema.columns c JOIN information_schema.tables t \
         ON t.table_schema = c.table_schema AND t.table_name = c.table_name \
         WHERE c.table_schema = DATABASE() AND t.table_type = 'BASE TABLE'";
    let columns = store.0.rows(sql, &[], |row| {
        let extra = text(&row, 4)?;
        let column = Column {
            name: text(&row, 1)?,
            // A generated column is none of ours.
            kind: kind_of(&text(&row, 2)?) + &extra,
            is_nullable: text(&row, 3)? == "YES",
        };
        Ok((text(&row, 0)?, column))
    })?;
    for (table, column) in columns {
        tables.entry(table).or_default().columns.insert(column);
    }
    for (table, indexes) in indexes(store)? {
        tables.entry(table).or_default().indexes = indexes;
    }
    Ok(tables)
}

fn indexes(store: &mut Store) -> Result<BTreeMap<String, BTreeSet<Index>>, SqlError> {
    let sql = "SELECT table_name, index_name, non_unique, COALESCE(column_name, '') \
         FROM information_schema.statistics WHERE table_schema = DATABASE() \
         ORDER BY table_name, index_name, seq_in_index";
    let rows = store.0.rows(sql, &[], |row| {
        Ok((
            text(&row, 0)?,
            text(&row, 1)?,
            row.number(2)? == 0,
            text(&row, 3)?,
        ))
    })?;
    let mut indexes: BTreeMap<String, BTreeSet<Index>> = BTreeMap::new();
    for of_index in rows.chunk_by(|a, b| (&a.0, &a.1) == (&b.0, &b.1)) {
        let (table, _, is_unique, _) = &of_index[0];
        let columns = of_index.iter().map(|row| row.3.clone()).collect();
        indexes.entry(table.clone()).or_default().insert(Index {
            is_unique: *is_unique,
            columns,
        });
    }
    Ok(indexes)
}
