//! Group commit: which uploads go into one transaction, and the thread that commits it while the
//! writer prepares the next group.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::submission::Submission;
use crate::continuity::Continuity;
use crate::database::SqlError;
use crate::dedup::Fingerprints;
use crate::domain::{Country, FORMAT_VERSION, Seq, UploadTag};
use crate::limits;
use crate::log_chain::{Link, LinkDigest};
use crate::store::{Appended, LogMark, Store, UploadRow};
use crate::upload::SealedBatch;

/// Tags and keys of the uploads of a group. No two of them, and none of the next group, may share
/// one until the group's commit has succeeded or failed.
#[derive(Debug, Default)]
pub(super) struct GroupKeys {
    identities: Fingerprints,
    tags: HashSet<(Country, UploadTag)>,
    bytes: usize,
}

impl GroupKeys {
    /// Whether an upload shares a tag or a key with the group; a fingerprint that collides counts as
    /// shared.
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

/// A re-checked group, to be written at `first` and the positions after it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) store: Store,
    pub(super) group: Vec<Submission>,
    pub(super) first: Seq,
    /// The row before them.
    pub(super) previous: Option<LogMark>,
    /// Its link.
    pub(super) last: Option<LinkDigest>,
    pub(super) continuity: Arc<Continuity>,
    /// Whether the tail of the log is locked.
    pub(super) log_is_locked: bool,
}

/// A job with its outcome.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) store: Store,
    pub(super) group: Vec<Submission>,
    pub(super) outcome: Result<Appended, SqlError>,
    /// What identifies the last row.
    pub(super) newest: Option<LogMark>,
    /// Whether what is stored is remembered outside the database, where that is wanted.
    pub(super) is_remembered: bool,
    pub(super) took: Duration,
}

/// The commit thread: waits for the database, so that the writer need not. It has at most one job.
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
        let started = Instant::now();
        let links = self.links();
        let outcome = self.append(&links);
        let took = started.elapsed();
        let newest = (self.first.0..).zip(&self.group).zip(&links).last();
        let newest = newest.map(|((seq, submission), link)| mark(seq, *link, &submission.batch));
        let is_stored = matches!(outcome, Ok(Appended::Stored));
        Written {
            is_remembered: !is_stored || self.remember(newest.as_ref()),
            took,
            store: self.store,
            group: self.group,
            outcome,
            newest,
        }
    }

    /// What the rows carry of the chain: only now is it known what they follow.
    fn links(&self) -> Vec<Link> {
        let (chain, mut last) = (self.continuity.chain(), self.last);
        let numbered = (self.first.0..).zip(&self.group);
        numbered
            .map(|(seq, submission)| {
                let link = chain.link(last, Seq(seq), submission.batch.columns);
                last = Some(link.digest);
                link
            })
            .collect()
    }

    fn append(&mut self, links: &[Link]) -> Result<Appended, SqlError> {
        let append = match self.log_is_locked {
            true => Store::append_locked,
            false => Store::append,
        };
        let rows: Vec<_> = (self.first.0..)
            .zip(&self.group)
            .zip(links)
            .map(|((seq, submission), link)| row(seq, *link, &submission.batch))
            .collect();
        if !self.continuity.is_same_file() {
            return Ok(Appended::PreviousRowChanged);
        }
        let appended = append(&mut self.store, self.previous.as_ref(), &rows)?;
        // If the file was exchanged meanwhile, the rows are in one that nobody finds again.
        match self.continuity.is_same_file() {
            true => Ok(appended),
            false => Ok(Appended::PreviousRowChanged),
        }
    }

    fn remember(&self, newest: Option<&LogMark>) -> bool {
        newest.is_none_or(|newest| self.continuity.remember_row(newest).is_ok())
    }
}

fn mark(seq: u64, link: Link, batch: &SealedBatch) -> LogMark {
    LogMark {
        seq: Seq(seq),
        created_at: batch.created_at,
        country: batch.country,
        tag: batch.tag.clone(),
        key_count: batch.key_count,
        content: batch.content,
        link: Some(link),
    }
}

pub(super) fn row(seq: u64, link: Link, batch: &SealedBatch) -> UploadRow<'_> {
    UploadRow {
        seq: Seq(seq),
        created_at: batch.created_at,
        country: batch.country,
        tag: &batch.tag,
        key_count: batch.key_count,
        format_version: FORMAT_VERSION,
        uploader: &batch.uploader,
        signer: &batch.signer,
        content: &batch.content,
        link,
        batch_signature: &batch.batch_signature,
        identities: &batch.probe.identities,
        sealed: &batch.sealed,
    }
}
