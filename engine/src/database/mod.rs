//! Databases: the drivers behind one connection type. Knows how to talk, not what about: statements
//! are in [`crate::store`].
//!
//! [`mysql`] and [`sqlite`] are the only doors to their drivers.

mod checkpoint;
mod connection;
mod connector;
#[cfg(test)]
pub(crate) mod faulty;
mod file_identity;
mod mysql;
mod sqlite;
mod uncheckpointed;

pub(crate) use checkpoint::Checkpoints;
pub(crate) use connection::{
    BadColumn, Connection, Param, Row, SqlError, Timeouts, UniqueIndex, UnreadableRow, Value,
};
pub(crate) use connector::Database;
