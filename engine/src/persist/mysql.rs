//! The one door to MySQL-compatible servers: MariaDB 10.6 and later, MySQL 5.7 and 8.

use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Error, Opts, OptsBuilder};

use super::connection::{Connection, Dialect, Param, Row, SqlError, UniqueIndex, Value};

const DIALECT: Dialect = Dialect {
    position: "BIGINT",
    // DYNAMIC keeps blobs off the page, so that reading metadata does not read key data.
    table_options: "ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
    and_lock: " FOR UPDATE",
    now_ms: "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS UNSIGNED)",
};

/// A server that does not answer within this time is taken for lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What a session must not inherit from the server's configuration. READ COMMITTED: the log is
/// read while others append; every statement shall see what is committed.
const SESSION: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', \
     time_zone = '+00:00', autocommit = 1, innodb_lock_wait_timeout = 10";
const ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

#[derive(Debug)]
pub(crate) struct MysqlConnection(Conn);

impl MysqlConnection {
    pub(crate) fn open(url: &str) -> Result<Self, SqlError> {
        let opts = Opts::from_url(url).map_err(|error| SqlError::Refused(error.into()))?;
        let opts = OptsBuilder::from_opts(opts)
            .prefer_socket(false)
            .tcp_connect_timeout(Some(CONNECT_TIMEOUT))
            .read_timeout(Some(ANSWER_TIMEOUT))
            .write_timeout(Some(ANSWER_TIMEOUT))
            .stmt_cache_size(64)
            .init(vec![SESSION, ISOLATION]);
        Ok(Self(Conn::new(opts).map_err(sort)?))
    }
}

impl Connection for MysqlConnection {
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, SqlError> {
        self.0.exec_drop(sql, values(params)).map_err(sort)?;
        Ok(self.0.affected_rows())
    }

    fn query(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        on_row: &mut dyn FnMut(Row),
    ) -> Result<(), SqlError> {
        for row in self.0.exec_iter(sql, values(params)).map_err(sort)? {
            on_row(Row(row
                .map_err(sort)?
                .unwrap()
                .into_iter()
                .map(from_mysql)
                .collect()));
        }
        Ok(())
    }

    fn script(&mut self, sql: &str) -> Result<(), SqlError> {
        let statements = sql
            .split(';')
            .map(str::trim)
            .filter(|statement| !statement.is_empty());
        for statement in statements {
            self.0.query_drop(statement).map_err(sort)?;
        }
        Ok(())
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
        let locked: Option<Option<u64>> = self
            .0
            .query_first("SELECT GET_LOCK('efgs_migrate', 60)")
            .map_err(sort)?;
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
        let packet: Option<u64> = self
            .0
            .query_first("SELECT @@max_allowed_packet")
            .map_err(sort)?;
        let packet = packet.unwrap_or(0);
        if packet < packet_bytes as u64 {
            return Ok(Some(format!(
                "the database server's max_allowed_packet is {packet}: set it to {packet_bytes} or more"
            )));
        }
        let read_only: Option<u64> = self.0.query_first("SELECT @@read_only").map_err(sort)?;
        Ok((read_only == Some(1)).then(|| {
            "the database server is read-only: point [database] url at the primary".to_owned()
        }))
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
        mysql::Value::Int(number) => Value::Number(u64::try_from(number).unwrap_or(0)),
        mysql::Value::UInt(number) => Value::Number(number),
        _ => Value::Null,
    }
}

/// Sorts a driver's error by what happens next. Codes from the servers' error references, the
/// same on MySQL and MariaDB.
fn sort(error: Error) -> SqlError {
    const DUPLICATE_ENTRY: u16 = 1062;
    const LOCK_WAIT_TIMEOUT: u16 = 1205;
    const DEADLOCK: u16 = 1213;
    const CHANGED_SINCE_LAST_READ: u16 = 1020;
    const SHUTTING_DOWN: u16 = 1053;
    const NODE_NOT_READY: u16 = 1047;
    const CONNECTION_KILLED: u16 = 1927;
    match &error {
        Error::MySqlError(server) => match server.code {
            DUPLICATE_ENTRY => SqlError::Duplicate(index_named_in(&server.message)),
            LOCK_WAIT_TIMEOUT | DEADLOCK | CHANGED_SINCE_LAST_READ => {
                SqlError::Conflict(error.into())
            }
            SHUTTING_DOWN | NODE_NOT_READY | CONNECTION_KILLED => SqlError::Lost(error.into()),
            _ => SqlError::Refused(error.into()),
        },
        Error::IoError(_) | Error::CodecError(_) | Error::DriverError(_) => {
            SqlError::Lost(error.into())
        }
        _ => SqlError::Refused(error.into()),
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
