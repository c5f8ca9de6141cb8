//! Download batches, and their bytes.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::domain::{BatchTag, Country, Format, Seq};
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
}

/// A numbered download batch: a range of the log that never changes.
#[derive(Debug, PartialEq, Eq)]
pub struct DownloadBatch {
    /// Its place in the chain of all batches, from 1.
    pub ordinal: u64,
    /// Its name.
    pub tag: BatchTag,
    /// Its range of the log.
    pub seqs: RangeInclusive<u64>,
    /// Its uploads in commit order, those without keys left out.
    pub uploads: Vec<BundledUpload>,
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
        };
        let with_keys = uploads.into_iter().filter(|upload| upload.key_count > 0);
        Self {
            ordinal: row.ordinal,
            tag: row.tag,
            seqs: row.seqs,
            uploads: with_keys.map(bundled).collect(),
        }
    }

    /// As it is in the database.
    pub(super) fn row(&self) -> DownloadBatchRow {
        DownloadBatchRow {
            ordinal: self.ordinal,
            tag: self.tag,
            seqs: self.seqs.clone(),
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

impl Bundle {
    pub(super) fn bytes(&self) -> usize {
        self.segments.iter().map(Bytes::len).sum()
    }

    /// The same keys as JSON.
    pub(super) fn to_json(&self) -> Self {
        let segment = |protobuf: &Bytes| {
            let mut out = Vec::with_capacity(protobuf.len() * 4);
            json::write_segment(&mut out, protobuf);
            Bytes::from(out)
        };
        Self {
            format: Format::Json,
            segments: self.segments.iter().map(segment).collect(),
        }
    }
}

/// The ordinal of a download batch, and a format of its bytes.
pub(super) type BundleKey = (u64, Format);
