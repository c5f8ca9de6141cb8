//! Leases: what only one gateway does at a time, guarded by a token that changes hands.

use super::session::Store;
use crate::database::{Connection, Param, SqlError};

/// What only one gateway does at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lease {
    /// Cuts download batches.
    Bundle,
    /// Deletes what is too old.
    Retention,
}

impl Lease {
    const fn name(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::Retention => "retention",
        }
    }
}

/// What a holder has to show: the lease's token, and its own name. A database that went back gives
/// the same number again, to somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseToken {
    pub(crate) number: u64,
    pub(crate) holder: Box<str>,
}

/// The next value of a counter that only has to differ from the last, whatever was written
/// there: at the end of its range, or beside it, it would stop all gateways.
const NEXT_FENCE: &str = "fence % 1000000000 + 1";
const NEXT_TOKEN: &str = "CASE WHEN token BETWEEN 0 AND 4000000000000000000 \
     AND ROUND(token) = token THEN token + 1 ELSE 1 END";
/// A lease without it is not renewed, but taken again once it has expired.
const HAS_TOKEN: &str = "token BETWEEN 0 AND 4000000000000000000 AND ROUND(token) = token";

/// Begins a guarded transaction: true if the lease still has this token. Another gateway that
/// takes the lease waits for the transaction, or the transaction fails after it.
pub(super) fn fence(
    c: &mut dyn Connection,
    lease: Lease,
    token: &LeaseToken,
) -> Result<bool, SqlError> {
    let sql = format!(
        "UPDATE lease SET fence = {NEXT_FENCE} WHERE name = ? AND token = ? AND holder = ?"
    );
    let params = [
        lease.name().into(),
        token.number.into(),
        (&*token.holder).into(),
    ];
    Ok(c.execute(&sql, &params)? == 1)
}

/// Takes all leases from their holders.
pub(super) fn revoke_leases(c: &mut dyn Connection) -> Result<(), SqlError> {
    let sql = format!("UPDATE lease SET expires_at_ms = 0, holder = '', token = {NEXT_TOKEN}");
    c.execute(&sql, &[]).map(|_| ())
}

impl Store {
    /// Takes or renews a lease; returns its token, or nothing while another gateway holds it. Time is
    /// the database's own.
    pub(crate) fn hold_lease(
        &mut self,
        lease: Lease,
        holder: &str,
        ttl_ms: u64,
    ) -> Result<Option<LeaseToken>, SqlError> {
        let now_ms = self.0.dialect().now_ms;
        let own = [lease.name().into(), holder.into()];
        let renew = format!(
            "UPDATE lease SET expires_at_ms = {now_ms} + ?, fence = {NEXT_FENCE} \
             WHERE name = ? AND holder = ? AND {HAS_TOKEN}"
        );
        let renewed = self.0.execute(&renew, &[ttl_ms.into(), own[0], own[1]])?;
        if renewed != 1 && !self.take_lease(lease, holder, ttl_ms, now_ms)? {
            return Ok(None);
        }
        let token = "SELECT token FROM lease WHERE name = ? AND holder = ?";
        let row = self.0.first(token, &own)?;
        let number = row.map(|row| row.counted(0)).transpose()?;
        Ok(number.map(|number| LeaseToken {
            number,
            holder: holder.into(),
        }))
    }

    /// An expired lease is free, and so is one that expires impossibly late: the database's clock
    /// was set back.
    fn take_lease(
        &mut self,
        lease: Lease,
        holder: &str,
        ttl_ms: u64,
        now_ms: &str,
    ) -> Result<bool, SqlError> {
        let name = Param::from(lease.name());
        let take = format!(
            "UPDATE lease SET holder = ?, token = {NEXT_TOKEN}, fence = {NEXT_FENCE}, \
             expires_at_ms = {now_ms} + ? WHERE name = ? \
             AND (expires_at_ms < {now_ms} OR expires_at_ms > {now_ms} + ?)"
        );
        let params = [
            holder.into(),
            ttl_ms.into(),
            name,
            Param::Number(ttl_ms * 2),
        ];
        if self.0.execute(&take, &params)? == 1 {
            return Ok(true);
        }
        let find = "SELECT token FROM lease WHERE name = ?";
        if self.0.first(find, &[name])?.is_some() {
            return Ok(false);
        }
        let create = format!(
            "INSERT INTO lease (name, holder, token, fence, expires_at_ms) \
             VALUES (?, ?, 1, 0, {now_ms} + ?)"
        );
        match self
            .0
            .execute(&create, &[name, holder.into(), ttl_ms.into()])
        {
            Ok(_) => Ok(true),
            Err(SqlError::Duplicate(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a lease back, so that another gateway need not wait for it to expire.
    pub(crate) fn release_lease(&mut self, lease: Lease, holder: &str) -> Result<(), SqlError> {
        let release = format!(
            "UPDATE lease SET expires_at_ms = 0, holder = '', token = {NEXT_TOKEN} \
             WHERE name = ? AND holder = ?"
        );
        self.0
            .execute(&release, &[lease.name().into(), holder.into()])
            .map(|_| ())
    }
}
