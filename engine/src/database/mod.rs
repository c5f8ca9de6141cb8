//! Databases: both drivers behind one connection type, without any of the product's statements, which
//! are in [`crate::store`].
//!
//! Only [`mysql`] and [`sqlite`] use their drivers.

mod checkpoint;
mod cluster;
mod connection;
mod connector;
mod current_host;
#[cfg(any(test, debug_assertions))]
pub(crate) mod faulty;
mod file_identity;
mod hosts;
mod mysql;
mod outage;
mod password_file;
mod remedy;
mod server_message;
mod sqlite;
mod uncheckpointed;

pub(crate) use checkpoint::Checkpoints;
pub(crate) use cluster::Cluster;
pub(crate) use connection::{
    BadColumn, Connection, Dialect, Param, Row, SqlError, Timeouts, UniqueIndex, UnreadableRow,
    Value,
};
pub(crate) use connector::{Database, in_memory};
pub(crate) use sqlite::backup as sqlite_backup;
