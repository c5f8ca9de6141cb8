//! What identifies a row of the log, so that a gateway knows whether the database still has it.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use time::OffsetDateTime;

use super::columns::{Rows, country, link, number_or_0, upload_tag};
use super::session::Store;
use crate::database::{Connection, Param, Row, SqlError};
use crate::domain::{ContentDigest, Country, RowDigest, Seq, UnixMillis, UploadTag};
use crate::log_chain::Link;

/// The columns that distinguish a row from any other that could stand at its position: in a database that
/// went back and then on differently, one of them differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogMark {
    pub(crate) seq: Seq,
    pub(crate) created_at: UnixMillis,
    pub(crate) country: Country,
    pub(crate) tag: UploadTag,
    pub(crate) key_count: u32,
    pub(crate) content: ContentDigest,
    /// Identifies all rows before it, too.
    pub(crate) link: Option<Link>,
}

impl LogMark {
    /// SHA-256 over all of it.
    pub(crate) fn digest(&self) -> RowDigest {
        let mut sha256 = Context::new(&SHA256);
        sha256.update(&self.seq.0.to_be_bytes());
        sha256.update(&self.created_at.0.to_be_bytes());
        sha256.update(&self.country.letters());
        sha256.update(&u64::from(self.key_count).to_be_bytes());
        sha256.update(&self.content.0);
        // State files remember rows from before the chain.
        sha256.update(&self.link_bytes());
        // The only part of variable length, so it comes last.
        sha256.update(self.tag.as_str().as_bytes());
        RowDigest::of(sha256.finish().as_ref())
    }

    /// Where it is, for sentences about it.
    pub(crate) fn place(&self) -> String {
        let (tag, country, seq) = (&self.tag, self.country, self.seq.0);
        format!("upload {tag} of {country} at position {seq}")
    }

    /// In the order of the conditions of an append.
    pub(super) fn params<'a>(&'a self, link: &'a [u8]) -> [Param<'a>; 7] {
        [
            self.seq.0.into(),
            self.created_at.0.into(),
            self.country.as_str().into(),
            self.tag.as_str().into(),
            u64::from(self.key_count).into(),
            self.content.0.as_slice().into(),
            link.into(),
        ]
    }

    /// The link as it is stored.
    pub(super) fn link_bytes(&self) -> Vec<u8> {
        self.link
            .map_or_else(Vec::new, |link| link.to_bytes().to_vec())
    }
}

/// For an operator who looks for the row.
impl fmt::Display for LogMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "position {}: upload {} of {}, stored ",
            self.seq.0, self.tag, self.country
        )?;
        let seconds = i64::try_from(self.created_at.seconds()).ok();
        match seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok()) {
            Some(at) => {
                let (hour, minute, second) = at.time().as_hms();
                write!(f, "{} {hour:02}:{minute:02}:{second:02} UTC", at.date())
            }
            None => write!(f, "at {} ms", self.created_at.0),
        }
    }
}

impl Store {
    /// The row at a position.
    pub(crate) fn log_mark(&mut self, seq: Seq) -> Result<Option<LogMark>, SqlError> {
        read_log_mark(&mut *self.0, seq)
    }

    /// The last row of the log.
    pub(crate) fn last_log_mark(&mut self) -> Result<Option<LogMark>, SqlError> {
        let sql = "SELECT seq, created_at_ms, country, upload_tag, key_count, content_digest, \
             chain FROM upload_log ORDER BY seq DESC LIMIT 1";
        self.0.first(sql, &[])?.map(log_mark).transpose()
    }

    /// Up to this position, retention has deleted rows.
    pub(crate) fn forgotten_to(&mut self) -> Result<Seq, SqlError> {
        let sql = "SELECT COALESCE(MAX(forgotten_to), 0) FROM cleanup_statistics";
        let row = self.0.first(sql, &[])?;
        number_or_0(row.as_ref(), 0).map(Seq)
    }
}

pub(super) fn read_log_mark(c: &mut dyn Connection, seq: Seq) -> Result<Option<LogMark>, SqlError> {
    let sql = "SELECT seq, created_at_ms, country, upload_tag, key_count, content_digest, \
         chain FROM upload_log WHERE seq = ?";
    c.first(sql, &[seq.0.into()])?.map(log_mark).transpose()
}

const MARKS: Rows = Rows {
    table: "upload_log",
    columns: &[
        "seq",
        "created_at_ms",
        "country",
        "upload_tag",
        "key_count",
        "content_digest",
        "chain",
    ],
    key: &[0],
};

fn log_mark(row: Row) -> Result<LogMark, SqlError> {
    MARKS.read(row, |row| {
        Ok(LogMark {
            seq: Seq(row.number(0)?),
            created_at: UnixMillis(row.number(1)?),
            country: country(row, 2)?,
            tag: upload_tag(row, 3)?,
            key_count: row.number_32(4)?,
            content: ContentDigest(row.array(5)?),
            link: link(row, 6)?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differs_wherever_one_column_does() {
        let mark = LogMark {
            seq: Seq(7),
            created_at: UnixMillis(1_602_028_800_000),
            country: Country::parse("DE").unwrap(),
            tag: UploadTag::parse("a").unwrap(),
            key_count: 5,
            content: ContentDigest([1; 32]),
            link: None,
        };
        let changes: [fn(&mut LogMark); 7] = [
            |mark| mark.seq = Seq(8),
            |mark| mark.created_at = mark.created_at.plus_millis(1),
            |mark| mark.country = Country::parse("FR").unwrap(),
            |mark| mark.tag = UploadTag::parse("b").unwrap(),
            |mark| mark.key_count = 6,
            |mark| mark.content = ContentDigest([2; 32]),
            |mark| mark.link = Link::from_bytes(&[1; 64]),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut other = mark.clone();
            change(&mut other);
            assert_ne!(other.digest(), mark.digest(), "change {at}");
        }
    }
}
