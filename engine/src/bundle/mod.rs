//! Bundle and serve: uploads grouped into numbered download batches, and their bytes.
//!
//! - *In*: positions of the log, as the writer publishes them.
//! - *Out*: [`DownloadBatch`]es, and a [`Download`] for who asks.
//! - *Refuses*: what there is not ([`DownloadRefusal`]); cold reads beyond their bound.
//! - *Assumes*: the log is a total order without late arrivals, so a download batch is a range of
//!   it and a cutter never looks back.
//! - *Runs on*: the bundler thread (cutting, following), reader threads (cold bundles), and the
//!   caller's thread (warm bundles).
//!
//! Weighed against: a list of uploads per batch in the database (a row more an upload, and a
//! second truth beside the log), and a bundle per country (27 times the memory for the same
//! bytes; leaving one's own segments out is a matter of not writing them).

mod cache;
mod catalog;
mod cutter;
mod serve;

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;

pub(crate) use cache::{BundleCache, FreshSegments};
pub(crate) use catalog::Catalog;
pub(crate) use cutter::Bundler;
pub(crate) use serve::Serve;

use crate::domain::{BatchTag, Country, Day, Format, Seq, Thumbprint, UnixMillis};
use crate::persist::{DownloadBatchRow, UploadMeta};
use crate::wire::json;

/// An upload as a part of a download batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundledUpload {
    /// Its position in the log.
    pub seq: Seq,
    /// The uploader.
    pub country: Country,
    /// How many keys it has.
    pub key_count: u32,
}

/// A numbered download batch: a range of the log, for ever the same.
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
    fn new(row: DownloadBatchRow, uploads: impl IntoIterator<Item = UploadMeta>) -> Self {
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
    fn bytes(&self) -> usize {
        self.segments.iter().map(Bytes::len).sum()
    }

    /// The same keys as JSON.
    fn to_json(&self) -> Self {
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
type BundleKey = (u64, Format);

/// The answer to a download request.
#[derive(Debug, Clone)]
pub struct Download {
    /// The batch asked for.
    pub batch: Arc<DownloadBatch>,
    /// The name of the batch after it, if it exists yet.
    pub next: Option<BatchTag>,
    /// Its encoded segments, one per upload of `batch.uploads`.
    pub bundle: Arc<Bundle>,
    /// Who asks.
    pub reader: Country,
    /// Position of the first upload that is not the reader's own.
    first: usize,
}

impl Download {
    /// The answer to `reader` that is made of a batch, the name of the one after it and its bytes:
    /// a segment for each of the batch's uploads.
    pub fn new(
        batch: Arc<DownloadBatch>,
        next: Option<BatchTag>,
        bundle: Arc<Bundle>,
        reader: Country,
    ) -> Self {
        let own = batch.uploads.iter();
        let first = own.take_while(|upload| upload.country == reader).count();
        Self {
            batch,
            next,
            bundle,
            reader,
            first,
        }
    }

    /// The bytes for the reader, in order: all segments but its own, for JSON with what goes
    /// between them. Nothing is copied.
    pub fn chunks(&self) -> impl Iterator<Item = Bytes> + '_ {
        (0..self.chunk_count())
            .map(|index| self.chunk(index))
            .filter(|chunk| !chunk.is_empty())
    }

    /// How many chunks there are at the most.
    pub fn chunk_count(&self) -> usize {
        match self.bundle.format {
            Format::Protobuf => self.bundle.segments.len(),
            Format::Json => self.bundle.segments.len() * 2 + 2,
        }
    }

    /// The chunk at a position below [`Self::chunk_count`]; empty when there is nothing to write.
    ///
    /// For JSON: the opening, then before each segment a comma or nothing, then the closing.
    pub fn chunk(&self, index: usize) -> Bytes {
        match self.bundle.format {
            Format::Protobuf => self.segment(index),
            Format::Json if index == 0 => Bytes::from_static(json::OPENING),
            Format::Json if index + 1 == self.chunk_count() => Bytes::from_static(json::CLOSING),
            Format::Json if index.is_multiple_of(2) => self.segment(index / 2 - 1),
            Format::Json => self.separator(index / 2),
        }
    }

    fn segment(&self, position: usize) -> Bytes {
        if self.is_own(position) {
            Bytes::new()
        } else {
            self.bundle.segments[position].clone()
        }
    }

    /// A comma, unless nothing was written before or nothing follows here.
    fn separator(&self, position: usize) -> Bytes {
        if position > self.first && !self.is_own(position) {
            Bytes::from_static(json::SEPARATOR)
        } else {
            Bytes::new()
        }
    }

    fn is_own(&self, position: usize) -> bool {
        self.batch.uploads[position].country == self.reader
    }

    /// Sum of the chunks' lengths.
    pub fn body_bytes(&self) -> u64 {
        self.chunks().map(|chunk| chunk.len() as u64).sum()
    }

    /// Number of keys in the body.
    pub fn key_count(&self) -> u32 {
        let others = self
            .batch
            .uploads
            .iter()
            .filter(|upload| upload.country != self.reader);
        others.map(|upload| upload.key_count).sum()
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct DownloadRequest {
    /// Who asks.
    pub country: Country,
    /// The date in the path.
    pub date: Day,
    /// The `batchTag` header, if sent: any text.
    pub tag: Option<Box<str>>,
    /// The wanted media type.
    pub format: Format,
}

/// Why there is nothing to download (wire §14 and §15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DownloadRefusal {
    /// 410 `Requested date is too old!`
    #[error("requested date is too old")]
    DateTooOld,
    /// 404 `Could not find any batches for given date`
    #[error("no batch on that date or later")]
    NoBatchOnDate,
    /// 404 `Could not find batch with given BatchTag`
    #[error("unknown batch tag")]
    UnknownBatchTag,
    /// 400 `Given date does is not after or equals the requested batchTag`
    #[error("the batch is older than the date")]
    BatchBeforeDate,
    /// 404 `Given date does not match the requested batch` (audit only)
    #[error("the batch is of another day")]
    OtherDay,
    /// 404 `Batchtag not found` (audit only)
    #[error("the batch has no entries")]
    NoEntries,
}

/// Why a download or an audit was not answered.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// There is nothing to give.
    #[error("{0}")]
    Refused(#[from] DownloadRefusal),
    /// Not now.
    #[error("{0}")]
    Overload(#[from] crate::Overload),
    /// Ours and unexpected.
    #[error("{0}")]
    Failure(#[from] crate::Failure),
}

/// One upload of a download batch as the audit shows it (wire §15).
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// Uploader country.
    pub country: Country,
    /// When the upload was stored.
    pub uploaded_at: UnixMillis,
    /// The authentication certificate it was uploaded with.
    pub uploader: Thumbprint,
    /// The certificate it was signed with.
    pub signer: Thumbprint,
    /// Number of keys.
    pub key_count: u32,
    /// The batch signature as received.
    pub batch_signature: Box<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn download(format: Format, countries: &[&str], reader: &str) -> Download {
        let country = |code: &str| Country::parse(code).unwrap();
        let upload = |(seq, code): (u64, &&str)| BundledUpload {
            seq: Seq(seq),
            country: country(code),
            key_count: 2,
        };
        let segment = |code: &&str| Bytes::from(format!("<{code}>"));
        let batch = Arc::new(DownloadBatch {
            ordinal: 1,
            tag: BatchTag::parse("20201006-1").unwrap(),
            seqs: 1..=9,
            uploads: (1..).zip(countries).map(upload).collect(),
        });
        let segments = countries.iter().map(segment).collect();
        let bundle = Arc::new(Bundle { format, segments });
        Download::new(batch, None, bundle, country(reader))
    }

    fn check(format: Format, countries: &[&str], reader: &str, body: &str, key_count: u32) {
        let download = download(format, countries, reader);
        let written: Vec<u8> = download.chunks().flatten().collect();
        assert_eq!(String::from_utf8(written).unwrap(), body);
        assert_eq!(download.body_bytes(), body.len() as u64);
        assert_eq!(download.key_count(), key_count);
    }

    #[test]
    fn leaves_the_readers_own_segments_out() {
        check(
            Format::Protobuf,
            &["DE", "IT", "DE", "ES"],
            "DE",
            "<IT><ES>",
            4,
        );
        check(Format::Protobuf, &["DE", "IT"], "FR", "<DE><IT>", 4);
        check(Format::Protobuf, &["DE"], "DE", "", 0);
    }

    #[test]
    fn puts_commas_between_the_segments_that_are_written() {
        let json = |countries: &[&str], reader, inner: &str, key_count| {
            check(
                Format::Json,
                countries,
                reader,
                &format!("{{\"keys\":[{inner}]}}"),
                key_count,
            );
        };
        json(&["DE", "IT", "DE", "ES"], "DE", "<IT>,<ES>", 4);
        json(&["IT", "DE", "ES"], "DE", "<IT>,<ES>", 4);
        json(&["IT", "ES", "DE"], "DE", "<IT>,<ES>", 4);
        json(&["DE", "IT"], "FR", "<DE>,<IT>", 4);
        json(&["DE", "DE"], "DE", "", 0);
        json(&[], "DE", "", 0);
    }
}
