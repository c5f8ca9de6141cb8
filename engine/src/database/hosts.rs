//! The hosts of a server's address: tried in the order in which they are written, which all gateways
//! share, so that all of them write through one node of a cluster while it is good.
//!
//! A gateway stays with a host while it is good. When it is not, all connections go to the next that
//! is; a thread then looks after the hosts before it, and goes back once one of them has been good
//! twice. It waits for a random while between looks, so that gateways do not come back all at once.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::cluster::{Cluster, Standing};
use super::connection::{SqlError, Timeouts};
use super::current_host::{CurrentHost, HostOf};
use super::mysql::{Login, MysqlConnection};
use super::password_file::PasswordFile;
use crate::limits;
use crate::settings::ServerUrl;

/// The hosts, and which of them is used.
#[derive(Debug)]
pub(super) struct Hosts {
    logins: Vec<Login>,
    current: Arc<CurrentHost>,
    /// Whether a thread looks after the hosts before the current one.
    is_watched: AtomicBool,
}

impl Hosts {
    pub(super) fn of(server: &ServerUrl) -> Self {
        let password = server.password_file.clone();
        let password = password.map(|path| Arc::new(PasswordFile::new(path)));
        let login = |url| Login::new(url, server.tls.clone(), password.clone());
        let logins: Vec<_> = split(server.address()).into_iter().map(login).collect();
        Self {
            current: Arc::new(CurrentHost::first_of(logins.len())),
            logins,
            is_watched: AtomicBool::new(false),
        }
    }

    /// Opens a connection to the current host, or to the first other one that is good: a member of
    /// `cluster`, if the database is one.
    pub(super) fn connect(
        self: &Arc<Self>,
        timeouts: Timeouts,
        cluster: Option<Cluster>,
    ) -> Result<MysqlConnection, SqlError> {
        let current = self.current.position();
        let others = (0..self.logins.len()).filter(|host| *host != current);
        let mut first_error = None;
        let mut second_choice = None;
        for host in std::iter::once(current).chain(others) {
            match self.open(host, timeouts, cluster) {
                Ok((connection, Standing::Good)) => return Ok(self.stay(host, connection)),
                Ok((connection, Standing::Donor)) => {
                    second_choice.get_or_insert((host, connection));
                }
                Ok((_, Standing::Unfit(why))) => {
                    first_error.get_or_insert(SqlError::Lost(why.into()));
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        match (second_choice, first_error) {
            (Some((host, connection)), _) => Ok(self.stay(host, connection)),
            (None, Some(error)) => Err(error),
            (None, None) => Err(SqlError::Refused("the address names no host".into())),
        }
    }

    fn open(
        &self,
        host: usize,
        timeouts: Timeouts,
        cluster: Option<Cluster>,
    ) -> Result<(MysqlConnection, Standing), SqlError> {
        let mut connection = MysqlConnection::open(&self.logins[host], timeouts)?;
        let is_one_of_several = self.logins.len() > 1;
        let standing = connection.standing(is_one_of_several, cluster)?;
        Ok((connection, standing))
    }

    fn stay(self: &Arc<Self>, host: usize, connection: MysqlConnection) -> MysqlConnection {
        self.use_host(host);
        connection.at(HostOf::new(Arc::clone(&self.current), host))
    }

    fn use_host(self: &Arc<Self>, host: usize) {
        if self.current.change_to(host) {
            let place = self.logins[host].place();
            tracing::info!(stage = "database", host = place, "another host is used now");
        }
        if host > 0 && !self.is_watched.swap(true, Ordering::AcqRel) {
            self.watch();
        }
    }

    /// Starts the thread; without one, the first host is tried again when the current one fails.
    fn watch(self: &Arc<Self>) {
        let hosts = Arc::downgrade(self);
        let started = std::thread::Builder::new()
            .name("hosts".to_owned())
            .spawn(move || watch(&hosts));
        if started.is_err() {
            self.is_watched.store(false, Ordering::Release);
        }
    }

    /// Goes back to a host before the current one that was good at this look and the one before.
    fn look(self: &Arc<Self>, good: &mut [bool]) {
        let current = self.current.position();
        for (host, was_good) in good.iter_mut().enumerate().take(current) {
            let found = self.open(host, Timeouts::Short, None);
            let is_good = matches!(found, Ok((_, Standing::Good)));
            if is_good && *was_good {
                return self.use_host(host);
            }
            *was_good = is_good;
        }
    }

    fn uses_first(&self) -> bool {
        self.current.position() == 0
    }
}

/// Looks after the hosts until the first is used again, or nobody uses any.
fn watch(hosts: &Weak<Hosts>) {
    let count = hosts.upgrade().map_or(0, |hosts| hosts.logins.len());
    let mut good = vec![false; count];
    loop {
        std::thread::sleep(limits::HOST_LOOK_INTERVAL + random_part(limits::HOST_LOOK_INTERVAL));
        let Some(hosts) = hosts.upgrade() else { return };
        hosts.look(&mut good);
        if hosts.uses_first() {
            hosts.is_watched.store(false, Ordering::Release);
            let was_left_meanwhile = !hosts.uses_first();
            if !was_left_meanwhile || hosts.is_watched.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}

fn random_part(of: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 1024;
    of.mul_f64(f64::from(u32::try_from(random).unwrap_or(0)) / 1024.0)
}

/// One address for each host of one: `mysql://USER:PASSWORD@HOST:PORT,HOST:PORT/NAME`. A host that
/// begins with a slash, written `%2F`, is the path of a Unix socket.
fn split(url: &str) -> Vec<String> {
    let (before, place) = match url.rsplit_once('@') {
        Some((user, place)) => (format!("{user}@"), place),
        None => match url.split_once("//") {
            Some((scheme, place)) => (format!("{scheme}//"), place),
            None => return vec![url.to_owned()],
        },
    };
    let (hosts, name) = place.split_once('/').unwrap_or((place, ""));
    let one = |host: &str| match socket(host) {
        Some(path) => {
            let mark = if name.contains('?') { '&' } else { '?' };
            format!("{before}localhost/{name}{mark}socket={path}")
        }
        None => format!("{before}{host}/{name}"),
    };
    hosts.split(',').map(str::trim).map(one).collect()
}

fn socket(host: &str) -> Option<String> {
    let starts_with_slash = host.starts_with("%2F") || host.starts_with("%2f");
    starts_with_slash.then(|| host.replace("%2F", "/").replace("%2f", "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_an_address_for_each_host() {
        for (url, hosts) in [
            ("mysql://u:p@a:1/n", &["mysql://u:p@a:1/n"][..]),
            ("mysql://a/n", &["mysql://a/n"]),
            (
                "mysql://u:p@x@a:1, b,[::1]:3/n?socket=/x",
                &[
                    "mysql://u:p@x@a:1/n?socket=/x",
                    "mysql://u:p@x@b/n?socket=/x",
                    "mysql://u:p@x@[::1]:3/n?socket=/x",
                ],
            ),
            (
                "mysql://u:p@%2Frun%2Fmysqld.sock,b/n",
                &[
                    "mysql://u:p@localhost/n?socket=/run/mysqld.sock",
                    "mysql://u:p@b/n",
                ],
            ),
        ] {
            assert_eq!(split(url), hosts, "{url}");
        }
    }
}
