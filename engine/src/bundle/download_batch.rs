//! Download batches, and their bytes.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use bytes::Bytes;

use super::cache::Cacheable;
use crate::domain::{BatchTag, Country, Format, Seq};
use crate::limits;
use crate::log_chain::{BatchColumns, BatchDigest};
use crate::store::{DownloadBatchRow, UploadMeta};
use crate::wire::json;

/// An upload as a part of a download batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundledUpload {
    /// Its position in the log.
    pub seq: Seq,
    /// The uploader.
    pub country: Country,
    /// Number of keys.
    pub key_count: u32,
    /// Whether an operator has withdrawn it: it keeps its place, and its keys are not served.
    pub is_withdrawn: bool,
}

/// A numbered download batch: a fixed range of the log. Only withdrawals change what it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadBatch {
    /// Its place in the chain of all batches, from 1.
    pub ordinal: u64,
    /// Its name.
    pub tag: BatchTag,
    /// Its range of the log.
    pub seqs: RangeInclusive<u64>,
    /// Its uploads in commit order, those without keys left out.
    pub uploads: Vec<BundledUpload>,
    /// What its row vouches for.
    pub record: BatchRecord,
}

/// What the row of a download batch says of its uploads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchRecord {
    pub(super) key_count: u64,
    pub(super) digest: Option<BatchDigest>,
}

impl DownloadBatch {
    pub(super) fn new(
        row: DownloadBatchRow,
        uploads: impl IntoIterator<Item = UploadMeta>,
    ) -> Self {
        let bundled = |upload: UploadMeta| BundledUpload {
            seq: upload.seq,
            country: upload.country,
            key_count: upload.key_count,
            is_withdrawn: false,
        };
        let with_keys = uploads.into_iter().filter(|upload| upload.key_count > 0);
        Self {
            ordinal: row.columns.ordinal,
            tag: row.columns.tag,
            seqs: row.columns.seqs,
            uploads: with_keys.map(bundled).collect(),
            record: BatchRecord {
                key_count: row.columns.key_count,
                digest: row.digest,
            },
        }
    }

    /// Whether the upload at a position is withdrawn.
    pub(super) fn has_withdrawn(&self, seq: Seq) -> bool {
        let at = self.uploads.binary_search_by_key(&seq, |upload| upload.seq);
        at.is_ok_and(|at| self.uploads[at].is_withdrawn)
    }

    /// The same without the keys of withdrawn uploads; nothing if it has none that are new.
    pub(super) fn without(&self, withdrawn: &HashSet<Seq>) -> Option<Self> {
        let is_new =
            |upload: &BundledUpload| !upload.is_withdrawn && withdrawn.contains(&upload.seq);
        if withdrawn.is_empty() || !self.uploads.iter().any(is_new) {
            return None;
        }
        let mut changed = self.clone();
        for upload in &mut changed.uploads {
            upload.is_withdrawn |= withdrawn.contains(&upload.seq);
        }
        Some(changed)
    }

    /// As it is in the database.
    pub(super) fn row(&self) -> DownloadBatchRow {
        DownloadBatchRow {
            columns: BatchColumns {
                ordinal: self.ordinal,
                tag: self.tag,
                seqs: self.seqs.clone(),
                key_count: self.record.key_count,
            },
            digest: self.record.digest,
        }
    }
}

/// The encoded bytes of a download batch, in one format.
#[derive(Debug)]
pub struct Bundle {
    /// The format.
    pub format: Format,
    /// One segment per upload, in order.
    pub segments: Box<[Bytes]>,
}

impl Cacheable for Bundle {
    const GAUGE: &'static str = "efgs_bundle_cache_bytes";
    const LARGEST_BYTES: usize = 4 * limits::JSON_BUNDLE_BYTES_MAX;

    fn bytes(&self) -> usize {
        self.segments.iter().map(Bytes::len).sum()
    }
}

impl Bundle {
    /// Whether it is converted to JSON only while it is sent.
    pub(super) fn is_too_large_for_json(&self) -> bool {
        self.bytes() > limits::JSON_BUNDLE_BYTES_MAX
    }

    /// The same keys as JSON.
    pub(super) fn to_json(&self) -> Self {
        let segment = |protobuf: &Bytes| {
            let mut out = Vec::with_capacity(protobuf.len() * 4);
            json::write_segment(&mut out, protobuf);
            // Without what was reserved too much.
            Bytes::from(out.into_boxed_slice())
        };
        Self {
            format: Format::Json,
            segments: self.segments.iter().map(segment).collect(),
        }
    }
}
