//! A private gateway with its database, and the clients of all participants.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::MeasureError;
use crate::client::{Caller, Protocol, Target};
use crate::local::{Gateway, GatewayOptions, MariaDb, initialise};
use crate::participants::{self, Participant};

const DATABASE_NAME: &str = "efgs";

/// Which database the gateway uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// The embedded one.
    Sqlite,
    /// A private MariaDB server.
    Mysql,
}

/// The gateway and its clients.
pub(super) struct TestBed {
    pub(super) folder: PathBuf,
    pub(super) gateway: Gateway,
    pub(super) participants: Arc<Vec<Participant>>,
    pub(super) callers: Vec<Arc<Caller>>,
}

impl TestBed {
    pub(super) fn start(
        efgs: &Path,
        database: Database,
        folder: &Path,
    ) -> Result<(Option<MariaDb>, Self), MeasureError> {
        let database = match database {
            Database::Mysql => Some(MariaDb::start(folder)?),
            Database::Sqlite => None,
        };
        if let Some(database) = &database {
            database.create_database(DATABASE_NAME)?;
        }
        let home = folder.join("efgs");
        let url = database
            .as_ref()
            .map(|database| database.url(DATABASE_NAME));
        initialise(efgs, &home, url.as_deref())?;
        let gateway = Gateway::start(GatewayOptions::new(efgs, &home))?;
        let participants = participants::read(&home.join("pki"))?;
        let server_ca = participants::read_server_ca(&home.join("pki"))?;
        let caller = |one| Caller::new(one, &server_ca, Protocol::Http1).map(Arc::new);
        let callers = participants.iter().map(caller).collect::<Result<_, _>>()?;
        let test_bed = Self {
            folder: home,
            gateway,
            participants: Arc::new(participants),
            callers,
        };
        Ok((database, test_bed))
    }

    pub(super) fn target(&self) -> Target {
        self.gateway.target()
    }
}
