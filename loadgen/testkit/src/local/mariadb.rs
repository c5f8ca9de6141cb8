//! A private MariaDB server, durable as an operator would run it.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use tempfile::TempDir;

use super::error::LocalError;
use super::process::Process;
use super::program::{READY_WITHIN, find_program, tail};
use crate::poll::poll;

/// How long the server may take to flush its buffers on shutdown.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(30);
const PACKAGE: &str = "mariadb-server";
const USER: &str = "efgs";

/// A server with its own data directory and port. It survives [`MariaDb::kill`] and
/// [`MariaDb::restart`]; dropping it ends it and removes its data.
#[derive(Debug)]
pub struct MariaDb {
    process: Option<Process>,
    program: PathBuf,
    port: u16,
    password: String,
    /// In addition to those that every server here has.
    options: Vec<String>,
    folder: TempDir,
}

impl MariaDb {
    /// Creates a data directory in a new folder under `parent` (about 115 MB, half a second) and
    /// starts a server on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// [`LocalError::Missing`] says what to install.
    pub fn start(parent: &Path) -> Result<Self, LocalError> {
        let program = find_program(&["mariadbd", "mysqld"]).ok_or(LocalError::Missing {
            program: "mariadbd",
            package: PACKAGE,
        })?;
        let folder = tempfile::Builder::new()
            .prefix("db")
            .tempdir_in(parent)
            .map_err(LocalError::io("cannot create a data directory for MariaDB"))?;
        install(folder.path())?;
        let password = format!("{:032x}", rand::random::<u128>());
        let mut server = Self {
            process: None,
            program,
            port: free_port()?,
            password,
            options: Vec::new(),
            folder,
        };
        server.restart()?;
        server.create_user()?;
        Ok(server)
    }

    /// Where a database of this server is: `mysql://USER:PASSWORD@127.0.0.1:PORT/NAME`.
    pub fn url(&self, database: &str) -> String {
        format!(
            "mysql://{USER}:{}@127.0.0.1:{}/{database}",
            self.password, self.port
        )
    }

    /// Its process id, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The folder with everything it writes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Creates a database, unless it exists.
    ///
    /// # Errors
    /// When the name is not made of lower-case letters, digits and `_`, or the server refuses.
    pub fn create_database(&self, name: &str) -> Result<(), LocalError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            let what = format!("cannot create the database {name:?}");
            let why = "a name has lower-case letters, digits and _".to_owned();
            return Err(LocalError::Failed { what, why });
        }
        let mut connection = self.root()?;
        Ok(connection.query_drop(format!("CREATE DATABASE IF NOT EXISTS {name}"))?)
    }

    /// Runs statements as the server's administrator.
    ///
    /// # Errors
    /// When the server refuses one.
    pub fn run(&self, statements: &str) -> Result<(), LocalError> {
        let mut connection = self.root()?;
        let each = statements.split(';').map(str::trim);
        for statement in each.filter(|statement| !statement.is_empty()) {
            connection.query_drop(statement)?;
        }
        Ok(())
    }

    /// Blocks all writes to a table (`DATABASE.TABLE`) until the value is dropped. Reads continue.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn hold_writes(&self, table: &str) -> Result<HeldWrites, LocalError> {
        let mut connection = self.root()?;
        connection.query_drop(format!("LOCK TABLES {table} READ"))?;
        Ok(HeldWrites {
            _connection: connection,
        })
    }

    /// Kills the server with SIGKILL. Its data remain.
    ///
    /// # Errors
    /// When the process cannot be killed.
    pub fn kill(&mut self) -> Result<(), LocalError> {
        match self.process.take() {
            Some(mut process) => process
                .kill()
                .map(drop)
                .map_err(LocalError::io("cannot kill MariaDB")),
            None => Ok(()),
        }
    }

    /// Starts the server on its data directory and port, after a graceful shutdown if it is
    /// running, and waits until it answers.
    ///
    /// # Errors
    /// When it does not start or does not answer within a minute.
    pub fn restart(&mut self) -> Result<(), LocalError> {
        if let Some(mut process) = self.process.take() {
            let ended = process.terminate(SHUTDOWN_WITHIN);
            ended.map_err(LocalError::io("cannot end MariaDB"))?;
        }
        let process = Process::start(&mut self.command()?);
        let mut process = process.map_err(LocalError::io("cannot start MariaDB"))?;
        self.wait_until_it_answers(&mut process)?;
        self.process = Some(process);
        Ok(())
    }

    /// The same with options (`--NAME=VALUE`) beside its own, which give way.
    ///
    /// # Errors
    /// As [`Self::restart`].
    pub fn restart_with(&mut self, options: &[&str]) -> Result<(), LocalError> {
        self.options = options.iter().map(ToString::to_string).collect();
        self.restart()
    }

    fn wait_until_it_answers(&self, process: &mut Process) -> Result<(), LocalError> {
        let failed = |why: String| LocalError::Failed {
            what: "MariaDB does not run".to_owned(),
            why,
        };
        let outcome = poll(READY_WITHIN, || match self.root() {
            Ok(_) => Some(Ok(())),
            Err(_) if process.ended().is_some() => Some(Err(failed(tail(&self.log())))),
            Err(_) => None,
        });
        outcome.unwrap_or_else(|| Err(failed(format!("no answer within {READY_WITHIN:?}"))))
    }

    fn command(&self) -> Result<Command, LocalError> {
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.map_err(LocalError::io("cannot write MariaDB's log"))?;
        let mut command = Command::new(&self.program);
        command
            .arg("--no-defaults")
            .args(run_as())
            .arg(format!("--datadir={}", data(self.folder.path()).display()))
            // Names of temporary files contain the process id, which is unique only within a
            // container: two servers that share /tmp delete each other's.
            .arg(format!("--tmpdir={}", self.folder.path().display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!(
                "--pid-file={}",
                self.folder.path().join("pid").display()
            ))
            .arg(format!("--port={}", self.port))
            .args([
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                "--skip-log-bin",
            ])
            .args([
                "--innodb-flush-log-at-trx-commit=1",
                "--innodb-buffer-pool-size=128M",
            ])
            .args(["--max-allowed-packet=16M"])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Ok(command)
    }

    /// A user with a password for the gateway; the installation's users without one may come
    /// through the socket only, which is in a folder of our own.
    fn create_user(&self) -> Result<(), LocalError> {
        let mut connection = self.root()?;
        let others: Vec<(String, String)> = connection.query(
            "SELECT User, Host FROM mysql.user WHERE User = '' OR (User = 'root' AND Host <> 'localhost')",
        )?;
        for (user, host) in others {
            connection.query_drop(format!("DROP USER '{user}'@'{host}'"))?;
        }
        let user = format!("'{USER}'@'127.0.0.1'");
        connection.query_drop(format!(
            "CREATE USER {user} IDENTIFIED BY '{}'",
            self.password
        ))?;
        Ok(connection.query_drop(format!("GRANT ALL ON *.* TO {user}"))?)
    }

    fn root(&self) -> Result<Conn, mysql::Error> {
        let socket = self.socket();
        let options = OptsBuilder::new()
            .user(Some("root"))
            .prefer_socket(false)
            .socket(socket.to_str())
            .tcp_connect_timeout(Some(Duration::from_secs(5)));
        Conn::new(options)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

/// Blocked writes: see [`MariaDb::hold_writes`].
#[derive(Debug)]
pub struct HeldWrites {
    _connection: Conn,
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// MariaDB refuses to run as root unless told to.
fn run_as() -> Option<&'static str> {
    rustix::process::geteuid()
        .is_root()
        .then_some("--user=root")
}

fn install(folder: &Path) -> Result<(), LocalError> {
    let program =
        find_program(&["mariadb-install-db", "mysql_install_db"]).ok_or(LocalError::Missing {
            program: "mariadb-install-db",
            package: PACKAGE,
        })?;
    let output = Command::new(program)
        .arg("--no-defaults")
        .args(run_as())
        .arg(format!("--datadir={}", data(folder).display()))
        .arg(format!("--tmpdir={}", folder.display()))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        // Several installations at a time must not meet in one folder for temporary tables.
        .env("TMPDIR", folder)
        .process_group(0)
        .stdin(Stdio::null())
        .output()
        .map_err(LocalError::io("cannot run mariadb-install-db"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr)
        .trim()
        .replace('\n', " | ");
    Err(LocalError::Failed {
        what: "mariadb-install-db failed".to_owned(),
        why: said,
    })
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, LocalError> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    Ok(listener
        .map_err(LocalError::io("no free port on 127.0.0.1"))?
        .port())
}
