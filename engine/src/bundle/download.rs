//! Downloads: the request and the answer.

use std::sync::Arc;

use bytes::Bytes;

use super::answers::AnswerPermit;
use super::download_batch::{Bundle, BundledUpload, DownloadBatch};
use super::pieces::{Piece, pieces};
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
#[derive(Debug)]
pub struct Download {
    /// The requested batch.
    pub batch: Arc<DownloadBatch>,
    /// The name of the batch after it, if it exists yet.
    pub next: Option<BatchTag>,
    /// Its encoded segments, one per upload of `batch.uploads`.
    pub bundle: Arc<Bundle>,
    /// The reader.
    pub reader: Country,
    layout: Layout,
    /// Held while the answer is.
    permit: Option<AnswerPermit>,
}

/// How the chunks are made.
#[derive(Debug)]
enum Layout {
    /// A protobuf segment each.
    Segments,
    /// A JSON segment each, and what goes between them.
    Json {
        /// Position of the first upload that the reader gets.
        first: usize,
    },
    /// Converted to JSON piece by piece.
    Converted(Box<[Piece]>),
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
        let layout = match bundle.format {
            Format::Protobuf => Layout::Segments,
            Format::Json => {
                let uploads = batch.uploads.iter();
                let first = uploads.take_while(|upload| !is_for(reader, upload)).count();
                Layout::Json { first }
            }
        };
        Self {
            batch,
            next,
            bundle,
            reader,
            layout,
            permit: None,
        }
    }

    /// In a format: a protobuf bundle is converted to JSON while it is taken.
    pub(super) fn in_format(mut self, format: Format) -> Self {
        if (self.bundle.format, format) == (Format::Protobuf, Format::Json) {
            let others = (0..self.bundle.segments.len()).filter(|&position| self.has(position));
            let pieces = others.flat_map(|position| pieces(&self.bundle.segments[position]));
            self.layout = Layout::Converted(pieces.collect());
        }
        self
    }

    pub(super) fn with_permit(mut self, permit: AnswerPermit) -> Self {
        self.permit = Some(permit);
        self
    }

    /// The bytes for the reader, in order: all segments but its own and those of withdrawn uploads,
    /// for JSON with what goes between them. Nothing is copied.
    pub fn chunks(&self) -> impl Iterator<Item = Bytes> + '_ {
        (0..self.chunk_count())
            .map(|index| self.chunk(index))
            .filter(|chunk| !chunk.is_empty())
    }

    /// Maximum number of chunks.
    pub fn chunk_count(&self) -> usize {
        match &self.layout {
            Layout::Segments => self.bundle.segments.len(),
            Layout::Json { .. } => self.bundle.segments.len() * 2 + 2,
            Layout::Converted(pieces) => pieces.len() + 2,
        }
    }

    /// The chunk at a position below [`Self::chunk_count`]; empty when there is nothing to write.
    ///
    /// For JSON: the opening, then before each segment a comma or nothing, then the closing.
    pub fn chunk(&self, index: usize) -> Bytes {
        match &self.layout {
            Layout::Segments => self.segment(index),
            _ if index == 0 => Bytes::from_static(json::OPENING),
            _ if index + 1 == self.chunk_count() => Bytes::from_static(json::CLOSING),
            Layout::Json { .. } if index.is_multiple_of(2) => self.segment(index / 2 - 1),
            Layout::Json { first } => self.separator(index / 2, *first),
            Layout::Converted(pieces) => pieces[index - 1].to_json(index > 1),
        }
    }

    fn segment(&self, position: usize) -> Bytes {
        if self.has(position) {
            self.bundle.segments[position].clone()
        } else {
            Bytes::new()
        }
    }

    /// A comma, unless nothing was written before or nothing follows here.
    fn separator(&self, position: usize, first: usize) -> Bytes {
        if position > first && self.has(position) {
            Bytes::from_static(json::SEPARATOR)
        } else {
            Bytes::new()
        }
    }

    fn has(&self, position: usize) -> bool {
        is_for(self.reader, &self.batch.uploads[position])
    }

    /// Sum of the chunks' lengths; unknown if they are yet to be converted.
    pub fn body_bytes(&self) -> Option<u64> {
        match &self.layout {
            Layout::Converted(_) => None,
            Layout::Segments | Layout::Json { .. } => {
                Some(self.chunks().map(|chunk| chunk.len() as u64).sum())
            }
        }
    }

    /// Number of keys in the body.
    pub fn key_count(&self) -> u32 {
        let given = self
            .batch
            .uploads
            .iter()
            .filter(|upload| is_for(self.reader, upload));
        given.map(|upload| upload.key_count).sum()
    }
}

/// Whether a reader gets an upload: it is neither its own nor withdrawn.
fn is_for(reader: Country, upload: &BundledUpload) -> bool {
    upload.country != reader && !upload.is_withdrawn
}

/// The head of the answer to a download request: what there is without reading keys.
#[derive(Debug, Clone)]
pub struct DownloadHead {
    /// The name of the batch asked for.
    pub tag: BatchTag,
    /// The name of the batch after it, if it exists yet.
    pub next: Option<BatchTag>,
    /// How long the body would be, if its bundle is in memory.
    pub body_bytes: Option<u64>,
}

impl DownloadHead {
    pub(super) fn new(
        batch: Arc<DownloadBatch>,
        next: Option<BatchTag>,
        bundle: Option<Arc<Bundle>>,
        reader: Country,
    ) -> Self {
        let tag = batch.tag;
        let body_bytes =
            bundle.and_then(|bundle| Download::new(batch, next, bundle, reader).body_bytes());
        Self {
            tag,
            next,
            body_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Seq;
    use crate::limits;
    use crate::wire::protobuf::{KeyFields, write_key};

    fn download(format: Format, countries: &[&str], reader: &str) -> Download {
        let country = |code: &str| Country::parse(code).unwrap();
        let upload = |(seq, code): (u64, &&str)| BundledUpload {
            seq: Seq(seq),
            country: country(code),
            key_count: 2,
            // In these tests, all of FI's are withdrawn.
            is_withdrawn: *code == "FI",
        };
        let segment = |code: &&str| Bytes::from(format!("<{code}>"));
        let batch = Arc::new(DownloadBatch {
            ordinal: 1,
            tag: BatchTag::parse("20201006-1").unwrap(),
            seqs: 1..=9,
            uploads: (1..).zip(countries).map(upload).collect(),
            record: Default::default(),
        });
        let segments = countries.iter().map(segment).collect();
        let bundle = Arc::new(Bundle { format, segments });
        Download::new(batch, None, bundle, country(reader))
    }

    fn check(format: Format, countries: &[&str], reader: &str, body: &str, key_count: u32) {
        let download = download(format, countries, reader);
        let written: Vec<u8> = download.chunks().flatten().collect();
        assert_eq!(String::from_utf8(written).unwrap(), body);
        assert_eq!(download.body_bytes(), Some(body.len() as u64));
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
    fn leaves_withdrawn_segments_out() {
        let uploads = ["FI", "IT", "FI", "ES", "FI"];
        check(Format::Protobuf, &uploads, "DE", "<IT><ES>", 4);
        check(Format::Protobuf, &uploads, "IT", "<ES>", 2);
        check(Format::Json, &uploads, "DE", "{\"keys\":[<IT>,<ES>]}", 4);
        check(Format::Json, &uploads, "IT", "{\"keys\":[<ES>]}", 2);
        check(Format::Protobuf, &["FI", "FI"], "DE", "", 0);
        check(Format::Json, &["FI", "FI"], "DE", "{\"keys\":[]}", 0);
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

    /// A bundle of uploads with so many keys each, and the uploader of each.
    fn large_download(uploads: &[(&str, u32)], reader: &str) -> Download {
        let key = |number: u32| {
            let key_data = [number.to_be_bytes(); 4].concat();
            let fields = KeyFields {
                key_data: &key_data,
                rolling_start: 2_600_000 + number,
                rolling_period: 144,
                risk_level: 3,
                origin: "DE",
                report_type: 1,
                days_since_onset: 2,
            };
            let mut message = Vec::new();
            write_key(&mut message, &fields, ["IT", "ES", "\"q\""].into_iter());
            message
        };
        let countries: Vec<_> = uploads.iter().map(|&(code, _)| code).collect();
        let template = download(Format::Protobuf, &countries, reader);
        let segment = |&(_, count)| Bytes::from((0..count).flat_map(key).collect::<Vec<_>>());
        let bundle = Bundle {
            format: Format::Protobuf,
            segments: uploads.iter().map(segment).collect(),
        };
        let reader = Country::parse(reader).unwrap();
        Download::new(template.batch, None, Arc::new(bundle), reader)
    }

    #[test]
    fn converts_a_large_bundle_piece_by_piece_to_the_same_json() {
        let shapes: [&[(&str, u32)]; 4] = [
            &[("IT", 30_000)],
            &[("DE", 9), ("IT", 20_000), ("DE", 9), ("ES", 1), ("IT", 700)],
            &[("IT", 1), ("IT", 1), ("DE", 1)],
            &[("DE", 9)],
        ];
        for uploads in shapes {
            let protobuf = large_download(uploads, "DE");
            let whole = Arc::new(protobuf.bundle.to_json());
            let whole = Download::new(Arc::clone(&protobuf.batch), None, whole, protobuf.reader);
            let converted = protobuf.in_format(Format::Json);
            assert_eq!(
                (converted.body_bytes(), converted.key_count()),
                (None, whole.key_count())
            );
            let largest = converted.chunks().map(|chunk| chunk.len()).max().unwrap();
            assert!(
                largest < 8 * limits::JSON_PIECE_BYTES,
                "{largest} bytes at a time"
            );
            let expected: Vec<u8> = whole.chunks().flatten().collect();
            let written: Vec<u8> = converted.chunks().flatten().collect();
            assert!(written == expected, "{uploads:?}");
        }
    }
}
