//! An open connection with the product's statements, in SQL that both databases share. Each
//! table's are in a file of their own.

use super::migrate::version;
use crate::database::{Connection, Database, SqlError, Timeouts};

/// An open connection with the product's statements.
#[derive(Debug)]
pub(crate) struct Store(pub(super) Box<dyn Connection>);

impl Store {
    /// Opens a connection for the statements of a gateway at work.
    pub(crate) fn open(database: &Database) -> Result<Self, SqlError> {
        Ok(Self(database.connect(Timeouts::Short)?))
    }

    /// Opens a connection for statements that may take minutes: at start, and for the command line.
    pub(crate) fn open_for_long_statements(database: &Database) -> Result<Self, SqlError> {
        Ok(Self(database.connect(Timeouts::Long)?))
    }

    /// The schema version.
    pub(crate) fn schema_version(&mut self) -> Result<u32, SqlError> {
        version(&mut *self.0)
    }

    /// Validates the server's settings; gives what is wrong with them, if anything.
    pub(crate) fn check_server(&mut self, packet_bytes: usize) -> Result<Option<String>, SqlError> {
        self.0.check_server(packet_bytes)
    }

    /// What to change so that the server keeps what it has confirmed, if it may lose it.
    pub(crate) fn flushing_risk(&mut self) -> Result<Option<&'static str>, SqlError> {
        self.0.flushing_risk()
    }

    /// Makes sure that what was just read can be relied on: that the commits of others which it
    /// shows are durable. Redo is written in order, so a commit of our own behind them is enough.
    pub(crate) fn make_reads_durable(&mut self) -> Result<(), SqlError> {
        if self.0.shows_durable_only() {
            return Ok(());
        }
        let touch = "UPDATE lease SET fence = fence + 1 WHERE name = 'touch'";
        if self.0.execute(touch, &[])? == 1 {
            return Ok(());
        }
        let create = "INSERT INTO lease (name, holder, token, fence, expires_at_ms) \
             VALUES ('touch', '', 0, 0, 0)";
        match self.0.execute(create, &[]) {
            Err(SqlError::Duplicate(_)) => self.0.execute(touch, &[]).map(|_| ()),
            created => created.map(|_| ()),
        }
    }

    /// A value that all gateways agree on.
    pub(crate) fn installation_value(&mut self, name: &str) -> Result<Option<Vec<u8>>, SqlError> {
        let sql = "SELECT value FROM installation WHERE name = ?";
        let row = self.0.first(sql, &[name.into()])?;
        Ok(row.map(|mut row| row.take_bytes(0)).transpose()?)
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
