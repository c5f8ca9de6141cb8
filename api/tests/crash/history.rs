//! The record of everything sent, answered and downloaded by all tasks of a test. Gateways are checked
//! against it, immediately where possible.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use efgs_client::Answer;
use engine::domain::{BatchTag, Country};
use tokio::sync::watch;

use crate::uploads::{Key, Upload};

/// Number of an upload in the history.
pub(crate) type UploadIndex = usize;

/// The outcome of an upload, as its participant knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No final answer yet.
    Pending,
    /// 201: stored once and for good.
    Stored,
    /// 207, with the positions of the duplicates: nothing of it is stored.
    Refused(Vec<usize>),
    /// No 201, and no more retries: stored as a whole, or not at all.
    Abandoned,
}

/// An upload and its outcome.
pub(crate) struct Entry {
    pub(crate) upload: Arc<Upload>,
    pub(crate) outcome: Outcome,
}

/// A download batch as one participant saw it first.
#[derive(Debug)]
pub(crate) struct ReceivedBatch {
    pub(crate) digest: Vec<u8>,
    pub(crate) uploads: Vec<UploadIndex>,
}

/// Events by number, to wait for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Uploads answered with 201.
    pub(crate) stored: u64,
    /// Uploads answered with 5xx.
    pub(crate) errors: u64,
    /// Uploads that were sent and not answered.
    pub(crate) unanswered: u64,
    /// Download batches that any participant knows of.
    pub(crate) batches: u64,
    /// Download batches as seen by each participant, those seen again left out.
    pub(crate) received: u64,
    /// Uploads answered with 201 by each gateway.
    pub(crate) by_gateway: [u64; GATEWAYS_MAX],
    /// The longest wait for a 201.
    pub(crate) slowest: Duration,
    /// The longest wait for an error.
    pub(crate) slowest_error: Duration,
}

/// Gateways of a test.
const GATEWAYS_MAX: usize = 4;

#[derive(Default)]
pub(crate) struct Records {
    pub(crate) uploads: Vec<Entry>,
    by_first_key: HashMap<Key, Vec<UploadIndex>>,
    /// Every announced batch tag, and the one after it.
    pub(crate) chain: BTreeMap<BatchTag, Option<BatchTag>>,
    pub(crate) received: HashMap<Country, BTreeMap<BatchTag, ReceivedBatch>>,
    delivered: HashMap<(Country, UploadIndex), BatchTag>,
    pub(crate) violations: Vec<String>,
    /// When the unanswered uploads were sent.
    pub(crate) lost: Vec<Instant>,
}

/// A download request, with what was known when it was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) tag: Option<BatchTag>,
    /// The batch that was announced to follow.
    announced: Option<BatchTag>,
    /// Whether there are batches at all.
    pub(crate) must_be_there: bool,
}

/// The history.
pub(crate) struct History {
    records: Mutex<Records>,
    counts: watch::Sender<Counts>,
    /// Whether there is only one gateway: then announcements never change.
    single_gateway: bool,
}

impl History {
    pub(crate) fn new(gateways: usize) -> Self {
        Self {
            records: Mutex::default(),
            counts: watch::Sender::default(),
            single_gateway: gateways == 1,
        }
    }

    pub(crate) fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap()
    }

    pub(crate) fn report(&self, violation: String) {
        println!("VIOLATION: {violation}");
        self.records().violations.push(violation);
    }

    /// Records an unanswered upload and when it was sent.
    pub(crate) fn lose(&self, sent_at: Instant) {
        self.records().lost.push(sent_at);
        self.count(|counts| counts.unanswered += 1);
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits for an event; false if it does not come.
    pub(crate) async fn wait_for(&self, within: Duration, seen: impl Fn(&Counts) -> bool) -> bool {
        let mut counts = self.counts.subscribe();
        let seen = tokio::time::timeout(within, counts.wait_for(seen)).await;
        matches!(seen, Ok(Ok(_)))
    }

    /// Records an upload, before it is sent for the first time.
    pub(crate) fn enter(&self, upload: Upload) -> (UploadIndex, Arc<Upload>) {
        let upload = Arc::new(upload);
        let mut records = self.records();
        let index = records.uploads.len();
        let first = upload.keys[0].clone();
        records.by_first_key.entry(first).or_default().push(index);
        let (entered, outcome) = (Arc::clone(&upload), Outcome::Pending);
        records.uploads.push(Entry {
            upload: entered,
            outcome,
        });
        (index, upload)
    }

    /// Records its outcome.
    pub(crate) fn record(&self, index: UploadIndex, outcome: &Outcome) {
        self.records().uploads[index].outcome = outcome.clone();
        if *outcome == Outcome::Stored {
            self.count(|counts| counts.stored += 1);
        }
    }

    /// A download request that is about to be sent, and what is known so far.
    pub(crate) fn ask(&self, tag: Option<BatchTag>) -> Asked {
        let records = self.records();
        Asked {
            tag,
            announced: tag.and_then(|tag| records.chain.get(&tag).copied().flatten()),
            must_be_there: !records.chain.is_empty(),
        }
    }

    /// Records a 200 response to a download; returns the batch's tag and the announced one.
    pub(crate) fn read(
        &self,
        reader: Country,
        asked: Asked,
        answer: &Answer,
    ) -> Option<(BatchTag, Option<BatchTag>)> {
        let header = |name| answer.header(name).unwrap_or_default();
        let (tag, next) = (header("batchtag"), header("nextbatchtag"));
        let mut records = self.records();
        let read = read_tags(tag, next)
            .ok_or_else(|| "malformed tags".to_owned())
            .and_then(|(tag, next)| {
                if asked.tag.is_some_and(|asked| asked != tag) {
                    return Err("not the batch that was asked for".to_owned());
                }
                if self.single_gateway && next.is_none() && asked.announced.is_some() {
                    return Err("another was announced before".to_owned());
                }
                let new_tags = records.record_tags(tag, next)?;
                let is_new = records.record_bundle(reader, tag, &answer.body)?;
                Ok((tag, next, new_tags, is_new))
            });
        match read {
            Ok((tag, next, new_tags, is_new)) => {
                drop(records);
                self.count(|counts| {
                    counts.batches += new_tags;
                    counts.received += u64::from(is_new);
                });
                Some((tag, next))
            }
            Err(what) => {
                drop(records);
                self.report(format!(
                    "{reader} downloads {:?}, gets {tag:?} before {next:?}: {what}",
                    asked.tag
                ));
                None
            }
        }
    }

    /// Acknowledged uploads that `reader` has not received yet.
    pub(crate) fn outstanding(&self, reader: Country) -> usize {
        let records = self.records();
        let due = records.uploads.iter().enumerate().filter(|(_, entry)| {
            entry.outcome == Outcome::Stored && entry.upload.country != reader
        });
        due.filter(|(index, _)| !records.delivered.contains_key(&(reader, *index)))
            .count()
    }
}

impl Records {
    /// Records a batch and the one announced after it; returns how many of both are new.
    fn record_tags(&mut self, tag: BatchTag, next: Option<BatchTag>) -> Result<u64, String> {
        let before = self.chain.len();
        let known = self.chain.entry(tag).or_default();
        match (*known, next) {
            (Some(known), Some(next)) if known != next => {
                return Err(format!("the next batch was {known} before"));
            }
            (_, Some(next)) => *known = Some(next),
            (_, None) => {}
        }
        if let Some(next) = next {
            if !succeeds(tag, next) {
                return Err("numbers have a gap".to_owned());
            }
            self.chain.entry(next).or_default();
        }
        Ok((self.chain.len() - before) as u64)
    }

    /// Records a batch's bytes; false if they are already known.
    fn record_bundle(
        &mut self,
        reader: Country,
        tag: BatchTag,
        body: &[u8],
    ) -> Result<bool, String> {
        let digest = digest_of(body);
        if let Some(page) = self.received.entry(reader).or_default().get(&tag) {
            return match page.digest == digest {
                true => Ok(false),
                false => Err("its bytes are others than before".to_owned()),
            };
        }
        let uploads = self.split(body)?;
        for &index in &uploads {
            let entry = &self.uploads[index];
            let name = format!("{} of {}", entry.upload.tag, entry.upload.country);
            if entry.upload.country == reader {
                return Err(format!("{name} comes back"));
            }
            if matches!(entry.outcome, Outcome::Refused(_)) {
                return Err(format!("{name} was refused"));
            }
            if let Some(before) = self.delivered.insert((reader, index), tag) {
                return Err(format!("{name} came in {before} already"));
            }
        }
        let page = ReceivedBatch { digest, uploads };
        self.received.entry(reader).or_default().insert(tag, page);
        Ok(true)
    }

    /// The uploads whose complete bodies a bundle contains, in order.
    pub(crate) fn split(&self, bundle: &[u8]) -> Result<Vec<UploadIndex>, String> {
        let mut uploads = Vec::new();
        let mut rest = bundle;
        while !rest.is_empty() {
            let body = |index: &UploadIndex| &self.uploads[*index].upload.body;
            let first = first_key(rest).and_then(|key| self.by_first_key.get(key));
            let whole = first.into_iter().flatten().copied();
            let whole = whole
                .filter(|index| rest.starts_with(body(index)))
                .max_by_key(|index| body(index).len());
            let index = whole.ok_or_else(|| {
                let at = bundle.len() - rest.len();
                format!("at byte {at} no whole upload begins")
            })?;
            uploads.push(index);
            rest = &rest[body(&index).len()..];
        }
        Ok(uploads)
    }
}

pub(crate) fn digest_of(body: &[u8]) -> Vec<u8> {
    digest(&SHA256, body).as_ref().to_vec()
}

/// Whether `next` may follow `tag`: the next number of the day, or 1 of a later day.
pub(crate) fn succeeds(tag: BatchTag, next: BatchTag) -> bool {
    match next.day == tag.day {
        true => next.number == tag.number + 1,
        false => next.day > tag.day && next.number == 1,
    }
}

fn read_tags(tag: &str, next: &str) -> Option<(BatchTag, Option<BatchTag>)> {
    let next = match next {
        "null" => None,
        next => Some(BatchTag::parse(next).ok()?),
    };
    Some((BatchTag::parse(tag).ok()?, next))
}

/// The first encoded key of a bundle: a tag of one byte, its length in a varint, itself.
fn first_key(bundle: &[u8]) -> Option<&[u8]> {
    let length_bytes = match bundle.get(1)? {
        0..0x80 => 1,
        _ => 2,
    };
    let length = match length_bytes {
        1 => usize::from(bundle[1]),
        _ => usize::from(bundle[1] & 0x7f) | usize::from(*bundle.get(2)?) << 7,
    };
    bundle.get(..1 + length_bytes + length)
}
