//! A private MariaDB server, durable as an operator would run it.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::authority::DatabaseAuthority;
use super::error::LocalError;
use super::process::Process;
use super::program::{READY_WITHIN, find_program, tail};
use crate::poll::poll;
use crate::ports;

/// How long the server may take to flush its buffers on shutdown.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(30);
const PACKAGE: &str = "mariadb-server";
const USER: &str = "efgs";
/// If set, every private server requires TLS, and its URLs have what is needed for it.
const TLS_VARIABLE: &str = "EFGS_TEST_DATABASE_TLS";
/// The name of the server's certificate, among the files of its authority.
const CERTIFICATE: &str = "server";

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
    /// The system's user that it runs as, when started by root.
    user: Option<&'static str>,
    /// Who has issued its certificate, if it requires TLS.
    authority: Option<Box<DatabaseAuthority>>,
    folder: TempDir,
}

impl MariaDb {
    /// Creates a data directory in a new folder under `parent` (about 115 MB, half a second) and
    /// starts a server on a free port of 127.0.0.1. It requires TLS if the environment has
    /// `EFGS_TEST_DATABASE_TLS`.
    ///
    /// # Errors
    /// [`LocalError::Missing`] says what to install.
    pub fn start(parent: &Path) -> Result<Self, LocalError> {
        Self::start_in(parent, std::env::var_os(TLS_VARIABLE).is_some())
    }

    /// The same of a server that requires TLS, except through its socket.
    ///
    /// # Errors
    /// [`LocalError::Missing`] says what to install.
    pub fn start_with_tls(parent: &Path) -> Result<Self, LocalError> {
        Self::start_in(parent, true)
    }

    fn start_in(parent: &Path, with_tls: bool) -> Result<Self, LocalError> {
        let program = find_program(&["mariadbd", "mysqld"]).ok_or(LocalError::Missing {
            program: "mariadbd",
            package: PACKAGE,
        })?;
        let folder = tempfile::Builder::new()
            .prefix("db")
            .tempdir_in(parent)
            .map_err(LocalError::io("cannot create a data directory for MariaDB"))?;
        install(folder.path(), run_as())?;
        let authority = with_tls.then(|| {
            let authority = DatabaseAuthority::make(folder.path())?;
            authority.issue(CERTIFICATE, &["127.0.0.1"], 1)?;
            Ok::<_, LocalError>(Box::new(authority))
        });
        let mut server = Self {
            process: None,
            program,
            port: free_port()?,
            password: random_password(),
            options: Vec::new(),
            user: run_as(),
            authority: authority.transpose()?,
            folder,
        };
        server.restart()?;
        server.create_user()?;
        Ok(server)
    }

    /// A node of a cluster in a folder that belongs to its user; not started yet. The first has a
    /// data directory, others get theirs from it.
    pub(super) fn node(node: ClusterNode) -> Result<Self, LocalError> {
        let program = find_program(&["mariadbd", "mysqld"]).ok_or(LocalError::Missing {
            program: "mariadbd",
            package: PACKAGE,
        })?;
        if node.is_first {
            install(node.folder.path(), node.user)?;
        }
        Ok(Self {
            process: None,
            program,
            port: free_port()?,
            password: node.password,
            options: node.options,
            user: node.user,
            authority: None,
            folder: node.folder,
        })
    }

    /// Starts it once with further options.
    pub(super) fn start_once_with(&mut self, options: &[String]) -> Result<(), LocalError> {
        let own = self.options.len();
        self.options.extend_from_slice(options);
        let started = self.restart();
        self.options.truncate(own);
        started
    }

    /// Shuts it down gracefully. Its data remain.
    ///
    /// # Errors
    /// When the process cannot be signalled.
    pub fn stop(&mut self) -> Result<(), LocalError> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let ended = process.terminate(SHUTDOWN_WITHIN);
        ended
            .map(drop)
            .map_err(LocalError::io("cannot end MariaDB"))
    }

    /// A variable of its status, if it answers.
    pub fn status(&self, name: &str) -> Option<String> {
        let row: Option<(String, String)> = self
            .root()
            .ok()?
            .query_first(format!("SHOW GLOBAL STATUS LIKE '{name}'"))
            .ok()?;
        row.map(|(_, value)| value)
    }

    /// Where a database of this server is: `mysql://USER:PASSWORD@127.0.0.1:PORT/NAME`, and the file
    /// of its authority if it requires TLS.
    pub fn url(&self, database: &str) -> String {
        let authority = self.authority.as_ref();
        let tls = authority.map(|authority| format!("?tls_ca={}", authority.ca().display()));
        format!(
            "mysql://{USER}:{}@127.0.0.1:{}/{database}{}",
            self.password,
            self.port,
            tls.unwrap_or_default()
        )
    }

    /// Who has issued its certificate, if it requires TLS.
    pub fn authority(&self) -> Option<&DatabaseAuthority> {
        self.authority.as_deref()
    }

    /// Has its authority issue a certificate for these hosts, which ends in some days, or has ended;
    /// the server uses it for new connections.
    ///
    /// # Errors
    /// When it requires no TLS, or refuses.
    pub fn renew_certificate(&self, hosts: &[&str], days: i64) -> Result<(), LocalError> {
        let Some(authority) = &self.authority else {
            return Err(LocalError::Failed {
                what: "cannot renew a certificate".to_owned(),
                why: "the server has none".to_owned(),
            });
        };
        authority.issue(CERTIFICATE, hosts, days)?;
        self.run("FLUSH SSL")
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

    /// The number that a query gives.
    ///
    /// # Errors
    /// When the server refuses the query.
    pub fn number(&self, query: &str) -> Result<u64, LocalError> {
        let number: Option<u64> = self.root()?.query_first(query)?;
        Ok(number.unwrap_or(0))
    }

    /// How many connections it has been asked for since it started, those of this value included.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn connection_count(&self) -> Result<u64, LocalError> {
        let row: Option<(String, u64)> = self
            .root()?
            .query_first("SHOW GLOBAL STATUS LIKE 'Connections'")?;
        Ok(row.map_or(0, |(_, count)| count))
    }

    /// Stops the process without ending it, as a machine whose disk hangs does: connections are
    /// open and accepted, and nothing is answered. It continues when the value is dropped.
    ///
    /// # Errors
    /// When the process cannot be stopped.
    pub fn freeze(&self) -> Result<Frozen, LocalError> {
        let id = self.process_id().and_then(|id| i32::try_from(id).ok());
        let refused = LocalError::io("cannot stop MariaDB");
        let Some(id) = id.and_then(Pid::from_raw) else {
            return Err(refused(io::ErrorKind::NotFound.into()));
        };
        kill_process(id, Signal::STOP).map_err(|error| refused(error.into()))?;
        Ok(Frozen(id))
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
        self.stop()?;
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
            .args(self.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Ok(command)
    }

    pub(super) fn arguments(&self) -> Vec<String> {
        let folder = self.folder.path();
        let user = self.user.map(|user| format!("--user={user}"));
        let own = [
            format!("--datadir={}", data(folder).display()),
            // Names of temporary files contain the process id, which is unique only within a
            // container: two servers that share /tmp delete each other's.
            format!("--tmpdir={}", folder.display()),
            format!("--socket={}", self.socket().display()),
            format!("--pid-file={}", folder.join("pid").display()),
            format!("--port={}", self.port),
        ];
        let fixed = [
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--innodb-flush-log-at-trx-commit=1",
            "--innodb-buffer-pool-size=128M",
            "--max-allowed-packet=16M",
        ];
        let mut arguments = vec!["--no-defaults".to_owned()];
        arguments.extend(user);
        arguments.extend(own);
        arguments.extend(fixed.map(str::to_owned));
        if let Some(authority) = &self.authority {
            let file = |name: &str| {
                folder
                    .join(format!("{CERTIFICATE}.{name}"))
                    .display()
                    .to_string()
            };
            arguments.extend([
                format!("--ssl-ca={}", authority.ca().display()),
                format!("--ssl-cert={}", file("pem")),
                format!("--ssl-key={}", file("key")),
                "--require-secure-transport=ON".to_owned(),
            ]);
        }
        arguments.extend(self.options.iter().cloned());
        arguments
    }

    /// A user with a password for the gateway; the installation's users without one may come
    /// through the socket only, which is in a folder of our own.
    pub(super) fn create_user(&self) -> Result<(), LocalError> {
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

    /// A connection of the server's administrator to a database.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn connect(&self, database: &str) -> Result<Conn, LocalError> {
        let mut connection = self.root()?;
        connection.query_drop(format!("USE {database}"))?;
        Ok(connection)
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

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

/// What a node of a cluster is made of.
#[derive(Debug)]
pub(super) struct ClusterNode {
    pub(super) folder: TempDir,
    pub(super) user: Option<&'static str>,
    pub(super) password: String,
    pub(super) options: Vec<String>,
    pub(super) is_first: bool,
}

pub(super) fn random_password() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Blocked writes: see [`MariaDb::hold_writes`].
#[derive(Debug)]
pub struct HeldWrites {
    _connection: Conn,
}

/// A stopped server: see [`MariaDb::freeze`].
#[derive(Debug)]
pub struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        // Fails only when the process has been killed meanwhile.
        kill_process(self.0, Signal::CONT).ok();
    }
}

pub(super) fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// MariaDB refuses to run as root unless it is told to.
fn run_as() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("root")
}

/// Fills a data directory. The installation takes seconds, a copy of one that was made before does not:
/// the first is kept beside the program that runs.
fn install(folder: &Path, user: Option<&str>) -> Result<(), LocalError> {
    // What another user runs must be that user's.
    let template = template().filter(|_| user == run_as());
    let Some(template) = template else {
        return install_anew(folder, user);
    };
    if !template.exists() {
        let beside = template.parent().unwrap_or_else(|| Path::new("."));
        let whole = tempfile::Builder::new()
            .prefix("db")
            .tempdir_in(beside)
            .map_err(LocalError::io("cannot create a data directory for MariaDB"))?;
        install_anew(whole.path(), user)?;
        // Somebody else may have been faster, and their copy is as good.
        let _ = fs::rename(data(whole.path()), &template);
    }
    copy_folder(&template, &data(folder)).map_err(LocalError::io("cannot copy MariaDB's data"))
}

/// Where the first installation of this server is kept, if there is such a place.
fn template() -> Option<PathBuf> {
    let server = fs::metadata(find_program(&["mariadbd", "mysqld"])?).ok()?;
    let (bytes, made) = (server.len(), server.modified().ok()?);
    let made = made.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    let probe = tempfile::tempfile_in(folder);
    probe.ok()?;
    Some(folder.join(format!("mariadb-{bytes:x}-{made:x}")))
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn install_anew(folder: &Path, user: Option<&str>) -> Result<(), LocalError> {
    let program =
        find_program(&["mariadb-install-db", "mysql_install_db"]).ok_or(LocalError::Missing {
            program: "mariadb-install-db",
            package: PACKAGE,
        })?;
    let output = Command::new(program)
        .arg("--no-defaults")
        .args(user.map(|user| format!("--user={user}")))
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

pub(super) fn free_port() -> Result<u16, LocalError> {
    ports::free_port().map_err(LocalError::io("no free port on 127.0.0.1"))
}
