//! A group commit on its way: which uploads go into one transaction, and the thread that writes
//! them while the writer makes the next group ready.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::connection::SqlError;
use super::{Store, Submission};
use crate::dedup::Fingerprints;
use crate::domain::{Country, Seq, UploadTag};
use crate::limits;
use crate::upload::SealedBatch;

/// What the uploads of a group have, that no two of them and none of the next group may share
/// before it is decided.
#[derive(Debug, Default)]
pub(super) struct Members {
    identities: Fingerprints,
    tags: HashSet<(Country, UploadTag)>,
    bytes: usize,
}

impl Members {
    /// Whether an upload shares a tag or a key with a member; in doubt it does.
    pub(super) fn share_with(&self, batch: &SealedBatch) -> bool {
        !self.tags.is_empty()
            && (self.tags.contains(&(batch.country, batch.tag.clone()))
                || self.identities.contain_any(&batch.probe.identities))
    }

    pub(super) fn add(&mut self, batch: &SealedBatch) {
        self.tags.insert((batch.country, batch.tag.clone()));
        self.identities.add(&batch.probe.identities);
        self.bytes += batch.stored_bytes();
    }

    pub(super) fn clear(&mut self) {
        self.tags.clear();
        self.identities.clear();
        self.bytes = 0;
    }

    /// Whether no further upload goes into the group's transaction.
    pub(super) const fn are_full(&self) -> bool {
        self.bytes >= limits::GROUP_BYTES_MAX
    }
}

/// A judged group, to be written at `first` and the positions after it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) store: Store,
    pub(super) group: Vec<Submission>,
    pub(super) first: Seq,
    /// Whether the end of the log is claimed.
    pub(super) claimed: bool,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) store: Store,
    pub(super) group: Vec<Submission>,
    pub(super) outcome: Result<(), SqlError>,
    pub(super) took: Duration,
}

/// The commit thread: waits for the database, so that the writer need not. Has one job at most.
#[derive(Debug)]
pub(super) struct Committer {
    jobs: Sender<Job>,
    pub(super) written: Receiver<Written>,
}

impl Committer {
    /// Starts the thread; it ends when this value is dropped.
    pub(super) fn start() -> std::io::Result<Self> {
        let (jobs, queue) = bounded::<Job>(1);
        let (done, written) = bounded(1);
        let work = move || {
            for job in queue {
                if done.send(job.write()).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(work)?;
        Ok(Self { jobs, written })
    }

    pub(super) fn begin(&self, job: Job) {
        self.jobs
            .send(job)
            .expect("the commit thread lives as long as the writer");
    }
}

impl Job {
    fn write(mut self) -> Written {
        let append = match self.claimed {
            true => Store::append_claimed,
            false => Store::append,
        };
        let batches: Vec<_> = self.group.iter().map(|one| &one.batch).collect();
        let started = Instant::now();
        let outcome = append(&mut self.store, self.first, &batches);
        Written {
            took: started.elapsed(),
            store: self.store,
            group: self.group,
            outcome,
        }
    }
}
