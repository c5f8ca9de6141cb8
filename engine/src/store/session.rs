//! An open connection with the product's statements, in SQL that both databases share. Each
//! table's are in a file of their own.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use super::columns::{Rows, number_or_0};
use super::migrate::version;
use crate::database::{Cluster, Connection, Database, Row, SqlError, Timeouts};
use crate::limits;

const INSTALLATION: Rows = Rows {
    table: "installation",
    columns: &["name", "value"],
    key: &[0],
};

/// The row of `installation` that recognises the identity key.
pub(crate) const IDENTITY_KEY: &str = "identity key";

/// The rows of `installation` that recognise the sealing keys: this, and the key's id.
const SEALING_KEY_PREFIX: &str = "sealing key ";

/// The value of a sealing key that was retired, in place of its check value.
const RETIRED: &[u8] = b"retired";

/// The name of the row of `installation` that recognises a sealing key.
pub(crate) fn sealing_key_name(id: u32) -> String {
    format!("{SEALING_KEY_PREFIX}{id}")
}

/// A sealing key of the installation.
#[derive(Debug)]
pub(crate) struct SealingKeyRow {
    pub(crate) id: u32,
    value: Vec<u8>,
}

impl SealingKeyRow {
    pub(crate) fn is_retired(&self) -> bool {
        Self::is_retired_value(&self.value)
    }

    pub(crate) fn is_retired_value(value: &[u8]) -> bool {
        value == RETIRED
    }
}

/// The row of `installation` that says which kind of cluster the database is.
pub(crate) const CLUSTER: &str = "cluster";

/// The row of `lease` that this gateway changes to make reads durable: one of few, so that gateways
/// which come and go leave none behind.
static TOUCHED: LazyLock<String> = LazyLock::new(|| {
    let number = RandomState::new().hash_one(0) % limits::TOUCHED_ROWS;
    format!("touch {number}")
});

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

    /// Validates the server's settings; returns what is wrong with them, if anything.
    pub(crate) fn check_server(&mut self, packet_bytes: usize) -> Result<Option<String>, SqlError> {
        self.0.check_server(packet_bytes)
    }

    /// What to change so that the server keeps what it has confirmed, if it may lose it.
    pub(crate) fn flushing_risk(&mut self) -> Result<Option<&'static str>, SqlError> {
        self.0.flushing_risk()
    }

    /// The cluster that the server belongs to.
    pub(crate) fn cluster(&self) -> Option<Cluster> {
        self.0.cluster()
    }

    /// Whether connections go to another host by now: this one is to be closed after its work.
    pub(crate) fn is_outdated(&self) -> bool {
        self.0.is_outdated()
    }

    /// Ends a transaction that has lost a race, as far as it is open.
    pub(crate) fn roll_back(&mut self) -> Result<(), SqlError> {
        self.0.rollback()
    }

    /// Makes sure that what was just read can be relied on: that the commits of others which it
    /// shows are durable. Redo is written in order, so a commit of our own after them is enough. It
    /// is of a row that hardly any other gateway has: on a cluster, one for all would be what most
    /// transactions collide on.
    pub(crate) fn make_reads_durable(&mut self) -> Result<(), SqlError> {
        if self.0.shows_durable_only() {
            return Ok(());
        }
        let row = [TOUCHED.as_str().into()];
        let touch = "UPDATE lease SET fence = fence % 1000000000 + 1 WHERE name = ?";
        if self.0.execute(touch, &row)? == 1 {
            return Ok(());
        }
        let create = "INSERT INTO lease (name, holder, token, fence, expires_at_ms) \
             VALUES (?, '', 0, 0, 0)";
        match self.0.execute(create, &row) {
            Err(SqlError::Duplicate(_)) => self.0.execute(touch, &row).map(|_| ()),
            created => created.map(|_| ()),
        }
    }

    /// A value that all gateways agree on.
    pub(crate) fn installation_value(&mut self, name: &str) -> Result<Option<Vec<u8>>, SqlError> {
        let sql = "SELECT name, value FROM installation WHERE name = ?";
        let row = self.0.first(sql, &[name.into()])?;
        row.map(|row| INSTALLATION.read(row, |row| row.take_bytes(1)))
            .transpose()
    }

    /// The sealing keys of the installation, retired ones included.
    pub(crate) fn sealing_keys(&mut self) -> Result<Vec<SealingKeyRow>, SqlError> {
        let sql = "SELECT name, value FROM installation WHERE name LIKE ?";
        let read = |row: Row| {
            INSTALLATION.read(row, |row| {
                let name = row.text(0)?;
                let id = name.strip_prefix(SEALING_KEY_PREFIX).map(str::parse);
                Ok(match id {
                    Some(Ok(id)) => Some(SealingKeyRow {
                        id,
                        value: row.take_bytes(1)?,
                    }),
                    _ => None,
                })
            })
        };
        let pattern = format!("{SEALING_KEY_PREFIX}%");
        let rows = self.0.rows(sql, &[pattern.as_str().into()], read)?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// How many uploads of the log are sealed with a key.
    pub(crate) fn count_sealed_with(&mut self, key: u32) -> Result<u64, SqlError> {
        let sql = "SELECT COUNT(*) FROM upload_log WHERE SUBSTR(sealed, 1, 4) = ?";
        let id = key.to_be_bytes();
        let row = self.0.first(sql, &[id.as_slice().into()])?;
        number_or_0(row.as_ref(), 0)
    }

    /// Marks a sealing key as one that no gateway needs any more.
    pub(crate) fn retire_sealing_key(&mut self, key: u32) -> Result<(), SqlError> {
        write_value(&mut *self.0, &sealing_key_name(key), RETIRED)
    }

    /// Sets a value unless a gateway has set it; returns the value in force.
    pub(crate) fn agree_on(&mut self, name: &str, value: &[u8]) -> Result<Vec<u8>, SqlError> {
        let sql = "INSERT INTO installation (name, value) VALUES (?, ?)";
        match self.0.execute(sql, &[name.into(), value.into()]) {
            Ok(_) => Ok(value.to_vec()),
            Err(SqlError::Duplicate(_)) => Ok(self.installation_value(name)?.unwrap_or_default()),
            Err(error) => Err(error),
        }
    }
}

/// Sets a value of the installation, whether it is there or not.
pub(super) fn write_value(
    c: &mut dyn Connection,
    name: &str,
    value: &[u8],
) -> Result<(), SqlError> {
    let set = "UPDATE installation SET value = ? WHERE name = ?";
    let params = [value.into(), name.into()];
    if c.execute(set, &params)? == 1 {
        return Ok(());
    }
    let create = "INSERT INTO installation (value, name) VALUES (?, ?)";
    match c.execute(create, &params) {
        Err(SqlError::Duplicate(_)) => c.execute(set, &params).map(|_| ()),
        created => created.map(|_| ()),
    }
}
