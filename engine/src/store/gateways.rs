//! The gateways of an installation: each announces itself, for the console of all.

use super::columns::Rows;
use super::session::Store;
use crate::database::SqlError;
use crate::domain::UnixMillis;
use crate::limits;

/// What a gateway tells the others about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The gateway's name, unique in the installation; at most 255 bytes.
    pub name: String,
    /// The version of its program.
    pub version: String,
    /// When it was started, by its own clock.
    pub started_at: UnixMillis,
    /// What it says about itself, which only gateways interpret; at most
    /// [`limits::GATEWAY_FIGURES_BYTES_MAX`].
    pub figures: Vec<u8>,
}

/// A gateway that has announced itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedGateway {
    /// What it said last.
    pub announcement: Announcement,
    /// When, by the database's clock.
    pub seen_at: UnixMillis,
    /// The database's clock when this was read.
    pub read_at: UnixMillis,
}

impl Store {
    /// Writes a gateway's row.
    pub(crate) fn announce(&mut self, own: &Announcement) -> Result<(), SqlError> {
        let now_ms = self.0.dialect().now_ms;
        let params = [
            own.version.as_str().into(),
            own.started_at.0.into(),
            own.figures.as_slice().into(),
            own.name.as_str().into(),
        ];
        let update = format!(
            "UPDATE gateway SET version = ?, started_at_ms = ?, figures = ?, seen_at_ms = {now_ms} \
             WHERE name = ?"
        );
        if self.0.execute(&update, &params)? == 1 {
            return Ok(());
        }
        let insert = format!(
            "INSERT INTO gateway (version, started_at_ms, figures, name, seen_at_ms) \
             VALUES (?, ?, ?, ?, {now_ms})"
        );
        match self.0.execute(&insert, &params) {
            // Servers count only rows that a statement makes different: it was the same already.
            Ok(_) | Err(SqlError::Duplicate(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All gateways that were seen within [`limits::GATEWAY_KEPT`], the last seen first; at most
    /// [`limits::GATEWAYS_SHOWN_MAX`].
    pub(crate) fn gateways(&mut self) -> Result<Vec<AnnouncedGateway>, SqlError> {
        let now_ms = self.0.dialect().now_ms;
        let sql = format!(
            "SELECT name, version, started_at_ms, seen_at_ms, figures, {now_ms} FROM gateway \
             WHERE LENGTH(figures) <= ? ORDER BY seen_at_ms DESC LIMIT ?"
        );
        let limits = [
            (limits::GATEWAY_FIGURES_BYTES_MAX as u64).into(),
            (limits::GATEWAYS_SHOWN_MAX as u64).into(),
        ];
        self.0.rows(&sql, &limits, |row| {
            GATEWAYS.read(row, |row| {
                Ok(AnnouncedGateway {
                    seen_at: UnixMillis(row.number(3)?),
                    read_at: UnixMillis(row.number(5)?),
                    announcement: Announcement {
                        name: row.text(0)?.to_owned(),
                        version: row.text(1)?.to_owned(),
                        started_at: UnixMillis(row.number(2)?),
                        figures: row.take_bytes(4)?,
                    },
                })
            })
        })
    }

    /// Forgets gateways that were not seen for [`limits::GATEWAY_KEPT`].
    pub(crate) fn forget_gateways(&mut self) -> Result<(), SqlError> {
        let now_ms = self.0.dialect().now_ms;
        let kept_ms = limits::GATEWAY_KEPT.as_secs() * 1000;
        let sql = format!("DELETE FROM gateway WHERE seen_at_ms < {now_ms} - ?");
        self.0.execute(&sql, &[kept_ms.into()]).map(|_| ())
    }
}

const GATEWAYS: Rows = Rows {
    table: "gateway",
    columns: &[
        "name",
        "version",
        "started_at_ms",
        "seen_at_ms",
        "figures",
        "now",
    ],
    key: &[0],
};
