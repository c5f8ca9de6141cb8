//! Compares what one participant received with the audits and with what it should have received.
//! Pure: batches in, findings out, no network.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use engine::domain::{BatchTag, Country};

use super::audit::{AuditedBatch, AuditedUpload, Auditor, ProofFailure, Slice as Cut, end_of};
use super::expected::{Expected, KeyHash, key_hash};
use crate::protocol;
use testkit::digest::sha256;

/// A download batch as a participant received it.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Header `batchTag`.
    pub tag: &'a str,
    /// Header `nextBatchTag`; `null` when there is none yet.
    pub next: &'a str,
    /// The keys, in protobuf.
    pub body: &'a [u8],
    /// The batch's audit, in JSON; `None` when the gateway would not give it.
    pub audit: Option<&'a [u8]>,
}

/// Counts of everything that is wrong: all must be zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Findings {
    /// Keys that were never delivered.
    pub missing: u64,
    /// Keys that were delivered more than once.
    pub duplicate: u64,
    /// Uploads that no audit proves: their downloaded keys do not verify against the batch
    /// signature, or a certificate does not match its description or has no valid operator
    /// signature.
    pub unverified: u64,
    /// Keys that were never uploaded.
    pub unexpected: u64,
    /// Keys that were delivered to their own uploader.
    pub own: u64,
    /// Uploads whose keys were delivered in another order, or in more than one piece.
    pub disordered: u64,
    /// Batch tags that are malformed, leave a gap, or are not the announced ones.
    pub tags: u64,
    /// Pairs of participants that received uploads in different orders or batches.
    pub disagreements: u64,
    /// Bodies that are not a batch of keys.
    pub malformed: u64,
    /// Batches whose audit was refused or cannot be read.
    pub audit_unreadable: u64,
    /// Acknowledged uploads, its own included, that no audit shows.
    pub audit_missing: u64,
    /// Uploads that an audit shows and that were never sent.
    pub audit_unknown: u64,
    /// Batches whose keys are more or fewer than their audit's amounts.
    pub audit_amounts: u64,
    /// Batches whose audit shows its own uploads before others'.
    pub audit_order: u64,
    /// Uploads that an audit shows twice, or with another amount, country or certificate than they
    /// were sent with.
    pub audit_contradictions: u64,
}

impl Findings {
    /// Whether all counts are zero.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// Each count with its name.
    pub const fn counts(&self) -> [(&'static str, u64); 15] {
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
            ("audit_unreadable", self.audit_unreadable),
            ("audit_missing", self.audit_missing),
            ("audit_unknown", self.audit_unknown),
            ("audit_amounts", self.audit_amounts),
            ("audit_order", self.audit_order),
            ("audit_contradictions", self.audit_contradictions),
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
        self.audit_unreadable += other.audit_unreadable;
        self.audit_missing += other.audit_missing;
        self.audit_unknown += other.audit_unknown;
        self.audit_amounts += other.audit_amounts;
        self.audit_order += other.audit_order;
        self.audit_contradictions += other.audit_contradictions;
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
    /// Position that the next key should have, or a later one.
    next: usize,
    /// Whether each key stood behind the one before it.
    in_order: bool,
}

/// The progress of one participant's downloads.
#[derive(Debug)]
pub struct Delivery {
    expected: Arc<Expected>,
    auditor: Arc<Auditor>,
    country: Country,
    received: Vec<u64>,
    /// Which uploads an audit showed.
    shown: Vec<bool>,
    /// Which uploads an audit proved.
    proven: Vec<bool>,
    failures: BTreeMap<ProofFailure, u64>,
    /// Without a record: numbers of the uploads that audits showed, by their signed content.
    contents: HashMap<[u8; 32], usize>,
    begun: Vec<bool>,
    slices: Vec<Slice>,
    open: Option<OpenSlice>,
    last: Option<(Option<BatchTag>, Option<BatchTag>)>,
    /// Received keys, each counted once; without a record, all keys.
    delivered: u64,
    acknowledged_left: u64,
    /// Acknowledged uploads of its own that no audit has shown yet.
    own_left: u64,
    findings: Findings,
}

impl Delivery {
    /// Nothing received yet.
    pub fn new(expected: Arc<Expected>, auditor: Arc<Auditor>, country: Country) -> Self {
        Self {
            auditor,
            country,
            received: vec![0; expected.key_hashes.len().div_ceil(64)],
            shown: vec![false; expected.uploads.len()],
            proven: vec![false; expected.uploads.len()],
            failures: BTreeMap::new(),
            contents: HashMap::new(),
            begun: vec![false; expected.uploads.len()],
            slices: Vec::new(),
            open: None,
            last: None,
            delivered: 0,
            acknowledged_left: expected.keys_for(country),
            own_left: expected.uploads_of(country),
            findings: Findings::default(),
            expected,
        }
    }

    /// The receiver.
    pub const fn country(&self) -> Country {
        self.country
    }

    /// Received keys, each counted once; without a record, all keys.
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether every acknowledged key of the others was received, and an audit has shown every
    /// acknowledged upload of the receiver itself.
    pub const fn is_complete(&self) -> bool {
        self.acknowledged_left == 0 && self.own_left == 0
    }

    /// Takes the next batch of the chain.
    pub fn take(&mut self, batch: &Received<'_>) {
        let tag = BatchTag::parse(batch.tag).ok();
        self.check_tag(tag);
        let audited = batch
            .audit
            .and_then(|audit| self.auditor.audit(self.country, batch.body, audit).ok());
        self.findings.audit_unreadable += u64::from(audited.is_none());
        if let Some(audited) = &audited {
            self.take_audit(audited);
        }
        if self.expected.is_unrecorded() {
            self.take_unrecorded(batch.body, tag, audited.as_ref());
        } else {
            self.take_body(batch.body, tag, audited.as_ref());
        }
        self.announce(batch.next);
    }

    fn take_audit(&mut self, audited: &AuditedBatch) {
        self.findings.audit_order += u64::from(!audited.own_last);
        self.findings.audit_amounts += u64::from(!audited.amounts_fit);
        for upload in &audited.uploads {
            if let Err(failure) = upload.proof {
                *self.failures.entry(failure).or_default() += 1;
            }
            let sent = upload
                .content
                .and_then(|content| self.expected.with_content(&content));
            match sent {
                Some(sent) => self.take_entry(sent, upload),
                None => {
                    self.findings.unverified += u64::from(upload.proof.is_err());
                    self.findings.audit_unknown += u64::from(!self.expected.is_unrecorded());
                }
            }
        }
    }

    /// Takes what an audit says of an upload of the record. Others' that are not proven are counted
    /// at the end.
    fn take_entry(&mut self, sent: usize, upload: &AuditedUpload) {
        let again = std::mem::replace(&mut self.shown[sent], true);
        let contradicts = !self.expected.agrees(sent, &upload.entry);
        self.findings.audit_contradictions += u64::from(again || contradicts);
        self.findings.unverified += u64::from(upload.own && upload.proof.is_err());
        let expected = &self.expected.uploads[sent];
        let own = expected.country == self.country && expected.acknowledged;
        self.own_left -= u64::from(own && !again);
        self.proven[sent] |= upload.proof.is_ok();
    }

    /// Whether a batch was received.
    pub(super) const fn has_batch(&self) -> bool {
        self.last.is_some()
    }

    /// Records the `nextBatchTag` that the last batch now has.
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

    /// Takes a batch of which only the audit is known.
    fn take_unrecorded(
        &mut self,
        body: &[u8],
        batch: Option<BatchTag>,
        audited: Option<&AuditedBatch>,
    ) {
        for message in protocol::messages(body) {
            match message {
                Ok(_) => self.delivered += 1,
                Err(_) => self.findings.malformed += 1,
            }
        }
        let uploads = audited.map_or(&[][..], |audited| &audited.uploads);
        for upload in uploads.iter().filter(|upload| !upload.own) {
            let Some(content) = upload.content else {
                continue;
            };
            let number = self.contents.len();
            match self.contents.entry(content) {
                Entry::Vacant(entry) => {
                    entry.insert(number);
                    self.slices.push(Slice {
                        upload: number,
                        batch,
                    });
                }
                Entry::Occupied(_) => self.findings.duplicate += u64::from(upload.entry.amount),
            }
        }
    }

    fn take_body(&mut self, body: &[u8], batch: Option<BatchTag>, audited: Option<&AuditedBatch>) {
        let uploads = audited.map_or(&[][..], |audited| &audited.uploads);
        let mut cuts = uploads
            .iter()
            .filter_map(|upload| upload.slice.as_ref())
            .peekable();
        let mut at = 0;
        while at < body.len() {
            let rest = &body[at..];
            let message = match protocol::messages(rest).next() {
                Some(Ok(message)) => message,
                None => break,
                Some(Err(_)) => {
                    self.findings.malformed += 1;
                    break;
                }
            };
            let hash = key_hash(message);
            while cuts.next_if(|cut| cut.bytes.start < at).is_some() {}
            let cut = cuts.peek().copied().filter(|cut| cut.bytes.start == at);
            at += match hash.and_then(|hash| self.whole_slice(hash, rest, cut)) {
                Some(upload) => self.take_whole(upload, batch),
                None => {
                    self.take_key(hash, batch);
                    end_of(message, rest)
                }
            };
        }
        self.close();
    }

    /// The upload whose body the rest of a batch begins with, byte for byte.
    /// The audit's cut at this place has its digest ready.
    fn whole_slice(&self, first_key: KeyHash, rest: &[u8], cut: Option<&Cut>) -> Option<usize> {
        let candidates = self.expected.beginning_with(first_key);
        candidates.iter().copied().find(|&upload| {
            let expected = &self.expected.uploads[upload];
            let fresh = !self.is_received(expected.key_start) && expected.country != self.country;
            let slice = rest.get(..expected.body_bytes).filter(|_| fresh);
            let known = cut.filter(|cut| cut.bytes.len() == expected.body_bytes);
            let digest = |slice| known.map_or_else(|| sha256(slice), |cut| cut.digest);
            slice.is_some_and(|slice| digest(slice) == expected.body_digest)
        })
    }

    /// Takes a whole slice at once; returns its length.
    fn take_whole(&mut self, upload: usize, batch: Option<BatchTag>) -> usize {
        self.close();
        let expected = Arc::clone(&self.expected);
        let sent = &expected.uploads[upload];
        for position in sent.key_start..sent.key_start + sent.key_count {
            self.mark(position, sent.acknowledged);
        }
        self.begin(Slice { upload, batch });
        sent.body_bytes
    }

    fn take_key(&mut self, hash: Option<KeyHash>, batch: Option<BatchTag>) {
        let Some(position) = hash.and_then(|hash| self.locate(hash)) else {
            self.findings.unexpected += 1;
            return self.close();
        };
        let upload = self.expected.upload_of(position);
        let expected = Arc::clone(&self.expected);
        let expected = &expected.uploads[upload];
        if expected.country == self.country {
            self.findings.own += 1;
            return self.close();
        }
        self.mark(position, expected.acknowledged);
        if self.open.as_ref().is_none_or(|open| open.upload != upload) {
            self.close();
            self.begin(Slice { upload, batch });
            self.open = Some(OpenSlice {
                upload,
                next: expected.key_start,
                in_order: true,
            });
        }
        if let Some(open) = &mut self.open {
            open.in_order &= position >= open.next;
            open.next = position + 1;
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

    /// Ends the open slice.
    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.findings.disordered += u64::from(!open.in_order);
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

    /// Counts what was never delivered (including announced batches) and what was never proven. An
    /// unacknowledged upload may be absent as a whole.
    pub(super) fn finish(mut self) -> Delivered {
        let promised = matches!(self.last, Some((_, Some(_))));
        self.findings.tags += u64::from(promised);
        for (index, upload) in self.expected.uploads.iter().enumerate() {
            let missing = upload.acknowledged && !self.shown[index];
            self.findings.audit_missing += u64::from(missing);
            if upload.country == self.country {
                continue;
            }
            let positions = upload.key_start..upload.key_start + upload.key_count;
            let came = positions
                .filter(|&position| self.is_received(position))
                .count();
            if upload.acknowledged || came > 0 {
                self.findings.missing += (upload.key_count - came) as u64;
                self.findings.unverified += u64::from(!self.proven[index]);
            }
        }
        Delivered {
            country: self.country,
            keys: self.delivered,
            slices: self.slices,
            contents: self.contents,
            findings: self.findings,
            failures: self.failures,
        }
    }
}

/// Everything that one participant received.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) country: Country,
    pub(super) keys: u64,
    pub(super) slices: Vec<Slice>,
    /// Without a record: the number that each signed content has in `slices`.
    pub(super) contents: HashMap<[u8; 32], usize>,
    pub(super) findings: Findings,
    pub(super) failures: BTreeMap<ProofFailure, u64>,
}

fn succeeds(before: BatchTag, tag: BatchTag) -> bool {
    let next_number = before.number.checked_add(1) == Some(tag.number);
    if tag.day == before.day {
        next_number
    } else {
        tag.day > before.day && tag.number == 1
    }
}
