//! The only access to MySQL-compatible servers: MariaDB 10.6 and later, MySQL 5.7 and 8.

mod errors;
mod login;
mod panics;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Error, OptsBuilder};

use super::cluster::{Cluster, GaleraNode, GroupMember, NO_MEMBER, ServerReport, Standing};
use super::connection::{Connection, Dialect, Param, Row, SqlError, Timeouts, Value};
use super::current_host::HostOf;
use crate::limits;

use errors::classify_error;
pub(super) use login::Login;
use panics::{PANICKED, without_panic};

const DIALECT: Dialect = Dialect {
    name: "MYSQL",
    find_table: "SELECT 1 FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name = ?",
    find_column: "SELECT 1 FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND table_name = ? AND column_name = ?",
    position: "BIGINT",
    // DYNAMIC keeps blobs off the page, so that reading metadata does not read key data.
    table_options: "ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
    // Changes nothing but the table's definition.
    widen_upload_tag: "ALTER TABLE upload_log MODIFY upload_tag VARBINARY(72) NOT NULL",
    and_lock: " FOR UPDATE",
    from_nothing: " FROM DUAL",
    now_ms: "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS UNSIGNED)",
    add_downloads: "ON DUPLICATE KEY UPDATE \
         download_count = download_count + VALUES(download_count), \
         key_count = key_count + VALUES(key_count)",
};

const BEGIN: &str = "START TRANSACTION";

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
    /// Nothing once it has panicked.
    driver: Option<Conn>,
    shows_durable_only: bool,
    /// An answer may be unread, and the driver would take it for the next one's.
    is_broken: bool,
    in_transaction: bool,
    cluster: Option<Cluster>,
    /// Where it leads to.
    host: Option<HostOf>,
}

impl MysqlConnection {
    pub(super) fn open(login: &Login, timeouts: Timeouts) -> Result<Self, SqlError> {
        let (answer, idle) = match timeouts {
            Timeouts::Short => (limits::ANSWER_TIMEOUT, limits::SESSION_IDLE_MAX),
            Timeouts::Long => (limits::LONG_ANSWER_TIMEOUT, limits::LONG_SESSION_IDLE_MAX),
        };
        let idle = format!("SET SESSION wait_timeout = {}", idle.as_secs());
        let session = |opts: OptsBuilder| {
            opts.prefer_socket(false)
                .tcp_connect_timeout(Some(CONNECT_TIMEOUT))
                .read_timeout(Some(answer))
                .write_timeout(Some(answer))
                .stmt_cache_size(64)
                // Otherwise, the driver asks the server how much it may be sent.
                .max_allowed_packet(Some(limits::DATABASE_PACKET_BYTES_MAX))
                .init(vec![SESSION, &idle, CHARACTER_SET, ISOLATION])
        };
        let driver = login.open(session)?;
        let mut connection = Self {
            driver: Some(driver),
            shows_durable_only: false,
            is_broken: false,
            in_transaction: false,
            cluster: None,
            host: None,
        };
        // Galera: a read sees what any node has committed. MySQL does not know the variable.
        let _unknown_variable =
            connection.use_driver(|driver| driver.query_drop("SET SESSION wsrep_sync_wait = 1"));
        let flushing = connection.use_driver(Flushing::read)?;
        connection.shows_durable_only = flushing.binary_log && flushing.sync_binlog == 1;
        Ok(connection)
    }

    /// Notes which of the hosts it leads to.
    pub(super) fn at(mut self, host: HostOf) -> Self {
        self.host = Some(host);
        self
    }

    /// Asks the server whether it can serve gateways; as a member of `cluster`, if that is known.
    pub(super) fn standing(
        &mut self,
        is_one_of_several: bool,
        cluster: Option<Cluster>,
    ) -> Result<Standing, SqlError> {
        let told = self.ask()?;
        self.cluster = told.cluster();
        Ok(told.standing(is_one_of_several, cluster))
    }

    fn ask(&mut self) -> Result<ServerReport, SqlError> {
        let variables = "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
             ('wsrep_on', 'read_only', 'group_replication_group_name')";
        let variables: Vec<(String, String)> = self.use_driver(|driver| driver.query(variables))?;
        let mut told = ServerReport::default();
        let mut has_group_name = false;
        for (name, value) in variables {
            match (name.as_str(), value.as_str()) {
                ("wsrep_on", "ON") => told.galera = Some(GaleraNode::default()),
                ("group_replication_group_name", name) => has_group_name = !name.is_empty(),
                ("read_only", value) => told.is_read_only = value != "OFF",
                _ => {}
            }
        }
        if let Some(node) = &mut told.galera {
            *node = self.use_driver(ask_galera)?;
        } else {
            // Without the plugin there is no row, with MariaDB no table.
            let asked = self.use_driver(ask_group);
            told.hides_its_group = has_group_name && asked.is_err();
            told.group = asked.ok().flatten();
        }
        Ok(told)
    }

    /// A server that has left its replication group takes writes as any other does, unless somebody
    /// has made it read-only; so it is asked in each transaction. A Galera node refuses by itself.
    fn check_membership(&mut self) -> Result<(), SqlError> {
        if self.cluster != Some(Cluster::GroupReplication) {
            return Ok(());
        }
        match self.use_driver(ask_group)? {
            Some(member) if member.may_write() => Ok(()),
            _ => {
                self.is_broken = true;
                Err(SqlError::Lost(NO_MEMBER.into()))
            }
        }
    }

    /// The driver has failed: it may be the host's silence.
    fn note_failure(&self, error: &Error) {
        let Error::IoError(error) = error else { return };
        let is_silence = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        if let Some(host) = &self.host
            && is_silence
        {
            host.note_silence();
        }
    }

    /// Uses the driver, unless it has failed before. It panics at answers that no server gives: then
    /// it is not used again.
    fn use_driver<T>(
        &mut self,
        work: impl FnOnce(&mut Conn) -> Result<T, Error>,
    ) -> Result<T, SqlError> {
        let mut driver = match self.driver.take() {
            Some(driver) if !self.is_broken => driver,
            driver => {
                self.driver = driver;
                return Err(SqlError::Lost("the connection has failed before".into()));
            }
        };
        let worked = without_panic(|| {
            let worked = work(&mut driver);
            (driver, worked)
        });
        let Some((driver, worked)) = worked else {
            self.is_broken = true;
            return Err(SqlError::Lost(PANICKED.into()));
        };
        self.driver = Some(driver);
        worked.map_err(|error| {
            self.is_broken = !matches!(error, Error::MySqlError(_));
            self.note_failure(&error);
            classify_error(error)
        })
    }
}

/// Dropping a driver talks to the server, too.
impl Drop for MysqlConnection {
    fn drop(&mut self) {
        let driver = self.driver.take();
        let _ = without_panic(|| drop(driver));
    }
}

impl Connection for MysqlConnection {
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, SqlError> {
        let mut tries = 1;
        loop {
            let executed = self.use_driver(|driver| {
                driver.exec_drop(sql, values(params))?;
                Ok(driver.affected_rows())
            });
            match executed {
                // Nothing was done, and nothing came before it.
                Err(SqlError::Conflict(_))
                    if !self.in_transaction && tries < limits::STATEMENT_TRIES_MAX =>
                {
                    metrics::counter!("efgs_database_conflicts_total").increment(1);
                    tries += 1;
                }
                other => return other.map_err(|error| error.of_statement(sql)),
            }
        }
    }

    fn query(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        on_row: &mut dyn FnMut(Row) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let mut read = Ok(());
        let origin: Arc<str> = sql.into();
        let mut is_left = false;
        self.use_driver(|driver| {
            let mut rows = driver.exec_iter(sql, values(params))?;
            // To the end, whatever a row holds: the next statement must not find the rest.
            while let Some(row) = rows.next() {
                let row = Row(
                    row?.unwrap().into_iter().map(from_mysql).collect(),
                    Arc::clone(&origin),
                );
                if read.is_ok() {
                    read = on_row(row);
                }
                if matches!(read, Err(SqlError::Lost(_))) {
                    // Dropping it would read to the end, which there may not be.
                    std::mem::forget(rows);
                    is_left = true;
                    return Ok(());
                }
            }
            Ok(())
        })
        .map_err(|error| error.of_statement(sql))?;
        self.is_broken |= is_left;
        read
    }

    fn script(&mut self, sql: &str) -> Result<(), SqlError> {
        let statements = sql
            .split(';')
            .map(str::trim)
            .filter(|statement| !statement.is_empty());
        for statement in statements {
            let done = self.use_driver(|driver| driver.query_drop(statement));
            match statement {
                BEGIN => self.in_transaction = true,
                "COMMIT" | "ROLLBACK" => self.in_transaction = false,
                _ => {}
            }
            done?;
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
        self.script(BEGIN)?;
        self.check_membership()
    }

    /// Gaps are locked from REPEATABLE READ on.
    fn begin_locking(&mut self) -> Result<(), SqlError> {
        self.script("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION")?;
        self.check_membership()
    }

    /// The server finds room in its files while a statement runs.
    fn write_out(&mut self) -> Result<(), SqlError> {
        Ok(())
    }

    fn is_server(&self) -> bool {
        true
    }

    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    fn cluster(&self) -> Option<Cluster> {
        self.cluster
    }

    fn is_outdated(&self) -> bool {
        let host = self.host.as_ref();
        host.is_some_and(|host| !host.is_current())
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

fn ask_galera(driver: &mut Conn) -> Result<GaleraNode, Error> {
    let sql = "SHOW GLOBAL STATUS WHERE Variable_name IN \
         ('wsrep_ready', 'wsrep_cluster_status', 'wsrep_local_state')";
    let mut node = GaleraNode::default();
    for (name, value) in driver.query::<(String, String), _>(sql)? {
        match name.as_str() {
            "wsrep_ready" => node.is_ready = value == "ON",
            "wsrep_cluster_status" => node.is_primary = value == "Primary",
            "wsrep_local_state" => node.local_state = value.parse().ok(),
            _ => {}
        }
    }
    Ok(node)
}

/// Nothing of a server that was never in a group.
fn ask_group(driver: &mut Conn) -> Result<Option<GroupMember>, Error> {
    let sql = "SELECT COALESCE(MAX(CASE WHEN member_id = @@server_uuid THEN member_state END), ''), \
         COUNT(*), COUNT(CASE WHEN member_state IN ('ONLINE', 'RECOVERING') THEN 1 END) \
         FROM performance_schema.replication_group_members WHERE member_id <> ''";
    let row: Option<(String, u64, u64)> = driver.query_first(sql)?;
    let row = row.filter(|(_, member_count, _)| *member_count > 0);
    Ok(
        row.map(|(state, member_count, reachable_count)| GroupMember {
            state,
            member_count,
            reachable_count,
        }),
    )
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

#[cfg(test)]
mod tests {
    mod hostile;
    mod left_answer;
    mod tls;
}
