//! Plans cuts: which waiting uploads go into which download batch, when, and under which tag. Knows no
//! database and no lease.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::bundle::pacing::CutBudget;
use crate::domain::{BatchTag, Day, Seq, UnixMillis};
use crate::limits;
use crate::log_chain::{BatchColumns, ChainKey};
use crate::settings::BundleSettings;
use crate::store::{DownloadBatchRow, UncutUpload, UploadMeta};

/// Uploads after the newest download batch.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) uploads: VecDeque<(UncutUpload, Instant)>,
    /// The end of what was read, whether it waits or is cut.
    pub(super) read_to: Seq,
}

impl Waiting {
    /// When the next cut is due: at once if a batch is full, otherwise when the rest has waited long
    /// enough.
    pub(super) fn due(
        &self,
        settings: &BundleSettings,
        budget: CutBudget,
        wall: UnixMillis,
        now: Instant,
    ) -> Option<Instant> {
        let plan = self.plan(settings);
        if plan.full.is_empty() {
            self.rest_due(plan.rest_begins(), settings, budget, wall, now)
        } else {
            Some(now)
        }
    }

    /// How many uploads go into each download batch that is to be cut now.
    pub(super) fn cuts_due(
        &self,
        settings: &BundleSettings,
        budget: CutBudget,
        wall: UnixMillis,
        now: Instant,
    ) -> Vec<usize> {
        let plan = self.plan(settings);
        let budget = settings.pacing().map_or(budget, |pacing| {
            (0..plan.full.len()).fold(budget, |budget, _| budget.draw(pacing, wall))
        });
        let due = self.rest_due(plan.rest_begins(), settings, budget, wall, now);
        let rest = due.is_some_and(|at| at <= now).then_some(plan.rest);
        plan.full.into_iter().chain(rest).collect()
    }

    fn plan(&self, settings: &BundleSettings) -> CutPlan {
        let fills = self.uploads.iter().map(|(upload, _)| Fill::of(upload));
        plan_cuts(fills, Fill::most(settings))
    }

    /// When the uploads from `begins` on, which fill no batch, are to be cut: when the oldest of
    /// them with keys has waited for `max_delay`, and for the budget.
    fn rest_due(
        &self,
        begins: usize,
        settings: &BundleSettings,
        budget: CutBudget,
        wall: UnixMillis,
        now: Instant,
    ) -> Option<Instant> {
        let mut rest = self.uploads.iter().skip(begins);
        let (oldest, seen) = rest.find(|(upload, _)| upload.meta.key_count > 0)?;
        // By the wall clock it has waited since it was stored, by the monotonic clock since we saw
        // it. The wall clock may have jumped: it only ever shortens the wait.
        let waited = Duration::from_millis(wall.0.saturating_sub(oldest.meta.created_at.0));
        let at_age = |age: Duration| (now + age.saturating_sub(waited)).min(*seen + age);
        let due = at_age(settings.max_delay);
        let Some(pacing) = settings.pacing() else {
            return Some(due);
        };
        let budgeted = (now + budget.wait(pacing, wall)).min(at_age(pacing.interval));
        Some(due.max(budgeted))
    }
}

/// The tag after `last`: numbers from 1 each day, without gaps; days never decrease, even if the
/// clock does.
pub(super) fn next_tag(last: Option<BatchTag>, today: Day) -> BatchTag {
    match last {
        Some(last) if last.day >= today => match last.number.checked_add(1) {
            Some(number) => BatchTag {
                day: last.day,
                number,
            },
            None => BatchTag {
                day: last.day.next(),
                number: 1,
            },
        },
        _ => BatchTag {
            day: today,
            number: 1,
        },
    }
}

pub(super) fn new_batch(
    ordinal: u64,
    tag: BatchTag,
    members: &[UploadMeta],
    chain: &ChainKey,
) -> DownloadBatchRow {
    let (first, last) = (members.first(), members.last());
    let (first, last) = first.zip(last).expect("a cut has at least one upload");
    let key_counts = members.iter().map(|upload| u64::from(upload.key_count));
    let columns = BatchColumns {
        ordinal,
        tag,
        seqs: first.seq.0..=last.seq.0,
        key_count: key_counts.sum(),
    };
    let digest = chain.batch(&columns, last.link.map(|link| link.digest));
    DownloadBatchRow {
        columns,
        digest: Some(digest),
    }
}

/// How the waiting uploads are divided into download batches, in order.
#[derive(Debug, PartialEq, Eq)]
struct CutPlan {
    /// How many uploads go into each full batch.
    full: Vec<usize>,
    /// How many uploads are left behind them.
    rest: usize,
}

impl CutPlan {
    /// Position of the first upload after the full batches.
    fn rest_begins(&self) -> usize {
        self.full.iter().sum()
    }
}

/// What fills a download batch; each of the three has a bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Fill {
    keys: u64,
    /// Of encoded keys.
    bytes: u64,
    audit_bytes: u64,
}

impl Fill {
    /// The bounds.
    fn most(settings: &BundleSettings) -> Self {
        Self {
            keys: settings.keys_max.into(),
            bytes: settings.bytes_max,
            audit_bytes: limits::AUDIT_BYTES_MAX as u64,
        }
    }

    /// What an upload adds: nothing without keys, since neither downloads nor audits show it.
    fn of(upload: &UncutUpload) -> Self {
        if upload.meta.key_count == 0 {
            return Self::default();
        }
        Self {
            keys: upload.meta.key_count.into(),
            bytes: upload.sealed_bytes,
            audit_bytes: upload.signature_bytes + limits::AUDIT_ENTRY_BYTES,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            keys: self.keys + other.keys,
            bytes: self.bytes.saturating_add(other.bytes),
            audit_bytes: self.audit_bytes.saturating_add(other.audit_bytes),
        }
    }

    fn fits(self, most: Self) -> bool {
        self.keys <= most.keys && self.bytes <= most.bytes && self.audit_bytes <= most.audit_bytes
    }

    fn is_full(self, most: Self) -> bool {
        self.keys >= most.keys || self.bytes >= most.bytes || self.audit_bytes >= most.audit_bytes
    }
}

/// Divides the waiting uploads, in order, into download batches.
///
/// A batch takes uploads while they fit; an upload that does not fit closes it. An upload
/// beyond a bound is a separate batch. Uploads without keys never make a batch; they join the next.
fn plan_cuts(uploads: impl Iterator<Item = Fill>, most: Fill) -> CutPlan {
    let mut full = Vec::new();
    let (mut count, mut fill) = (0, Fill::default());
    for upload in uploads {
        if fill.keys > 0 && !fill.plus(upload).fits(most) {
            full.push(count);
            (count, fill) = (0, Fill::default());
        }
        count += 1;
        fill = fill.plus(upload);
    }
    if fill.is_full(most) {
        full.push(count);
        count = 0;
    }
    CutPlan { full, rest: count }
}

#[cfg(test)]
mod tests;
