//! The set of identities and the tags at start, from the log, whose chain is checked on the way.

use std::sync::Arc;

use crate::continuity::Continuity;
use crate::database::SqlError;
use crate::dedup::{IdentitySetWriter, TagIndex};
use crate::domain::{Seq, UnixMillis};
use crate::log_chain::LinkDigest;
use crate::persist::freed_uploads::FreedUploads;
use crate::persist::key_counts::KeyCounts;
use crate::persist::progress::StartProgress;
use crate::store::{LogEntry, Store, WithdrawalError};

/// What a gateway has in memory of the log.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) set: IdentitySetWriter,
    pub(super) tags: Arc<TagIndex>,
    pub(super) key_counts: KeyCounts,
    pub(super) freed: FreedUploads,
    /// The link of the last row.
    pub(super) last_link: Option<LinkDigest>,
}

/// Why the memory was not rebuilt.
#[derive(Debug)]
pub(super) enum RebuildError {
    /// The database failed.
    Database(SqlError),
    /// A row is not what a gateway has written: which, and what is wrong with it.
    Changed(String),
}

impl From<SqlError> for RebuildError {
    fn from(error: SqlError) -> Self {
        Self::Database(error)
    }
}

impl From<WithdrawalError> for RebuildError {
    fn from(error: WithdrawalError) -> Self {
        match error {
            WithdrawalError::Database(error) => Self::Database(error),
            WithdrawalError::Fault(fault) => Self::Changed(fault.to_string()),
        }
    }
}

/// Reads the log up to a position: identities and tags of uploads since an instant.
pub(super) fn rebuild(
    store: &mut Store,
    since: UnixMillis,
    position: Seq,
    continuity: &Continuity,
    progress: &StartProgress,
) -> Result<Memory, RebuildError> {
    loop {
        let forgotten = store.forgotten(continuity.chain())?;
        let mut walk = continuity
            .log_walk(forgotten.last)
            .with_forgotten_to(forgotten.to);
        let mut changed = None;
        let expected = store.count_keys_since(since, position)?;
        progress.expect(expected);
        let mut set = IdentitySetWriter::with_room_for(expected, Seq::ZERO);
        let tags = Arc::new(TagIndex::default());
        let freed = FreedUploads::start(store, continuity, &tags)?;
        let key_counts = KeyCounts::default();
        let mut on_entry = |entry: LogEntry| {
            let step = walk.step(entry.seq, &entry.columns(), entry.link.as_ref());
            if let (Err(broken), None) = (step, &changed) {
                changed = Some(format!("{} {}", entry.mark().place(), broken.mismatch));
            }
            if entry.created_at >= since {
                let day = entry.created_at.day();
                if !freed.contain(entry.seq) {
                    set.insert(&entry.identities, day, entry.seq);
                }
                tags.insert(entry.country, entry.tag, entry.content, day);
                progress.add(entry.identities.len());
                key_counts.add(entry.country, day, entry.key_count);
            }
        };
        store.read_whole_log(position, &mut on_entry)?;
        // Nothing is answered from what the server may still lose.
        store.make_reads_durable()?;
        match changed {
            // Retention of another gateway has deleted rows between the two queries: once more.
            Some(_) if store.forgotten(continuity.chain())? != forgotten => {}
            Some(changed) => return Err(RebuildError::Changed(changed)),
            None => {
                set.announce(position);
                set.publish(position);
                let last_link = walk.last();
                return Ok(Memory {
                    set,
                    tags,
                    key_counts,
                    freed,
                    last_link,
                });
            }
        }
    }
}
