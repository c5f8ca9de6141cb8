//! Downloads without an engine.

use std::sync::Arc;

use bytes::Bytes;
use engine::bundle::{Bundle, BundledUpload, Download, DownloadBatch};
use engine::decode::decode;
use engine::domain::{BatchTag, Country, Format, Seq};
use engine::wire::json;

use crate::backend::{Backend, ECDSA_P256, RSA_2048};
use crate::inputs::NOON;

/// Most keys of an upload in [`spread_download`].
const SPREAD_KEYS: u32 = 100;

/// The answer to a reader's request for a download batch of `key_count` keys that came in uploads
/// of up to a hundred.
pub fn spread_download(key_count: u32, format: Format) -> Download {
    let uploader = Backend::of(RSA_2048);
    let sizes = (0..key_count.div_ceil(SPREAD_KEYS))
        .map(|index| SPREAD_KEYS.min(key_count - index * SPREAD_KEYS));
    let uploads: Vec<BundledUpload> = (1..)
        .zip(sizes)
        .map(|(seq, key_count)| BundledUpload {
            seq: Seq(seq),
            country: uploader.country,
            key_count,
            is_withdrawn: false,
        })
        .collect();
    let segments = (0..)
        .zip(&uploads)
        .map(|(index, upload)| segment(&uploader, index, upload.key_count, format))
        .collect();
    let batch = DownloadBatch {
        ordinal: 1,
        tag: BatchTag {
            day: NOON.day(),
            number: 1,
        },
        seqs: 1..=uploads.len() as u64,
        uploads,
        record: Default::default(),
    };
    let reader = Country::parse(ECDSA_P256).expect("two letters");
    let bundle = Bundle { format, segments };
    Download::new(Arc::new(batch), None, Arc::new(bundle), reader)
}

fn segment(uploader: &Backend, index: u32, key_count: u32, format: Format) -> Bytes {
    let body = uploader.body(index, key_count);
    let protobuf = decode(&body, key_count)
        .expect("the generator writes well-formed bodies")
        .encode_segment();
    match format {
        Format::Protobuf => protobuf.into(),
        Format::Json => {
            let mut out = Vec::new();
            json::write_segment(&mut out, &protobuf);
            out.into()
        }
    }
}
