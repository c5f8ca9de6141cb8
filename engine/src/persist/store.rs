//! An open connection with the statements of the product, in SQL that both databases share. Each
//! table's are in a file of their own.

use super::connection::{Connection, Row, SqlError};
use crate::domain::Country;

/// An open connection with the statements of the product.
#[derive(Debug)]
pub(crate) struct Store(pub(super) Box<dyn Connection>);

impl Store {
    pub(super) fn new(connection: Box<dyn Connection>) -> Self {
        Self(connection)
    }

    /// The schema version.
    pub(crate) fn schema_version(&mut self) -> Result<u32, SqlError> {
        super::migrate::version(&mut *self.0)
    }

    /// What about the server does not suit us, if anything.
    pub(crate) fn check_server(&mut self, packet_bytes: usize) -> Result<Option<String>, SqlError> {
        self.0.check_server(packet_bytes)
    }

    /// Makes sure that what was just read can be relied on: that the commits of others which it
    /// shows are durable. Redo is written in order, so a commit of our own behind them is enough.
    pub(crate) fn settle_what_was_read(&mut self) -> Result<(), SqlError> {
        if self.0.shows_durable_only() {
            return Ok(());
        }
        let touch = "UPDATE lease SET fence = fence + 1 WHERE name = 'settle'";
        if self.0.execute(touch, &[])? == 1 {
            return Ok(());
        }
        let create = "INSERT INTO lease (name, holder, token, fence, expires_at_ms) \
             VALUES ('settle', '', 0, 0, 0)";
        match self.0.execute(create, &[]) {
            Err(SqlError::Duplicate(_)) => self.0.execute(touch, &[]).map(|_| ()),
            created => created.map(|_| ()),
        }
    }

    /// A value that all gateways agree on.
    pub(crate) fn installation_value(&mut self, name: &str) -> Result<Option<Vec<u8>>, SqlError> {
        let sql = "SELECT value FROM installation WHERE name = ?";
        Ok(self
            .0
            .first(sql, &[name.into()])?
            .map(|mut row| row.take_bytes(0)))
    }

    /// Sets a value that no gateway has set yet; gives the value that holds now.
    pub(crate) fn agree_on(&mut self, name: &str, value: &[u8]) -> Result<Vec<u8>, SqlError> {
        let sql = "INSERT INTO installation (name, value) VALUES (?, ?)";
        match self.0.execute(sql, &[name.into(), value.into()]) {
            Ok(_) => Ok(value.to_vec()),
            Err(SqlError::Duplicate(_)) => Ok(self.installation_value(name)?.unwrap_or_default()),
            Err(error) => Err(error),
        }
    }
}

pub(super) fn country(row: &mut Row, column: usize) -> Country {
    Country::parse(&row.take_text(column)).expect("the writer writes countries")
}

pub(super) fn number_32(number: u64) -> u32 {
    u32::try_from(number).expect("the writer writes 32 bits")
}
