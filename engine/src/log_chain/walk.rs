//! Checks rows in their order: each against the one before it.

use std::collections::HashSet;
use std::sync::Arc;

use super::key::{BatchColumns, BatchDigest, ChainKey, Link, LinkDigest, LogColumns};
use crate::domain::Seq;

/// Why a row of the log does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mismatch {
    /// Its columns are not those that it was stored with.
    #[error("was changed after it was stored")]
    Changed,
    /// Its link is not that of a row at this position after the row before it.
    #[error(
        "does not follow the row before it: one of them was moved or inserted, or a row between \
         them was deleted"
    )]
    Misplaced,
    /// It has no link, and a row before it has one.
    #[error("has lost its link of the chain")]
    Unlinked,
}

/// Why a download batch does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BatchMismatch {
    /// Its digest is not that of its columns and its last upload.
    #[error("or its last upload was changed after it was cut")]
    Changed,
    /// It has no digest, and one before it has.
    #[error("has lost its digest")]
    Unlinked,
    /// It does not begin where the one before it ends.
    #[error("does not follow the download batch before it: one was changed or deleted")]
    Misplaced,
    /// Its uploads have more or fewer keys.
    #[error("does not have as many keys as its uploads")]
    KeyCount,
}

/// A row that does not fit, and the digest under which an operator can accept it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken<M> {
    pub(crate) mismatch: M,
    pub(crate) acceptance: [u8; 32],
}

/// What operators have accepted.
pub(crate) type Accepted = Arc<HashSet<[u8; 32]>>;

/// A walk along the log.
#[derive(Debug, Clone)]
pub(crate) struct LogWalk {
    key: ChainKey,
    accepted: Accepted,
    /// The link of the row before.
    last: Option<LinkDigest>,
    /// Up to here, rows are missing that retention has deleted.
    forgotten_to: Seq,
}

impl LogWalk {
    /// A walk that begins after the row with this link; where nothing is in the chain yet, after
    /// none.
    pub(crate) fn after(key: &ChainKey, accepted: &Accepted, last: Option<LinkDigest>) -> Self {
        Self {
            key: key.clone(),
            accepted: Arc::clone(accepted),
            last,
            forgotten_to: Seq::ZERO,
        }
    }

    /// What retention has left up to a position is not checked: its neighbours are gone.
    pub(crate) const fn with_forgotten_to(mut self, to: Seq) -> Self {
        self.forgotten_to = to;
        self
    }

    /// The link of the row before.
    pub(crate) const fn last(&self) -> Option<LinkDigest> {
        self.last
    }

    /// Checks the next row, and continues after it, whatever it is.
    pub(crate) fn step(
        &mut self,
        seq: Seq,
        columns: &LogColumns<'_>,
        link: Option<&Link>,
    ) -> Result<(), Broken<Mismatch>> {
        if seq <= self.forgotten_to || (link.is_none() && self.last.is_none()) {
            return Ok(());
        }
        let before = self.last;
        self.last = link.map_or(before, |link| Some(link.digest));
        let found = self.key.columns(columns);
        let expected = self.key.link(before, seq, found);
        let mismatch = match link {
            Some(link) if *link == expected => return Ok(()),
            Some(link) if link.columns != found => Mismatch::Changed,
            Some(_) => Mismatch::Misplaced,
            None => Mismatch::Unlinked,
        };
        let acceptance = self.acceptance(seq, &expected, link);
        unless_accepted(&self.accepted, mismatch, acceptance)
    }

    /// Checks where the next row stands, whose columns are known by their digest alone.
    pub(crate) fn step_over(&mut self, seq: Seq, link: Option<&Link>) -> Result<(), Mismatch> {
        let before = self.last;
        let Some(link) = link else {
            return before.map_or(Ok(()), |_| Err(Mismatch::Unlinked));
        };
        self.last = Some(link.digest);
        let expected = self.key.link(before, seq, link.columns);
        if *link == expected || seq <= self.forgotten_to {
            return Ok(());
        }
        let acceptance = self.acceptance(seq, &expected, Some(link));
        let unless = unless_accepted(&self.accepted, Mismatch::Misplaced, acceptance);
        unless.map_err(|broken| broken.mismatch)
    }

    /// Stands for a row as it is, at its place, with the link that it has.
    fn acceptance(&self, seq: Seq, expected: &Link, link: Option<&Link>) -> [u8; 32] {
        let stored = link.map_or([0; 32], |link| link.digest.0);
        let parts = [&expected.digest.0, &stored];
        self.key.acceptance(b"accepted upload", seq.0, &parts)
    }
}

/// What the log says of the uploads of a download batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchUploads {
    /// Unless retention has deleted some of them.
    pub(crate) key_count: Option<u64>,
    /// The link of the last.
    pub(crate) last: Option<LinkDigest>,
}

impl BatchUploads {
    fn have(&self, key_count: u64) -> bool {
        self.key_count.is_none_or(|found| found == key_count)
    }
}

/// A walk along the download batches.
#[derive(Debug, Clone)]
pub(crate) struct BatchWalk {
    key: ChainKey,
    accepted: Accepted,
    before: Option<BatchColumns>,
    /// Where the first at all has to begin, or before: everything up to there was forgotten.
    begins_by: Option<u64>,
    /// Whether one of them had a digest.
    has_begun: bool,
}

impl BatchWalk {
    /// A walk after a download batch; from the first that is left, after none.
    pub(crate) fn after(
        key: &ChainKey,
        accepted: &Accepted,
        before: Option<(&BatchColumns, Option<&BatchDigest>)>,
    ) -> Self {
        Self {
            key: key.clone(),
            accepted: Arc::clone(accepted),
            before: before.map(|(columns, _)| columns.clone()),
            begins_by: None,
            has_begun: before.is_some_and(|(_, digest)| digest.is_some()),
        }
    }

    /// Sets where the first download batch has to begin, for a walk that starts at the first left.
    pub(crate) const fn beginning_at(mut self, position: Option<u64>) -> Self {
        self.begins_by = position;
        self
    }

    /// Checks the next download batch, and continues after it. Without `uploads`, which retention
    /// has deleted, only its place is checked.
    pub(crate) fn step(
        &mut self,
        batch: &BatchColumns,
        digest: Option<&BatchDigest>,
        uploads: Option<&BatchUploads>,
    ) -> Result<(), Broken<BatchMismatch>> {
        let is_next = self.follows(batch);
        self.before = Some(batch.clone());
        let had_begun = self.has_begun;
        self.has_begun |= digest.is_some();
        let last = uploads.and_then(|uploads| uploads.last);
        let expected = self.key.batch(batch, last);
        let mismatch = match (digest, uploads) {
            _ if !is_next => BatchMismatch::Misplaced,
            (None, _) if had_begun => BatchMismatch::Unlinked,
            (Some(digest), Some(_)) if *digest != expected => BatchMismatch::Changed,
            (Some(_), Some(uploads)) if !uploads.have(batch.key_count) => BatchMismatch::KeyCount,
            _ => return Ok(()),
        };
        let (found, stored) = (
            self.key.batch(batch, None),
            digest.map_or([0; 32], |digest| digest.0),
        );
        let parts = [&found.0, &stored];
        let number = batch.ordinal;
        let acceptance = self
            .key
            .acceptance(b"accepted download batch", number, &parts);
        unless_accepted(&self.accepted, mismatch, acceptance)
    }

    fn follows(&self, batch: &BatchColumns) -> bool {
        let start = *batch.seqs.start();
        let is_behind = match &self.before {
            None => self.begins_by.is_none_or(|latest| start <= latest),
            Some(before) => {
                let next = before.ordinal.checked_add(1);
                next == Some(batch.ordinal)
                    && before.seqs.end().checked_add(1) == Some(start)
                    && batch.tag > before.tag
            }
        };
        is_behind && start <= *batch.seqs.end()
    }
}

pub(super) fn unless_accepted<M>(
    accepted: &Accepted,
    mismatch: M,
    acceptance: [u8; 32],
) -> Result<(), Broken<M>> {
    match accepted.contains(&acceptance) {
        true => Ok(()),
        false => Err(Broken {
            mismatch,
            acceptance,
        }),
    }
}
