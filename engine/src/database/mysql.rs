//! The only access to MySQL-compatible servers: MariaDB 10.6 and later, MySQL 5.7 and 8.

use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Error, Opts, OptsBuilder};

use super::connection::{
    Connection, Dialect, Param, Row, Source, SqlError, Timeouts, UniqueIndex, Value,
};
use crate::limits;

const DIALECT: Dialect = Dialect {
    find_table: "SELECT 1 FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name = ?",
    position: "BIGINT",
    // DYNAMIC keeps blobs off the page, so that reading metadata does not read key data.
    table_options: "ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
    and_lock: " FOR UPDATE",
    from_nothing: " FROM DUAL",
    now_ms: "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS UNSIGNED)",
    add_downloads: "ON DUPLICATE KEY UPDATE \
         download_count = download_count + VALUES(download_count), \
         key_count = key_count + VALUES(key_count)",
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Configures a session: what it must not inherit from the server's configuration. READ COMMITTED: the log is
/// read while others append; every statement shall see what is committed. English: names of indexes
/// are read from messages.
const SESSION: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', \
     time_zone = '+00:00', autocommit = 1, innodb_lock_wait_timeout = 3, net_read_timeout = 10, \
     lc_messages = 'en_US'";
/// All text is bytes to us. In any other character set the server would look at every byte of a blob
/// that is sent as a parameter: half of its work for an upload.
const CHARACTER_SET: &str = "SET NAMES binary";
const ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

#[derive(Debug)]
pub(crate) struct MysqlConnection {
    driver: Conn,
    shows_durable_only: bool,
    /// An answer may be unread, and the driver would take it for the next one's.
    is_broken: bool,
}

impl MysqlConnection {
    pub(super) fn open(url: &str, timeouts: Timeouts) -> Result<Self, SqlError> {
        let (answer, idle) = match timeouts {
            Timeouts::Short => (limits::ANSWER_TIMEOUT, limits::SESSION_IDLE_MAX),
            Timeouts::Long => (limits::LONG_ANSWER_TIMEOUT, limits::LONG_SESSION_IDLE_MAX),
        };
        let idle = format!("SET SESSION wait_timeout = {}", idle.as_secs());
        let opts = Opts::from_url(url).map_err(|error| SqlError::Refused(error.into()))?;
        let opts = OptsBuilder::from_opts(opts)
            .prefer_socket(false)
            .tcp_connect_timeout(Some(CONNECT_TIMEOUT))
            .read_timeout(Some(answer))
            .write_timeout(Some(answer))
            .stmt_cache_size(64)
            .init(vec![SESSION, &idle, CHARACTER_SET, ISOLATION]);
        let mut driver = Conn::new(opts).map_err(classify_error)?;
        // Galera: a read sees what any node has committed. MySQL does not know the variable.
        let _unknown_variable = driver.query_drop("SET SESSION wsrep_sync_wait = 1");
        let flushing = Flushing::read(&mut driver).map_err(classify_error)?;
        Ok(Self {
            driver,
            shows_durable_only: flushing.binary_log && flushing.sync_binlog == 1,
            is_broken: false,
        })
    }

    /// Uses the driver, unless it has failed before.
    fn use_driver<T>(
        &mut self,
        work: impl FnOnce(&mut Conn) -> Result<T, Error>,
    ) -> Result<T, SqlError> {
        if self.is_broken {
            return Err(SqlError::Lost("the connection has failed before".into()));
        }
        work(&mut self.driver).map_err(|error| {
            self.is_broken = !matches!(error, Error::MySqlError(_));
            classify_error(error)
        })
    }
}

impl Connection for MysqlConnection {
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, SqlError> {
        self.use_driver(|driver| {
            driver.exec_drop(sql, values(params))?;
            Ok(driver.affected_rows())
        })
    }

    fn query(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        on_row: &mut dyn FnMut(Row) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let mut read = Ok(());
        self.use_driver(|driver| {
            // To the end, whatever a row holds: the next statement must not find the rest.
            for row in driver.exec_iter(sql, values(params))? {
                let row = Row(row?.unwrap().into_iter().map(from_mysql).collect());
                if read.is_ok() {
                    read = on_row(row);
                }
            }
            Ok(())
        })?;
        read
    }

    fn script(&mut self, sql: &str) -> Result<(), SqlError> {
        let statements = sql
            .split(';')
            .map(str::trim)
            .filter(|statement| !statement.is_empty());
        for statement in statements {
            self.use_driver(|driver| driver.query_drop(statement))?;
        }
        Ok(())
    }

    fn shows_durable_only(&self) -> bool {
        self.shows_durable_only
    }

    fn rollback(&mut self) -> Result<(), SqlError> {
        self.script("ROLLBACK")
    }

    fn begin(&mut self) -> Result<(), SqlError> {
        self.script("START TRANSACTION")
    }

    /// Gaps are locked from REPEATABLE READ on.
    fn begin_locking(&mut self) -> Result<(), SqlError> {
        self.script("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION")
    }

    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    fn lock_migrations(&mut self) -> Result<(), SqlError> {
        let seconds = limits::MIGRATION_WAIT_MAX.as_secs();
        let sql = format!("SELECT GET_LOCK('efgs_migrate', {seconds})");
        let locked: Option<Option<u64>> = self.use_driver(|driver| driver.query_first(sql))?;
        match locked.flatten() {
            Some(1) => Ok(()),
            _ => Err(SqlError::Refused(
                "another gateway has been migrating for a minute".into(),
            )),
        }
    }

    fn unlock_migrations(&mut self) -> Result<(), SqlError> {
        self.script("DO RELEASE_LOCK('efgs_migrate')")
    }

    fn check_server(&mut self, packet_bytes: usize) -> Result<Option<String>, SqlError> {
        let packet: Option<u64> =
            self.use_driver(|driver| driver.query_first("SELECT @@max_allowed_packet"))?;
        let packet = packet.unwrap_or(0);
        if packet < packet_bytes as u64 {
            return Ok(Some(format!(
                "the database server's max_allowed_packet is {packet}: set it to {packet_bytes} or more"
            )));
        }
        let read_only: Option<u64> =
            self.use_driver(|driver| driver.query_first("SELECT @@read_only"))?;
        Ok((read_only == Some(1)).then(|| {
            "the database server is read-only: point [database] url at the primary".to_owned()
        }))
    }

    /// On a Galera cluster, too: its other nodes keep what one confirms only until all of them are
    /// without power.
    fn flushing_risk(&mut self) -> Result<Option<&'static str>, SqlError> {
        self.use_driver(Flushing::read).map(Flushing::remedy)
    }
}

/// What a server flushes before it confirms a commit.
#[derive(Debug, Clone, Copy)]
struct Flushing {
    redo: u64,
    binary_log: bool,
    sync_binlog: u64,
}

impl Flushing {
    fn read(driver: &mut Conn) -> Result<Self, Error> {
        let sql = "SELECT @@innodb_flush_log_at_trx_commit, @@log_bin, @@sync_binlog";
        let row: Option<(u64, u64, u64)> = driver.query_first(sql)?;
        let (redo, binary_log, sync_binlog) = row.unwrap_or_default();
        Ok(Self {
            redo,
            binary_log: binary_log == 1,
            sync_binlog,
        })
    }

    /// What to change, if commits that were confirmed can be lost.
    ///
    /// With a binary log, both servers leave out the flush of InnoDB's own commit (MariaDB does not
    /// at 3): a start after a crash takes what was prepared, and commits what it finds in the
    /// binary log. So that is what has to be flushed (MariaDB: "Binary Log Group Commit and InnoDB
    /// Flushing Performance"). Its default there is not to.
    const fn remedy(self) -> Option<&'static str> {
        match self {
            Self { redo: 0 | 2, .. } => Some("set innodb_flush_log_at_trx_commit to 1"),
            Self {
                binary_log: true,
                sync_binlog: 0 | 2..,
                ..
            } => Some("it has a binary log that it does not flush, set sync_binlog to 1"),
            _ => None,
        }
    }
}

fn values(params: &[Param<'_>]) -> mysql::Params {
    let value = |param: &Param<'_>| match *param {
        Param::Null => mysql::Value::NULL,
        Param::Number(number) => mysql::Value::UInt(number),
        Param::Bytes(bytes) => mysql::Value::Bytes(bytes.to_vec()),
    };
    if params.is_empty() {
        return mysql::Params::Empty;
    }
    mysql::Params::Positional(params.iter().map(value).collect())
}

fn from_mysql(value: mysql::Value) -> Value {
    match value {
        mysql::Value::Bytes(bytes) => Value::Bytes(bytes),
        mysql::Value::Int(number) => u64::try_from(number).map_or(Value::Other, Value::Number),
        mysql::Value::UInt(number) => Value::Number(number),
        mysql::Value::NULL => Value::Null,
        _ => Value::Other,
    }
}

/// Classifies a driver's error: conflict, lost connection or permanent. Codes and SQL states are from the servers' error
/// references; those that MySQL and MariaDB share mean the same.
fn classify_error(error: Error) -> SqlError {
    const DUPLICATE_ENTRY: u16 = 1062;
    const PACKET_TOO_LARGE: u16 = 1153;
    // Lock wait timeout, record changed since last read, query killed, must be prepared again.
    const CONFLICTS: [u16; 4] = [1205, 1020, 1317, 1615];
    // Node not ready, shutting down, error during commit, network errors, read-only after a change
    // of the primary, connection killed, group replication hook, idle for too long.
    const LOST: [u16; 13] = [
        1047, 1053, 1152, 1158, 1159, 1160, 1161, 1180, 1290, 1836, 1927, 3100, 4031,
    ];
    let class = match &error {
        Error::MySqlError(server) => match (server.code, server.state.as_str()) {
            (DUPLICATE_ENTRY, _) => return SqlError::Duplicate(index_named_in(&server.message)),
            (PACKET_TOO_LARGE, _) => SqlError::Refused,
            (code, _) if LOST.contains(&code) => SqlError::Lost,
            (code, _) if CONFLICTS.contains(&code) => SqlError::Conflict,
            // Deadlock and the certification conflicts of clusters: transaction rollback.
            (_, state) if state.starts_with("40") => SqlError::Conflict,
            (_, state) if state.starts_with("08") => SqlError::Lost,
            _ => SqlError::Refused,
        },
        Error::IoError(_) | Error::CodecError(_) | Error::DriverError(_) => SqlError::Lost,
        _ => SqlError::Refused,
    };
    class(plain(error))
}

/// The error inside: the driver's own text wraps it in the names of its Rust types.
fn plain(error: Error) -> Source {
    match error {
        Error::MySqlError(server) => server.into(),
        Error::DriverError(driver) => driver.into(),
        Error::IoError(io) => io.into(),
        Error::UrlError(url) => url.into(),
        other => other.into(),
    }
}

/// The message ends in `for key 'NAME'`; MySQL from 8.0.19 on writes `for key 'TABLE.NAME'`.
fn index_named_in(message: &str) -> UniqueIndex {
    let name = message
        .rsplit("for key '")
        .next()
        .unwrap_or("")
        .trim_end_matches('\'');
    match name.rsplit('.').next() {
        Some("PRIMARY") => UniqueIndex::Primary,
        Some("upload_log_tag") => UniqueIndex::UploadTag,
        _ => UniqueIndex::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_indexes_apart_by_the_name_in_the_message() {
        for (message, index) in [
            (
                "Duplicate entry '17' for key 'PRIMARY'",
                UniqueIndex::Primary,
            ),
            (
                "Duplicate entry '17' for key 'upload_log.PRIMARY'",
                UniqueIndex::Primary,
            ),
            (
                "Duplicate entry 'DE-PRIMARY' for key 'upload_log_tag'",
                UniqueIndex::UploadTag,
            ),
            (
                "Duplicate entry 'DE-x' for key 'upload_log.upload_log_tag'",
                UniqueIndex::UploadTag,
            ),
            (
                "Duplicate entry 'for key 'PRIMARY'' for key 'upload_log_tag'",
                UniqueIndex::UploadTag,
            ),
            (
                "Duplicate entry '1' for key 'download_batch_tag'",
                UniqueIndex::Other,
            ),
        ] {
            assert_eq!(index_named_in(message), index, "{message}");
        }
    }
}
