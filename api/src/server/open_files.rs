//! The limit on open files: raised at the start, then divided.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::error::ServeError;
use crate::settings::ConnectionSettings;

/// Files of the database, of the log and of the runtime: the engine has a dozen connections, each with
/// three files on SQLite.
const RESERVED_FILES: usize = 128;
/// Files per callback delivery: its connection, and perhaps a name lookup. A participant's first
/// delivery may come on top of the bound; one that finds no file is postponed.
const FILES_PER_DELIVERY: usize = 2;
/// Fewest connections of a port to start with.
const CONNECTIONS_MIN: usize = 16;

/// Raises the soft limit to the hard one. Returns the limit; the largest number if there is none.
pub(super) fn raise_limit() -> usize {
    let found = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: found.maximum,
        maximum: found.maximum,
    };
    // Where it fails, the soft limit stays: then there are fewer connections.
    let _ = setrlimit(Resource::Nofile, raised);
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    limit.unwrap_or(usize::MAX)
}

/// Reduces the connections of the participants' ports to what the limit leaves.
///
/// # Errors
/// [`ServeError::TooFewFiles`] when that is next to nothing.
pub(super) fn divide(
    limit: usize,
    wanted: ConnectionSettings,
    ports_count: usize,
    deliveries_max: usize,
) -> Result<ConnectionSettings, ServeError> {
    let reserved = RESERVED_FILES
        .saturating_add(wanted.operations_max)
        .saturating_add(deliveries_max.saturating_mul(FILES_PER_DELIVERY));
    let left = limit.saturating_sub(reserved) / ports_count.max(1);
    if left < CONNECTIONS_MIN {
        let needed = reserved.saturating_add(CONNECTIONS_MIN * ports_count);
        return Err(ServeError::TooFewFiles { limit, needed });
    }
    let per_port_max = wanted.per_port_max.min(left);
    // Both shares shrink in proportion.
    let scaled = |share: usize| share.saturating_mul(per_port_max) / wanted.per_port_max.max(1);
    Ok(ConnectionSettings {
        per_port_max,
        per_participant_max: scaled(wanted.per_participant_max).max(1),
        unidentified_max: scaled(wanted.unidentified_max).max(2),
        operations_max: wanted.operations_max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: ConnectionSettings = ConnectionSettings {
        per_port_max: 1000,
        per_participant_max: 250,
        unidentified_max: 100,
        operations_max: 64,
    };

    #[test]
    fn raises_the_soft_limit_to_the_hard_one() {
        let limit = raise_limit();
        let found = getrlimit(Resource::Nofile);
        assert_eq!(found.current, found.maximum);
        let current = found
            .current
            .map(|current| usize::try_from(current).unwrap());
        assert_eq!(limit, current.unwrap_or(usize::MAX));
    }

    #[test]
    fn divides_what_the_limit_leaves() {
        let divided = |limit, ports_count| divide(limit, WANTED, ports_count, 32);
        let reserved = 128 + 64 + 64;
        assert_eq!(divided(usize::MAX, 2).unwrap(), WANTED);
        assert_eq!(divided(reserved + 2000, 2).unwrap(), WANTED);
        let half = ConnectionSettings {
            per_port_max: 500,
            per_participant_max: 125,
            unidentified_max: 50,
            operations_max: 64,
        };
        assert_eq!(divided(reserved + 500, 1).unwrap(), half);
        assert_eq!(divided(reserved + 1000, 2).unwrap(), half);
        let error = divided(reserved + 31, 2).unwrap_err().to_string();
        assert!(error.contains(&(reserved + 32).to_string()), "{error}");
    }
}
