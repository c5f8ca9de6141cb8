//! Downloads: the request and the answer.

use std::sync::Arc;

use bytes::Bytes;

use super::download_batch::{Bundle, DownloadBatch};
use crate::domain::{BatchTag, Country, Day, Format};
use crate::wire::json;

/// A download request.
#[derive(Debug, Clone)]
pub struct DownloadRequest {
    /// The reader.
    pub country: Country,
    /// The date in the path.
    pub date: Day,
    /// The `batchTag` header, if sent: any text.
    pub tag: Option<Box<str>>,
    /// The requested media type.
    pub format: Format,
}

/// The answer to a download request.
#[derive(Debug, Clone)]
pub struct Download {
    /// The requested batch.
    pub batch: Arc<DownloadBatch>,
    /// The name of the batch after it, if it exists yet.
    pub next: Option<BatchTag>,
    /// Its encoded segments, one per upload of `batch.uploads`.
    pub bundle: Arc<Bundle>,
    /// The reader.
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

    /// Maximum number of chunks.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::download_batch::BundledUpload;
    use crate::domain::Seq;

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
