//! Epochs: an operator begins one after the database went back, so that gateways of the epoch
//! before stop, and numbers of download batches that may have been given out are not given again.

use super::columns::Rows;
use super::leases::revoke_leases;
use super::session::{CLUSTER, Store};
use crate::database::{BadColumn, Connection, Row, SqlError, Value};
use crate::domain::BatchTag;

/// The epoch of a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// 0 until an operator begins the first.
    pub(crate) number: u64,
    /// Download batches are numbered after this one.
    pub(crate) skipped_to: Option<BatchTag>,
}

/// The row of `installation` with the epoch: its number, and the tag after which numbers begin.
pub(super) const EPOCH: &str = "epoch";

impl Epoch {
    fn parse(text: &str) -> Option<Self> {
        let (number, tag) = match text.split_once(' ') {
            Some((number, tag)) => (number, Some(tag)),
            None => (text, None),
        };
        let tag = tag.map(BatchTag::parse).transpose().ok()?;
        Some(Self {
            number: number.parse().ok()?,
            skipped_to: tag,
        })
    }

    fn text(&self) -> String {
        match self.skipped_to {
            Some(tag) => format!("{} {tag}", self.number),
            None => self.number.to_string(),
        }
    }
}

impl Store {
    /// The epoch of the database.
    pub(crate) fn epoch(&mut self) -> Result<Epoch, SqlError> {
        read_epoch(&mut *self.0)
    }

    /// Begins an epoch, if the one before it is still `before`, and takes all leases away. False
    /// if another has been begun.
    pub(crate) fn begin_epoch(&mut self, before: &Epoch, new: &Epoch) -> Result<bool, SqlError> {
        let begun = self.0.transaction(|c| {
            revoke_leases(c)?;
            let (found, text) = (read_epoch(c)?, new.text());
            if found != *before {
                return Ok(false);
            }
            let delete = "DELETE FROM installation WHERE name = ?";
            c.execute(delete, &[EPOCH.into()])?;
            // What was restored may be a single server: the next start looks again.
            c.execute(delete, &[CLUSTER.into()])?;
            let insert = "INSERT INTO installation (name, value) VALUES (?, ?)";
            c.execute(insert, &[EPOCH.into(), text.as_str().into()])?;
            Ok(true)
        });
        match begun {
            Err(SqlError::Duplicate(_)) => Ok(false),
            other => other,
        }
    }
}

pub(super) fn read_epoch(c: &mut dyn Connection) -> Result<Epoch, SqlError> {
    let sql = "SELECT value, name FROM installation WHERE name = ?";
    let Some(row) = c.first(sql, &[EPOCH.into()])? else {
        return Ok(Epoch::default());
    };
    INSTALLATION.read(row, |row| epoch_or_first(row, 0))
}

/// A column that holds the epoch, or null before the first was begun.
pub(super) fn epoch_or_first(row: &Row, column: usize) -> Result<Epoch, BadColumn> {
    if row.0[column] == Value::Null {
        return Ok(Epoch::default());
    }
    Epoch::parse(row.text(column)?).ok_or(BadColumn {
        column,
        problem: "is no epoch",
    })
}

const INSTALLATION: Rows = Rows {
    table: "installation",
    columns: &["value", "name"],
    key: &[1],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let tag = BatchTag::parse("20201007-17").unwrap();
        for (epoch, text) in [
            (Epoch::default(), "0"),
            (
                Epoch {
                    number: 3,
                    skipped_to: Some(tag),
                },
                "3 20201007-17",
            ),
        ] {
            assert_eq!(epoch.text(), text);
            assert_eq!(Epoch::parse(text), Some(epoch));
        }
        for text in ["", "x", "1 ", "1 20201007", "-1"] {
            assert_eq!(Epoch::parse(text), None, "{text:?}");
        }
    }
}
