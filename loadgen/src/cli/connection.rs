//! Where the gateway, its program and the participants are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use loadgen::client::{Caller, Protocol, Target};
use loadgen::config::Config;
use loadgen::local::LocalDatabase;
use loadgen::participants::{self, Participant};

/// Where the gateway and the participants are.
#[derive(Debug, Args)]
pub(super) struct ConnectionArgs {
    /// File with settings for everything below; what is given here wins.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Folder with the participants' certificates and keys, as `efgs init` writes it.
    #[arg(long, value_name = "DIR")]
    pub(super) pki: Option<PathBuf>,
    /// Gateway, https://HOST:PORT, or http://HOST:PORT for its proxy mode; may be repeated.
    #[arg(long, value_name = "URL")]
    pub(super) target: Vec<String>,
    /// Speak HTTP/2 instead of HTTP/1.1.
    #[arg(long)]
    pub(super) http2: bool,
    /// Timeout of a request, in seconds.
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub(super) timeout_seconds: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum DatabaseArg {
    Sqlite,
    Mysql,
}

/// The database of a private gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LocalArg {
    Sqlite,
    Mysql,
    Galera,
}

impl From<LocalArg> for LocalDatabase {
    fn from(database: LocalArg) -> Self {
        match database {
            LocalArg::Sqlite => Self::Sqlite,
            LocalArg::Mysql => Self::MariaDb,
            LocalArg::Galera => Self::Galera,
        }
    }
}

/// Participants and gateways, ready.
pub(super) struct Clients {
    pub(super) participants: Arc<Vec<Participant>>,
    pub(super) callers: Vec<Arc<Caller>>,
    pub(super) targets: Vec<Target>,
}

impl ConnectionArgs {
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        Ok(match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        })
    }

    pub(super) fn pki<'a>(&'a self, config: &'a Config) -> anyhow::Result<&'a Path> {
        let pki = self.pki.as_ref().or(config.pki.as_ref());
        let pki = pki.context("give --pki DIR, the folder that `efgs init` wrote")?;
        Ok(pki)
    }

    pub(super) fn targets(&self, config: &Config) -> anyhow::Result<Vec<String>> {
        let targets = match self.target.is_empty() {
            true => config.targets.clone().into_vec(),
            false => self.target.clone(),
        };
        if targets.is_empty() {
            bail!("give --target URL, as in https://localhost:8443");
        }
        Ok(targets)
    }

    pub(super) const fn protocol(&self) -> Protocol {
        if self.http2 {
            Protocol::Http2
        } else {
            Protocol::Http1
        }
    }

    pub(super) fn clients(&self, config: &Config) -> anyhow::Result<Clients> {
        let pki = self.pki(config)?;
        let targets = parse_targets(&self.targets(config)?)?;
        let protocol = self.protocol();
        let participants = participants::read(pki)?;
        let server_ca = participants::read_server_ca(pki)?;
        let caller = |participant| Caller::new(participant, &server_ca, protocol).map(Arc::new);
        let callers = participants.iter().map(caller).collect::<Result<_, _>>()?;
        Ok(Clients {
            participants: Arc::new(participants),
            callers,
            targets,
        })
    }
}

pub(super) fn beside_this_program() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("efgs"))
}

pub(super) fn check_program(path: &Path) -> anyhow::Result<()> {
    ensure!(
        path.is_file(),
        "{} is no program: build it with `cargo build --release`, or give --efgs PATH",
        path.display()
    );
    Ok(())
}

pub(super) fn parse_targets(texts: &[String]) -> anyhow::Result<Vec<Target>> {
    let targets = texts.iter().map(|text| Target::parse(text));
    Ok(targets.collect::<Result<_, _>>()?)
}
