//! A connection that fails when a test says so.

use std::fmt;
use std::sync::Arc;

use super::connection::{Connection, Dialect, Param, Row, SqlError};
use super::connector::Database;

/// A step at which a connection may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// The insertion of the upload with this tag. Alone in its group, it is the commit, too.
    Insert(&'a str),
    Commit,
    /// The log is locked.
    LockLog,
    /// A connection is opened. It fails, whatever the fault.
    Connect,
}

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Conflict,
    Refused,
    Lost,
    /// Executed, but the answer is lost.
    LostAfterwards,
}

type Plan = dyn Fn(Step<'_>) -> Option<Fault> + Send + Sync;

/// When connections fail, and how.
#[derive(Clone)]
pub(crate) struct Faults(Arc<Plan>);

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}

impl Faults {
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
    pub(crate) fn failing(
        &self,
        plan: impl Fn(Step<'_>) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        let mut failing = self.clone();
        failing.faults = Some(Faults(Arc::new(plan)));
        failing
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

    fn dialect(&self) -> &'static Dialect {
        self.inner.dialect()
    }

    fn lock_migrations(&mut self) -> Result<(), SqlError> {
        self.inner.lock_migrations()
    }

    fn unlock_migrations(&mut self) -> Result<(), SqlError> {
        self.inner.unlock_migrations()
    }

    fn check_server(&mut self, packet_bytes: usize) -> Result<Option<String>, SqlError> {
        self.inner.check_server(packet_bytes)
    }

    fn flushing_risk(&mut self) -> Result<Option<&'static str>, SqlError> {
        self.inner.flushing_risk()
    }
}
