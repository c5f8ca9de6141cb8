//! What one participant received, held against what it should have received. Pure: batches in,
//! findings out, no network.

use std::ops::Range;
use std::sync::Arc;

use engine::domain::{BatchTag, Country};
use engine::wire::protobuf::KeyMessages;

use super::expected::{Expected, KeyHash, KeyHasher};
use crate::workload::sha256;

/// A download batch as a participant received it.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Header `batchTag`.
    pub tag: &'a str,
    /// Header `nextBatchTag`; `null` when there is none yet.
    pub next: &'a str,
    /// The keys, in protobuf.
    pub body: &'a [u8],
}

/// What is wrong, counted. All zero is what a gateway owes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Findings {
    /// Keys that never came.
    pub missing: u64,
    /// Keys that came again.
    pub duplicate: u64,
    /// Uploads whose keys, as downloaded, do not verify against the signature they were sent with.
    pub unverified: u64,
    /// Keys that nobody uploaded.
    pub unexpected: u64,
    /// Keys that came back to who uploaded them.
    pub own: u64,
    /// Uploads whose keys came in another order, or in more than one piece.
    pub disordered: u64,
    /// Batch tags that are malformed, leave a gap, or are not the announced ones.
    pub tags: u64,
    /// Pairs of participants that received uploads in different orders or batches.
    pub disagreements: u64,
    /// Bodies that are no batch of keys.
    pub malformed: u64,
}

impl Findings {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// Each count with its name.
    pub const fn counts(&self) -> [(&'static str, u64); 9] {
        [
            ("missing", self.missing),
            ("duplicate", self.duplicate),
            ("unverified", self.unverified),
            ("unexpected", self.unexpected),
            ("own", self.own),
            ("disordered", self.disordered),
            ("tags", self.tags),
            ("disagreements", self.disagreements),
            ("malformed", self.malformed),
        ]
    }

    /// Adds another participant's findings.
    pub fn add(&mut self, other: &Self) {
        self.missing += other.missing;
        self.duplicate += other.duplicate;
        self.unverified += other.unverified;
        self.unexpected += other.unexpected;
        self.own += other.own;
        self.disordered += other.disordered;
        self.tags += other.tags;
        self.disagreements += other.disagreements;
        self.malformed += other.malformed;
    }
}

/// An upload's keys in a row within one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) upload: usize,
    pub(super) batch: Option<BatchTag>,
}

/// A slice that is being read key by key.
#[derive(Debug)]
struct OpenSlice {
    upload: usize,
    /// Where it stands in the body.
    bytes: Range<usize>,
    /// How many keys it has so far.
    key_count: usize,
    /// Position that the next key should have, or a later one.
    next: usize,
    /// Whether each key stood behind the one before it.
    in_order: bool,
}

/// How far one participant's downloads have come.
#[derive(Debug)]
pub struct Delivery {
    expected: Arc<Expected>,
    country: Country,
    hasher: KeyHasher,
    received: Vec<u64>,
    verified: Vec<bool>,
    begun: Vec<bool>,
    slices: Vec<Slice>,
    open: Option<OpenSlice>,
    last: Option<(Option<BatchTag>, Option<BatchTag>)>,
    /// Keys that have come, each counted once.
    delivered: u64,
    acknowledged_left: u64,
    findings: Findings,
}

impl Delivery {
    /// Nothing received yet.
    pub fn new(expected: Arc<Expected>, country: Country) -> Self {
        Self {
            country,
            hasher: KeyHasher::default(),
            received: vec![0; expected.key_hashes.len().div_ceil(64)],
            verified: vec![false; expected.uploads.len()],
            begun: vec![false; expected.uploads.len()],
            slices: Vec::new(),
            open: None,
            last: None,
            delivered: 0,
            acknowledged_left: expected.keys_for(country),
            findings: Findings::default(),
            expected,
        }
    }

    /// Who downloads.
    pub const fn country(&self) -> Country {
        self.country
    }

    /// Keys that have come, each counted once.
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether every acknowledged key of the others has come.
    pub const fn is_complete(&self) -> bool {
        self.acknowledged_left == 0
    }

    /// Takes the next batch of the chain.
    pub fn take(&mut self, batch: &Received<'_>) {
        let tag = BatchTag::parse(batch.tag).ok();
        self.check_tag(tag);
        self.take_body(batch.body, tag);
        self.announce(batch.next);
    }

    /// Takes note of the `nextBatchTag` that the last batch has by now.
    pub fn announce(&mut self, next: &str) {
        let next = match next {
            "null" => None,
            tag => {
                let tag = BatchTag::parse(tag);
                self.findings.tags += u64::from(tag.is_err());
                tag.ok()
            }
        };
        if let Some((_, announced)) = &mut self.last {
            *announced = next;
        }
    }

    /// The first batch of a day has number 1; after it comes the announced one, which is the next
    /// number of the day or number 1 of a later day.
    fn check_tag(&mut self, tag: Option<BatchTag>) {
        let follows = match (&self.last, tag) {
            (_, None) => false,
            (None, Some(tag)) => tag.number == 1,
            (Some((before, announced)), Some(tag)) => {
                *announced == Some(tag) && before.is_none_or(|before| succeeds(before, tag))
            }
        };
        self.findings.tags += u64::from(!follows);
        self.last = Some((tag, None));
    }

    fn take_body(&mut self, body: &[u8], batch: Option<BatchTag>) {
        let mut at = 0;
        while at < body.len() {
            let rest = &body[at..];
            let message = match KeyMessages::new(rest).next_message() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(_) => {
                    self.findings.malformed += 1;
                    break;
                }
            };
            let hash = self.hasher.hash(message);
            at += match hash.and_then(|hash| self.whole_slice(hash, rest)) {
                Some(upload) => self.take_whole(upload, body, at, batch),
                None => {
                    let end = at + end_of(message, rest);
                    self.take_key(hash, body, at..end, batch);
                    end - at
                }
            };
        }
        self.close(body);
    }

    /// The upload whose body the rest of a batch begins with, byte for byte.
    fn whole_slice(&self, first_key: KeyHash, rest: &[u8]) -> Option<usize> {
        let candidates = self.expected.beginning_with(first_key);
        candidates.iter().copied().find(|&upload| {
            let expected = &self.expected.uploads[upload];
            let fresh = !self.is_received(expected.key_start) && expected.country != self.country;
            let slice = rest.get(..expected.body_bytes).filter(|_| fresh);
            slice.is_some_and(|slice| sha256(slice) == expected.body_digest)
        })
    }

    /// Takes a whole slice at once; gives its length.
    fn take_whole(
        &mut self,
        upload: usize,
        body: &[u8],
        at: usize,
        batch: Option<BatchTag>,
    ) -> usize {
        self.close(body);
        let expected = Arc::clone(&self.expected);
        let sent = &expected.uploads[upload];
        for position in sent.key_start..sent.key_start + sent.key_count {
            self.mark(position, sent.acknowledged);
        }
        self.begin(Slice { upload, batch });
        let slice = &body[at..at + sent.body_bytes];
        self.verified[upload] = expected.verifies(upload, slice, true);
        sent.body_bytes
    }

    fn take_key(
        &mut self,
        hash: Option<KeyHash>,
        body: &[u8],
        bytes: Range<usize>,
        batch: Option<BatchTag>,
    ) {
        let Some(position) = hash.and_then(|hash| self.locate(hash)) else {
            self.findings.unexpected += 1;
            return self.close(body);
        };
        let upload = self.expected.upload_of(position);
        let expected = Arc::clone(&self.expected);
        let expected = &expected.uploads[upload];
        if expected.country == self.country {
            self.findings.own += 1;
            return self.close(body);
        }
        self.mark(position, expected.acknowledged);
        if self.open.as_ref().is_none_or(|open| open.upload != upload) {
            self.close(body);
            self.begin(Slice { upload, batch });
            let (bytes, next) = (bytes.start..bytes.start, expected.key_start);
            self.open = Some(OpenSlice {
                upload,
                bytes,
                key_count: 0,
                next,
                in_order: true,
            });
        }
        if let Some(open) = &mut self.open {
            open.in_order &= position >= open.next;
            open.next = position + 1;
            open.key_count += 1;
            open.bytes.end = bytes.end;
        }
    }

    /// The position that a key of that hash takes: one that has not come yet, if there is one, and
    /// best the one that is next in the open slice.
    fn locate(&self, hash: KeyHash) -> Option<usize> {
        let positions = self
            .expected
            .positions(hash)
            .iter()
            .map(|&position| position as usize);
        let next = self.open.as_ref().map(|open| open.next);
        positions.min_by_key(|&position| (self.is_received(position), Some(position) != next))
    }

    fn begin(&mut self, slice: Slice) {
        let again = std::mem::replace(&mut self.begun[slice.upload], true);
        self.findings.disordered += u64::from(again);
        self.slices.push(slice);
    }

    /// Ends the open slice. If it has as many keys as its upload, it should verify; in whatever
    /// order they stand, since signing orders them anew.
    fn close(&mut self, body: &[u8]) {
        if let Some(open) = self.open.take() {
            self.findings.disordered += u64::from(!open.in_order);
            if open.key_count == self.expected.uploads[open.upload].key_count {
                let verifies = self
                    .expected
                    .verifies(open.upload, &body[open.bytes], false);
                self.verified[open.upload] |= verifies;
            }
        }
    }

    fn is_received(&self, position: usize) -> bool {
        self.received[position / 64] >> (position % 64) & 1 == 1
    }

    fn mark(&mut self, position: usize, acknowledged: bool) {
        if self.is_received(position) {
            self.findings.duplicate += 1;
            return;
        }
        self.received[position / 64] |= 1 << (position % 64);
        self.delivered += 1;
        self.acknowledged_left -= u64::from(acknowledged);
    }

    /// Counts what never came (an announced batch, too) and what never verified. An upload that was not acknowledged may be
    /// absent as a whole.
    pub(super) fn finish(mut self) -> Delivered {
        let promised = matches!(self.last, Some((_, Some(_))));
        self.findings.tags += u64::from(promised);
        for (upload, &verified) in self.expected.uploads.iter().zip(&self.verified) {
            if upload.country == self.country {
                continue;
            }
            let positions = upload.key_start..upload.key_start + upload.key_count;
            let came = positions
                .filter(|&position| self.is_received(position))
                .count();
            if upload.acknowledged || came > 0 {
                self.findings.missing += (upload.key_count - came) as u64;
                self.findings.unverified += u64::from(!verified);
            }
        }
        Delivered {
            country: self.country,
            keys: self.delivered,
            slices: self.slices,
            findings: self.findings,
        }
    }
}

/// What one participant received, all told.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) country: Country,
    pub(super) keys: u64,
    pub(super) slices: Vec<Slice>,
    pub(super) findings: Findings,
}

fn succeeds(before: BatchTag, tag: BatchTag) -> bool {
    let next_number = before.number.checked_add(1) == Some(tag.number);
    if tag.day == before.day {
        next_number
    } else {
        tag.day > before.day && tag.number == 1
    }
}

/// Where a message ends in the bytes that it borrows from.
fn end_of(message: &[u8], bytes: &[u8]) -> usize {
    message.as_ptr() as usize - bytes.as_ptr() as usize + message.len()
}
