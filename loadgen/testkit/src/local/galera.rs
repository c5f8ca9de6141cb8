//! A private Galera cluster on loopback: three MariaDB nodes, state transfer by rsync.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::error::LocalError;
use super::mariadb::{ClusterNode, MariaDb, data, free_port, random_password};
use super::program::{find_program, tail};
use crate::poll::holds_within;

const NODES: usize = 3;
const PACKAGE: &str = "galera-4";
const PROVIDERS: [&str; 4] = [
    "/usr/lib/galera/libgalera_smm.so",
    "/usr/lib64/galera-4/libgalera_smm.so",
    "/usr/lib64/galera/libgalera_smm.so",
    "/usr/local/lib/libgalera_smm.so",
];
/// The system's user for servers that root starts: rsync, as root, would write as nobody.
const USER: &str = "mysql";
/// A node has the others' writes by then, after a full state transfer on a busy machine.
const MEMBER_WITHIN: Duration = Duration::from_secs(60);
/// A node that does not answer is out of the cluster after four seconds at most. A node is suspected
/// only after it has missed several signs of life.
const TIMEOUTS: &str = "evs.keepalive_period=PT0.5S;evs.inactive_check_period=PT0.5S;\
     evs.suspect_timeout=PT2S;evs.inactive_timeout=PT4S;evs.install_timeout=PT4S;\
     gcache.size=32M;gmcast.peer_timeout=PT2S";

/// A cluster of three nodes. Dropping it ends them and removes their data.
#[derive(Debug)]
pub struct Galera {
    nodes: Vec<MariaDb>,
}

/// Where a node talks to the others.
#[derive(Debug, Clone, Copy)]
struct Ports {
    group: u16,
    incremental: u16,
    full: u16,
}

impl Galera {
    /// Starts the nodes, all with the data of the first, so that none has to wait for a transfer.
    ///
    /// # Errors
    /// [`LocalError::Missing`] says what to install.
    pub fn start() -> Result<Self, LocalError> {
        let provider = provider()?;
        let ports = (0..NODES).map(|_| Ports::free());
        let ports = ports.collect::<Result<Vec<_>, _>>()?;
        let password = random_password();
        let user = rustix::process::geteuid().is_root().then_some(USER);
        let nodes = (0..NODES).map(|number| {
            MariaDb::node(ClusterNode {
                folder: folder_of(user, number == 0)?,
                user,
                password: password.clone(),
                options: options(&provider, &ports, number),
                is_first: number == 0,
            })
        });
        let mut cluster = Self {
            nodes: nodes.collect::<Result<_, _>>()?,
        };
        cluster.nodes[0].start_once_with(&["--wsrep-new-cluster".to_owned()])?;
        cluster.wait_until_member(0)?;
        cluster.nodes[0].create_user()?;
        cluster.nodes[0].stop()?;
        for number in 1..NODES {
            cluster.copy_first_to(number)?;
        }
        cluster.bootstrap()?;
        Ok(cluster)
    }

    /// How many nodes it has.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A cluster has nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node.
    pub fn node(&self, number: usize) -> &MariaDb {
        &self.nodes[number]
    }

    /// A node, to kill or stop it.
    pub fn node_mut(&mut self, number: usize) -> &mut MariaDb {
        &mut self.nodes[number]
    }

    /// Where a database is, on nodes in this order.
    pub fn url(&self, order: &[usize], database: &str) -> String {
        let url = self.nodes[order[0]].url(database);
        let hosts = order.iter().map(|number| self.address(*number));
        let hosts = hosts.collect::<Vec<_>>().join(",");
        url.replace(&self.address(order[0]), &hosts)
    }

    fn address(&self, number: usize) -> String {
        format!("127.0.0.1:{}", self.nodes[number].port())
    }

    fn copy_first_to(&self, number: usize) -> Result<(), LocalError> {
        let (from, to) = (&self.nodes[0], &self.nodes[number]);
        let to = data(to.folder());
        let mut command = Command::new("cp");
        command
            .arg("-a")
            .arg(data(from.folder()).join("."))
            .arg(&to);
        let status = command.status().map_err(LocalError::io("cannot run cp"))?;
        // Nodes are distinguished by it.
        std::fs::remove_file(to.join("gvwstate.dat")).ok();
        match status.success() {
            true => Ok(()),
            false => Err(LocalError::Failed {
                what: "cannot copy a data directory".to_owned(),
                why: status.to_string(),
            }),
        }
    }

    /// Starts a node that has ended, as its service does: it says what it has. Waits until it is a
    /// member that has everything.
    ///
    /// # Errors
    /// When it does not become one.
    pub fn rejoin(&mut self, number: usize) -> Result<(), LocalError> {
        let (uuid, seqno) = self.recovered(number)?;
        self.join(number, &uuid, seqno)
    }

    /// The same without what it had: it gets everything from another node.
    ///
    /// # Errors
    /// When it does not become a member.
    pub fn rejoin_from_scratch(&mut self, number: usize) -> Result<(), LocalError> {
        self.nodes[number].restart()?;
        self.wait_until_member(number)
    }

    fn join(&mut self, number: usize, uuid: &str, seqno: i64) -> Result<(), LocalError> {
        let position = format!("--wsrep-start-position={uuid}:{seqno}");
        self.nodes[number].start_once_with(&[position])?;
        self.wait_until_member(number)
    }

    /// Waits until a node is a member with everything.
    ///
    /// # Errors
    /// When it does not become one within a minute.
    pub fn wait_until_member(&self, number: usize) -> Result<(), LocalError> {
        match holds_within(MEMBER_WITHIN, || self.is_member(number)) {
            true => Ok(()),
            false => Err(LocalError::Failed {
                what: format!("node {number} does not join"),
                why: tail(&self.nodes[number].log()),
            }),
        }
    }

    /// Whether a node is in the primary component and has everything.
    pub fn is_member(&self, number: usize) -> bool {
        let is = |name, value: &str| self.nodes[number].status(name).as_deref() == Some(value);
        is("wsrep_cluster_status", "Primary") && is("wsrep_local_state", "4")
    }

    /// Cuts a node off from the others, or connects it again: alone, it is in no primary component.
    ///
    /// # Errors
    /// When the node refuses.
    pub fn isolate(&self, number: usize, is_isolated: bool) -> Result<(), LocalError> {
        let isolate = u8::from(is_isolated);
        let set = format!("SET GLOBAL wsrep_provider_options = 'gmcast.isolate={isolate}'");
        self.nodes[number].run(&set)
    }

    /// Starts a cluster whose nodes have all ended: from the one that has most.
    ///
    /// # Errors
    /// When a node does not start.
    pub fn bootstrap(&mut self) -> Result<(), LocalError> {
        let ends = (0..self.len()).map(|number| self.recovered(number));
        let ends = ends.collect::<Result<Vec<_>, _>>()?;
        let first = (0..self.len()).max_by_key(|number| ends[*number].1);
        let first = first.unwrap_or(0);
        let (uuid, seqno) = &ends[first];
        let state = format!(
            "# GALERA saved state\nversion: 2.1\nuuid: {uuid}\nseqno: {seqno}\nsafe_to_bootstrap: 1\n"
        );
        let folder = data(self.nodes[first].folder());
        let written = std::fs::write(folder.join("grastate.dat"), state);
        written.map_err(LocalError::io("cannot write grastate.dat"))?;
        for node in &self.nodes {
            // Of the component that was; its absence is no failure.
            std::fs::remove_file(data(node.folder()).join("gvwstate.dat")).ok();
        }
        let position = format!("--wsrep-start-position={uuid}:{seqno}");
        self.nodes[first].start_once_with(&["--wsrep-new-cluster".to_owned(), position])?;
        // It takes connections before it takes queries (1047).
        self.wait_until_member(first)?;
        for number in (0..self.len()).filter(|number| *number != first) {
            let (uuid, seqno) = &ends[number];
            self.join(number, uuid, *seqno)?;
        }
        // A donor is no full member while it gives its state.
        (0..self.len()).try_for_each(|number| self.wait_until_member(number))
    }

    /// The last transaction that a node has, as `mariadbd --wsrep-recover` says.
    fn recovered(&self, number: usize) -> Result<(String, i64), LocalError> {
        let node = &self.nodes[number];
        let mut command = Command::new(node.program());
        command.args(node.arguments()).arg("--wsrep-recover");
        let output = command.stdin(Stdio::null()).output();
        let output = output.map_err(LocalError::io("cannot run mariadbd --wsrep-recover"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let position = said.split("Recovered position: ").nth(1);
        let position = position.and_then(|text| text.split_whitespace().next());
        position
            .and_then(|text| text.rsplit_once(':'))
            .and_then(|(uuid, seqno)| Some((uuid.to_owned(), seqno.parse().ok()?)))
            .ok_or_else(|| LocalError::Failed {
                what: format!("node {number} does not say what it has"),
                why: said
                    .chars()
                    .rev()
                    .take(500)
                    .collect::<String>()
                    .chars()
                    .rev()
                    .collect(),
            })
    }
}

impl Ports {
    fn free() -> Result<Self, LocalError> {
        Ok(Self {
            group: free_port()?,
            incremental: free_port()?,
            full: free_port()?,
        })
    }
}

fn provider() -> Result<PathBuf, LocalError> {
    let missing = |program, package| LocalError::Missing { program, package };
    if find_program(&["rsync"]).is_none() {
        return Err(missing("rsync", "rsync"));
    }
    let mut known = PROVIDERS.iter().map(PathBuf::from);
    known
        .find(|path| path.is_file())
        .ok_or_else(|| missing("libgalera_smm.so", PACKAGE))
}

/// A folder that the servers' user may enter and write.
fn folder_of(user: Option<&'static str>, is_first: bool) -> Result<TempDir, LocalError> {
    let failed = || LocalError::io("cannot create a data directory for MariaDB");
    let folder = tempfile::Builder::new().prefix("galera").tempdir();
    let folder = folder.map_err(failed())?;
    let data = data(folder.path());
    if !is_first {
        std::fs::create_dir(&data).map_err(failed())?;
    }
    if let Some(user) = user {
        let owner = Command::new("id").args(["-u", user]).output();
        let owner = owner.map_err(LocalError::io("cannot run id"))?.stdout;
        let owner = String::from_utf8_lossy(&owner).trim().parse().ok();
        for path in [folder.path(), data.as_path()] {
            if path.exists() {
                std::os::unix::fs::chown(path, owner, None).map_err(failed())?;
            }
        }
    }
    Ok(folder)
}

fn options(provider: &Path, ports: &[Ports], number: usize) -> Vec<String> {
    let own = ports[number];
    let all = ports
        .iter()
        .map(|ports| format!("127.0.0.1:{}", ports.group));
    let all = all.collect::<Vec<_>>().join(",");
    // The last node, which gateways use last, gives its state to others.
    let donor = if number + 1 == ports.len() {
        number - 1
    } else {
        ports.len() - 1
    };
    let talk = format!(
        "gmcast.listen_addr=tcp://127.0.0.1:{};ist.recv_addr=127.0.0.1:{};{TIMEOUTS}",
        own.group, own.incremental
    );
    vec![
        "--wsrep-on=ON".to_owned(),
        format!("--wsrep-provider={}", provider.display()),
        format!("--wsrep-cluster-address=gcomm://{all}"),
        "--wsrep-cluster-name=efgs".to_owned(),
        format!("--wsrep-node-name=node{number}"),
        "--wsrep-node-address=127.0.0.1".to_owned(),
        "--wsrep-sst-method=rsync".to_owned(),
        format!("--wsrep-sst-receive-address=127.0.0.1:{}", own.full),
        format!("--wsrep-sst-donor=node{donor},"),
        format!("--wsrep-provider-options={talk}"),
        "--binlog-format=ROW".to_owned(),
        "--innodb-autoinc-lock-mode=2".to_owned(),
        "--innodb-log-file-size=32M".to_owned(),
    ]
}
