//! What the chain of the log needs beside the rows themselves: the mark that retention leaves, and
//! what operators have accepted.

use std::collections::HashSet;
use std::sync::Arc;

use super::columns::{Rows, link};
use super::session::Store;
use crate::database::{Connection, SqlError};
use crate::domain::Seq;
use crate::log_chain::{Accepted, ChainKey, LinkDigest};

/// The row of `installation` with the mark of retention: position, link and what vouches for both.
const FORGOTTEN: &str = "chain forgotten";
/// How names of rows of `installation` begin that hold what an operator has accepted.
const ACCEPTED: &str = "chain accepted ";

/// How far retention has deleted rows, as a gateway has vouched for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Forgotten {
    pub(crate) to: Seq,
    /// The link of the last of them.
    pub(crate) last: Option<LinkDigest>,
}

impl Store {
    /// The mark of retention; one that nobody has vouched for counts as none.
    pub(crate) fn forgotten(&mut self, key: &ChainKey) -> Result<Forgotten, SqlError> {
        let value = self.installation_value(FORGOTTEN)?;
        Ok(value
            .and_then(|value| read_mark(key, &value))
            .unwrap_or_default())
    }

    /// What operators have accepted although it does not fit.
    pub(crate) fn accepted(&mut self) -> Result<Accepted, SqlError> {
        let sql = "SELECT name, value FROM installation";
        let mut accepted = HashSet::new();
        self.0.each(sql, &[], &mut |row| {
            if row.bytes(0)?.starts_with(ACCEPTED.as_bytes()) {
                accepted.insert(row.array(1)?);
            }
            Ok(())
        })?;
        Ok(Arc::new(accepted))
    }

    /// Accepts a row that does not fit, as it is.
    pub(crate) fn accept(&mut self, acceptance: &[u8; 32]) -> Result<(), SqlError> {
        let (begin, _) = acceptance
            .split_first_chunk()
            .expect("32 bytes are more than 8");
        let name = format!("{ACCEPTED}{:016x}", u64::from_be_bytes(*begin));
        self.agree_on(&name, acceptance).map(|_| ())
    }

    /// The link of the row before a position; that of the last row that retention has deleted if
    /// it comes next.
    pub(crate) fn link_before(
        &mut self,
        seq: Seq,
        key: &ChainKey,
    ) -> Result<Option<LinkDigest>, SqlError> {
        let forgotten = self.forgotten(key)?;
        let sql = "SELECT seq, chain FROM upload_log WHERE seq < ? ORDER BY seq DESC LIMIT 1";
        let row = self.0.first(sql, &[seq.0.into()])?;
        let read = |row| LINKS.read(row, |row| Ok((Seq(row.number(0)?), link(row, 1)?)));
        Ok(match row.map(read).transpose()? {
            Some((before, link)) if before > forgotten.to => link.map(|link| link.digest),
            _ => forgotten.last,
        })
    }
}

/// Moves the mark of retention, within its transaction.
pub(super) fn move_mark(
    c: &mut dyn Connection,
    key: &ChainKey,
    forgotten: Forgotten,
) -> Result<(), SqlError> {
    let delete = "DELETE FROM installation WHERE name = ?";
    c.execute(delete, &[FORGOTTEN.into()])?;
    let insert = "INSERT INTO installation (name, value) VALUES (?, ?)";
    let value = mark_bytes(key, forgotten);
    c.execute(insert, &[FORGOTTEN.into(), value.as_slice().into()])
        .map(|_| ())
}

fn mark_bytes(key: &ChainKey, Forgotten { to, last }: Forgotten) -> Vec<u8> {
    let mut bytes = to.0.to_be_bytes().to_vec();
    bytes.extend_from_slice(&key.forgotten(to, last));
    bytes.extend_from_slice(last.as_ref().map_or(&[][..], |last| &last.0));
    bytes
}

fn read_mark(key: &ChainKey, bytes: &[u8]) -> Option<Forgotten> {
    let (to, rest) = bytes.split_first_chunk()?;
    let (vouched, last) = rest.split_first_chunk::<32>()?;
    let to = Seq(u64::from_be_bytes(*to));
    let last = match last {
        [] => None,
        last => Some(LinkDigest(last.try_into().ok()?)),
    };
    (key.forgotten(to, last) == *vouched).then_some(Forgotten { to, last })
}

const LINKS: Rows = Rows {
    table: "upload_log",
    columns: &["seq", "chain"],
    key: &[0],
};
