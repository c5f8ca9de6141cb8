//! Uploads whose keys and tags an operator has freed (decision 33), as far as the writer knows them.

use std::collections::HashSet;
use std::time::Instant;

use crate::continuity::Continuity;
use crate::database::SqlError;
use crate::dedup::TagIndex;
use crate::domain::{KeyIdentity, Seq};
use crate::limits;
use crate::log_chain::WithdrawalMark;
use crate::store::{Store, Withdrawal, WithdrawalError};

/// What the writer knows of withdrawals.
#[derive(Debug, Default)]
pub(super) struct FreedUploads {
    /// The newest that is applied.
    pub(super) applied_to: WithdrawalMark,
    /// Uploads that are freed, whether they are in the log as we know it or not yet.
    seqs: HashSet<Seq>,
    next_look: Option<Instant>,
}

/// Withdrawals with the identities that they free, and the last of them.
#[derive(Debug)]
pub(super) struct Freed {
    pub(super) rows: Vec<(Withdrawal, Vec<KeyIdentity>)>,
    pub(super) to: WithdrawalMark,
}

/// The withdrawals after one, if the database has it and those after it are as they were written:
/// otherwise no gateway can continue with it, and there is nothing.
pub(super) fn read_freed(
    store: &mut Store,
    continuity: &Continuity,
    after: WithdrawalMark,
) -> Result<Option<Freed>, SqlError> {
    let (key, accepted) = (continuity.chain(), continuity.accepted());
    let (rows, to) = match store.read_newer_withdrawals(key, accepted, after) {
        Ok(newer) => newer,
        Err(WithdrawalError::Fault(fault)) => {
            continuity.report_changed_row(&fault.place, &fault.mismatch);
            return Ok(None);
        }
        Err(WithdrawalError::Database(error)) => return Err(error),
    };
    let with_identities = |row: Withdrawal| {
        let identities = match row.is_freed {
            true => store.read_identities(row.seq)?,
            false => Vec::new(),
        };
        Ok((row, identities))
    };
    let rows = rows.into_iter().map(with_identities);
    let rows = rows.collect::<Result<_, SqlError>>()?;
    Ok(Some(Freed { rows, to }))
}

impl FreedUploads {
    /// Reads them at start, after the end of the log was read and before its rows are.
    pub(super) fn start(
        store: &mut Store,
        continuity: &Continuity,
        tags: &TagIndex,
    ) -> Result<Self, WithdrawalError> {
        let (key, accepted) = (continuity.chain(), continuity.accepted());
        let (rows, to) = store.read_withdrawals(key, accepted, WithdrawalMark::default())?;
        let mut freed = Self::default();
        for row in rows {
            freed.note(&row, tags);
        }
        freed.applied_to = to;
        Ok(freed)
    }

    /// Whether the keys of the upload at a position are to be left out of the set.
    pub(super) fn contain(&self, seq: Seq) -> bool {
        self.seqs.contains(&seq)
    }

    pub(super) fn note(&mut self, row: &Withdrawal, tags: &TagIndex) {
        if row.is_freed && self.seqs.insert(row.seq) {
            tags.free(row.country, &row.tag);
        }
    }

    pub(super) fn is_look_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.next_look.is_none_or(|at| at <= now);
        if is_due {
            self.next_look = Some(now + limits::WITHDRAWAL_INTERVAL);
        }
        is_due
    }
}
