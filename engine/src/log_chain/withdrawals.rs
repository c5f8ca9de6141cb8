//! Checks withdrawals in their order: each against the one before it, and the last against the mark
//! of the end.

use std::sync::Arc;

use super::key::{ChainKey, WithdrawalColumns, WithdrawalDigest};
use super::walk::{Accepted, Broken, unless_accepted};

/// Why a withdrawal does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WithdrawalMismatch {
    /// Its digest is not that of its columns after the withdrawal before it.
    #[error("is not as it was written, or the withdrawal before it is not or is gone")]
    Changed,
    /// Its columns cannot be read.
    #[error("cannot be read")]
    Unreadable,
    /// The mark of the end names another last one.
    #[error("are fewer or more than were written")]
    End,
    /// It was there.
    #[error("is gone, or is another one")]
    Gone,
}

/// A withdrawal that stands for all up to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WithdrawalMark {
    /// 0 before the first.
    pub(crate) number: u64,
    pub(crate) digest: Option<WithdrawalDigest>,
}

/// A walk along the withdrawals.
#[derive(Debug, Clone)]
pub(crate) struct WithdrawalWalk {
    key: ChainKey,
    accepted: Accepted,
    last: WithdrawalMark,
}

impl WithdrawalWalk {
    /// A walk that continues after a withdrawal.
    pub(crate) fn after(key: &ChainKey, accepted: &Accepted, last: WithdrawalMark) -> Self {
        Self {
            key: key.clone(),
            accepted: Arc::clone(accepted),
            last,
        }
    }

    /// The withdrawal before the next one.
    pub(crate) const fn last(&self) -> WithdrawalMark {
        self.last
    }

    /// Checks the next withdrawal, and continues after it, whatever it is.
    pub(crate) fn step(
        &mut self,
        row: &WithdrawalColumns<'_>,
        stored: Option<WithdrawalDigest>,
    ) -> Result<(), Broken<WithdrawalMismatch>> {
        let expected = self.key.withdrawal(self.last.digest, row);
        self.last = WithdrawalMark {
            number: row.number,
            digest: Some(stored.unwrap_or(expected)),
        };
        if stored == Some(expected) {
            return Ok(());
        }
        let stored = stored.map_or([0; 32], |stored| stored.0);
        let parts = [&expected.0, &stored];
        self.unless_accepted(WithdrawalMismatch::Changed, row.number, &parts)
    }

    /// Passes a withdrawal of which only the digest can be read, if that.
    pub(crate) fn step_over(
        &mut self,
        stored: Option<WithdrawalDigest>,
    ) -> Result<(), Broken<WithdrawalMismatch>> {
        let before = self.last.digest.map_or([0; 32], |before| before.0);
        self.last = WithdrawalMark {
            number: self.last.number.saturating_add(1),
            digest: stored.or(self.last.digest),
        };
        let stored = stored.map_or([0; 32], |stored| stored.0);
        let (number, parts) = (self.last.number, [&before, &stored]);
        self.unless_accepted(WithdrawalMismatch::Unreadable, number, &parts)
    }

    /// Compares the last one with the mark of the end, which is absent until something is withdrawn.
    pub(crate) fn end(&self, mark: Option<&[u8]>) -> Result<(), Broken<WithdrawalMismatch>> {
        let WithdrawalMark { number, digest } = self.last;
        let expected = self.key.end_of_withdrawals(number, digest);
        let fits = match mark {
            Some(mark) => mark == expected,
            None => number == 0,
        };
        if fits {
            return Ok(());
        }
        let stored = mark.and_then(|mark| mark.try_into().ok());
        let parts = [&expected, &stored.unwrap_or([0; 32])];
        self.unless_accepted(WithdrawalMismatch::End, number, &parts)
    }

    fn unless_accepted(
        &self,
        mismatch: WithdrawalMismatch,
        number: u64,
        parts: &[&[u8; 32]],
    ) -> Result<(), Broken<WithdrawalMismatch>> {
        let label: &[u8] = match mismatch {
            WithdrawalMismatch::End => b"accepted end of withdrawals",
            WithdrawalMismatch::Changed
            | WithdrawalMismatch::Unreadable
            | WithdrawalMismatch::Gone => b"accepted withdrawal",
        };
        let acceptance = self.key.acceptance(label, number, parts);
        unless_accepted(&self.accepted, mismatch, acceptance)
    }
}
