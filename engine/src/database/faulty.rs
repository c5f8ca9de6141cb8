//! A connection that fails when a test says so. It is not in release programs.

use std::fmt;
use std::sync::Arc;

use super::cluster::Cluster;
use super::connection::{Connection, Dialect, Param, Row, SqlError};
use super::connector::Database;

/// A step at which a connection may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// The insertion of the upload with this tag. Alone in its group, it is the commit, too.
    Insert(&'a str),
    /// A transaction is committed.
    Commit,
    /// The log is locked.
    LockLog,
    /// A connection is opened. It fails, whatever the fault.
    Connect,
}

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Another transaction was faster: nothing was done, and it may be tried again.
    Conflict,
    /// The database refuses the statement.
    Refused,
    /// The connection breaks before the database has the statement.
    Lost,
    /// Executed, but the answer is lost.
    LostAfterwards,
}

type Plan = dyn Fn(Step<'_>) -> Option<Fault> + Send + Sync;

/// When connections fail, and how.
#[derive(Clone)]
pub struct Faults(Arc<Plan>);

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}

impl Faults {
    /// Faults as a plan says, which is asked before each step. It may also take its time.
    pub fn new(plan: impl Fn(Step<'_>) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self(Arc::new(plan))
    }

    /// Whether a connection can be opened.
    pub(super) fn connect(&self) -> Result<(), SqlError> {
        match (self.0)(Step::Connect) {
            None => Ok(()),
            Some(_) => Err(SqlError::Lost("away".into())),
        }
    }

    pub(super) fn wrap(&self, inner: Box<dyn Connection>) -> Faulty {
        let faults = self.clone();
        Faulty { inner, faults }
    }
}

impl Database {
    /// The same database, with connections that fail.
    #[cfg(test)]
    pub(crate) fn failing(
        &self,
        plan: impl Fn(Step<'_>) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        self.clone().with_faults(Faults::new(plan))
    }

    /// This database, with connections that fail.
    pub(crate) fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = Some(faults);
        self
    }
}

#[derive(Debug)]
pub(super) struct Faulty {
    inner: Box<dyn Connection>,
    faults: Faults,
}

impl Faulty {
    fn at<T>(
        &mut self,
        step: Step<'_>,
        work: impl FnOnce(&mut dyn Connection) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        match (self.faults.0)(step) {
            None => work(&mut *self.inner),
            Some(Fault::Conflict) => Err(SqlError::Conflict("lost a race".into())),
            Some(Fault::Refused) => Err(SqlError::Refused("refused".into())),
            Some(Fault::Lost) => Err(SqlError::Lost("not done".into())),
            Some(Fault::LostAfterwards) => {
                work(&mut *self.inner)?;
                Err(SqlError::Lost("done".into()))
            }
        }
    }
}

impl Connection for Faulty {
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, SqlError> {
        match params.get(3) {
            Some(Param::Bytes(tag)) if sql.starts_with("INSERT INTO upload_log") => {
                let tag = String::from_utf8(tag.to_vec()).expect("a tag");
                self.at(Step::Insert(&tag), |inner| inner.execute(sql, params))
            }
            _ => self.inner.execute(sql, params),
        }
    }

    fn query(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        on_row: &mut dyn FnMut(Row) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        self.inner.query(sql, params, on_row)
    }

    fn script(&mut self, sql: &str) -> Result<(), SqlError> {
        match sql {
            "COMMIT" => self.at(Step::Commit, |inner| inner.script(sql)),
            _ => self.inner.script(sql),
        }
    }

    fn shows_durable_only(&self) -> bool {
        self.inner.shows_durable_only()
    }

    fn rollback(&mut self) -> Result<(), SqlError> {
        self.inner.rollback()
    }

    fn begin(&mut self) -> Result<(), SqlError> {
        self.inner.begin()
    }

    fn begin_locking(&mut self) -> Result<(), SqlError> {
        self.at(Step::LockLog, |inner| inner.begin_locking())
    }

    fn write_out(&mut self) -> Result<(), SqlError> {
        self.inner.write_out()
    }

    fn is_server(&self) -> bool {
        self.inner.is_server()
    }

    fn dialect(&self) -> &'static Dialect {
        self.inner.dialect()
    }

    fn cluster(&self) -> Option<Cluster> {
        self.inner.cluster()
    }

    fn is_outdated(&self) -> bool {
        self.inner.is_outdated()
    }

    fn check_server(&mut self, packet_bytes: usize) -> Result<Option<String>, SqlError> {
        self.inner.check_server(packet_bytes)
    }

    fn flushing_risk(&mut self) -> Result<Option<&'static str>, SqlError> {
        self.inner.flushing_risk()
    }
}
