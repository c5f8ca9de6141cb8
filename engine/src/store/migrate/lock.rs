//! The migration lock: a row of the lease table, which is created before all others.
//!
//! The row expires, so that a gateway that was killed keeps nobody waiting for long. One that is slow
//! notices before its next statement; what both do is the same, and may be repeated.

use std::hash::{BuildHasher, RandomState};

use crate::database::{Connection, SqlError};
use crate::limits;

const NAME: &str = "migrate";

/// A name for a holder.
pub(super) fn random() -> u128 {
    let random = RandomState::new();
    (u128::from(random.hash_one(0)) << 64) | u128::from(random.hash_one(1))
}

/// Acquires the lock, if it is free; true if this holder has it now. `lease_table` makes the table.
pub(super) fn acquire(
    c: &mut dyn Connection,
    holder: &str,
    lease_table: &str,
) -> Result<bool, SqlError> {
    let find = c.dialect().find_table;
    if c.first(find, &["lease".into()])?.is_none() {
        c.script(lease_table)?;
    }
    let ttl = ttl_ms();
    let now_ms = c.dialect().now_ms;
    let take = format!(
        "UPDATE lease SET holder = ?, token = token % 1000000000 + 1, expires_at_ms = {now_ms} + ? \
         WHERE name = ? AND (expires_at_ms < {now_ms} OR expires_at_ms > {now_ms} + ?)"
    );
    let params = [holder.into(), ttl.into(), NAME.into(), (ttl * 2).into()];
    if c.execute(&take, &params)? == 1 {
        return Ok(true);
    }
    if c.first("SELECT token FROM lease WHERE name = ?", &[NAME.into()])?
        .is_some()
    {
        return Ok(false);
    }
    let create = format!(
        "INSERT INTO lease (name, holder, token, fence, expires_at_ms) VALUES (?, ?, 1, 0, {now_ms} + ?)"
    );
    match c.execute(&create, &[NAME.into(), holder.into(), ttl.into()]) {
        Ok(_) => Ok(true),
        Err(SqlError::Duplicate(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Renews the lock for the next statement. A conflict if another gateway has it by now.
pub(super) fn renew(c: &mut dyn Connection, holder: &str) -> Result<(), SqlError> {
    let now_ms = c.dialect().now_ms;
    let keep = format!(
        "UPDATE lease SET fence = fence % 1000000000 + 1, expires_at_ms = {now_ms} + ? \
         WHERE name = ? AND holder = ?"
    );
    match c.execute(&keep, &[ttl_ms().into(), NAME.into(), holder.into()])? {
        1 => Ok(()),
        _ => Err(SqlError::Conflict("another gateway migrates".into())),
    }
}

/// Releases the lock.
pub(super) fn release(c: &mut dyn Connection, holder: &str) -> Result<(), SqlError> {
    let give_back = "UPDATE lease SET expires_at_ms = 0, holder = '' WHERE name = ? AND holder = ?";
    c.execute(give_back, &[NAME.into(), holder.into()])
        .map(|_| ())
}

fn ttl_ms() -> u64 {
    u64::try_from(limits::MIGRATION_LEASE.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::in_memory;

    fn takes(c: &mut dyn Connection, holder: &str) -> bool {
        let table = "CREATE TABLE lease (name BLOB PRIMARY KEY, holder BLOB, token INTEGER, \
             fence INTEGER, expires_at_ms INTEGER)";
        acquire(c, holder, table).unwrap()
    }

    #[test]
    fn changes_hands_only_when_it_was_given_back_or_has_expired() {
        let mut connection = in_memory().unwrap();
        let c = &mut *connection;
        assert!(takes(c, "a"), "the table is made");
        assert!(!takes(c, "b"));
        renew(c, "a").unwrap();
        release(c, "a").unwrap();
        assert!(takes(c, "b"));
        assert!(matches!(renew(c, "a"), Err(SqlError::Conflict(_))));
        c.script("UPDATE lease SET expires_at_ms = 1").unwrap();
        assert!(takes(c, "a"), "its holder was killed");
        assert!(matches!(renew(c, "b"), Err(SqlError::Conflict(_))));
        release(c, "b").unwrap();
        renew(c, "a").unwrap();
    }
}
