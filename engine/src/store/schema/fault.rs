//! What is wrong with a schema.

use std::fmt;

/// A check, or a foreign key from or to a table: migrations make none.
pub(super) const CONSTRAINT: &str = "constraint";

/// Something in the database that the migrations have not made, or the lack of what they have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SchemaFault {
    /// A trigger, view or event, or a constraint of a table of ours.
    Foreign {
        /// What it is.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The table that it belongs to; empty if it belongs to none.
        table: String,
    },
    /// A table of ours is not there.
    Missing(String),
    /// A table of ours is otherwise than it was made.
    Changed {
        /// The table.
        table: String,
        /// What is different.
        difference: String,
    },
}

impl fmt::Display for SchemaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { kind, name, table } if table.is_empty() => {
                write!(f, "{kind} {}", shown(name))
            }
            Self::Foreign { kind, name, table } => {
                write!(f, "{kind} {} on table {}", shown(name), shown(table))
            }
            Self::Missing(table) => write!(f, "table {table} is missing"),
            Self::Changed { table, difference } => write!(f, "table {table}: {difference}"),
        }
    }
}

/// A name that another program has chosen, on one line and not too long.
pub(super) fn shown(name: &str) -> String {
    let start: String = name.chars().take(64).collect();
    start.escape_debug().to_string()
}
