//! What a key, a byte and an upload cost on a machine: measured, never guessed. A small file of
//! named numbers, so that an operator measures once on the machines to be bought and plans often.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::definitions::{AssumptionError, CostOf, Costs, costs};
use crate::results::{Machine, Run};

/// Measured for this version of the program: see the file for machine, commit and command.
const SHIPPED: &str = include_str!("../../costs/shipped.toml");
/// Version of the format.
const VERSION: u32 = 1;

/// Why unit costs cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CostsError {
    /// The file cannot be read or written.
    #[error("cannot open {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is malformed.
    #[error("costs")]
    Syntax(#[from] toml::de::Error),
    /// The costs cannot be written as TOML.
    #[error("costs")]
    Write(#[from] toml::ser::Error),
    /// The file is of another version.
    #[error("costs: version {0} of the format; this program knows version {VERSION}")]
    Version(u32),
    /// A name or a number that is not a cost.
    #[error("costs")]
    Cost(#[from] AssumptionError),
    /// Results without costs.
    #[error("the results {0} have no summary with processor times: was the run cut off?")]
    NoSummary(PathBuf),
}

/// Which database was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// A server that several gateways share.
    Server,
    /// A file of the one gateway.
    Embedded,
}

impl DatabaseKind {
    /// Of the database of a run; `None` when its results do not name it.
    pub fn of(run: &Run) -> Option<Self> {
        let name = run.database.as_ref()?.to_ascii_lowercase();
        Some(match name.starts_with("sqlite") {
            true => Self::Embedded,
            false => Self::Server,
        })
    }
}

/// What was measured, on what, how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostSource {
    /// One line that names this measurement in every plan.
    pub label: String,
    /// The machine.
    pub machine: Machine,
    /// The database with its version.
    pub database: String,
    /// What kind it is.
    pub kind: DatabaseKind,
    /// Commit of the gateway, when known.
    #[serde(default)]
    pub commit: Option<String>,
    /// When, RFC 3339 in UTC.
    pub measured: String,
    /// The command line.
    pub command: String,
    /// Known disturbances.
    #[serde(default)]
    pub note: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CostFile {
    version: u32,
    source: CostSource,
    costs: Costs,
}

/// Unit costs, each with its source.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitCosts {
    /// The source of most of them.
    pub source: CostSource,
    /// Known costs by source; the first source with a cost wins.
    layers: Vec<(Costs, String)>,
}

#[derive(Deserialize)]
struct ShippedFile {
    server: CostFile,
    embedded: CostFile,
}

impl UnitCosts {
    /// The built-in costs for one kind of database.
    ///
    /// # Errors
    /// None for the shipped text; a test reads it.
    pub fn shipped(kind: DatabaseKind) -> Result<Self, CostsError> {
        let ShippedFile { server, embedded } = toml::from_str(SHIPPED)?;
        let file = match kind {
            DatabaseKind::Server => server,
            DatabaseKind::Embedded => embedded,
        };
        Self::of(file, "shipped: ")
    }

    /// Costs just measured.
    pub(super) fn measured(source: CostSource, costs: Costs) -> Self {
        let said = format!("measured: {}", source.label);
        Self::layered(source, vec![(costs, said)])
    }

    /// Costs by source; the first source with a cost wins.
    pub(super) const fn layered(source: CostSource, layers: Vec<(Costs, String)>) -> Self {
        Self { source, layers }
    }

    /// Reads what [`UnitCosts::save`] wrote. Missing costs are taken from the shipped ones and
    /// marked as such.
    ///
    /// # Errors
    /// When it is another text, or names what is not a cost.
    pub(super) fn parse(text: &str) -> Result<Self, CostsError> {
        let read = Self::of(toml::from_str(text)?, "measured: ")?;
        read.or_shipped()
    }

    fn of(file: CostFile, said: &str) -> Result<Self, CostsError> {
        if file.version != VERSION {
            return Err(CostsError::Version(file.version));
        }
        for (known, of) in costs() {
            if let Some(value) = of(&file.costs) {
                known.check(value)?;
            }
        }
        let said = format!("{said}{}", file.source.label);
        Ok(Self::layered(file.source, vec![(file.costs, said)]))
    }

    /// Fills in what was not measured.
    ///
    /// # Errors
    /// None for the shipped text; a test reads it.
    pub(super) fn or_shipped(mut self) -> Result<Self, CostsError> {
        let known = self.known();
        if costs().any(|(_, of)| of(&known).is_none()) {
            self.layers.extend(Self::shipped(self.source.kind)?.layers);
        }
        Ok(self)
    }

    /// Writes a file that [`super::read_costs`] reads.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), CostsError> {
        let file = CostFile {
            version: VERSION,
            source: self.source.clone(),
            costs: self.known(),
        };
        std::fs::write(path, toml::to_string(&file)?).map_err(|source| CostsError::Io {
            path: path.to_owned(),
            source,
        })
    }

    /// Whether the database is a file of the one gateway.
    pub fn is_embedded(&self) -> bool {
        self.source.kind == DatabaseKind::Embedded
    }

    /// All known costs.
    fn known(&self) -> Costs {
        let layers = self.layers.iter().map(|(costs, _)| *costs);
        layers.reduce(Costs::or).unwrap_or_default()
    }

    /// A cost and its source.
    pub(super) fn value(&self, of: CostOf) -> (f64, String) {
        let mut layers = self.layers.iter();
        let found = layers.find_map(|(costs, said)| Some((of(costs)?, said.clone())));
        found.unwrap_or_else(|| (0.0, "not measured".to_owned()))
    }
}
