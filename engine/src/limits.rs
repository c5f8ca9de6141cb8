//! Every bound of the engine, with its reason. What can grow has its bound here.
//!
//! Weighed against: a bound per queue in the file that owns the queue. One file keeps the sums
//! visible: what they allow together is what the process may use.

use std::time::Duration;

/// Keys in one upload: the reference's `maximum-upload-batch-size`.
pub const UPLOAD_KEYS_MAX: u32 = 5000;

/// Bytes in one upload body. 5000 keys take 300 to 500 KB as protobuf and about 1.7 MB as JSON
/// with 27 countries each; clients may count on 8 MB (compatibility checklist, row 1).
pub const UPLOAD_BODY_BYTES_MAX: usize = 8 << 20;

/// Uploads in flight over all participants: an hour's burst of the worst day is 134 full
/// uploads; a group commit takes a few of them, the CPU stages one a core.
pub const BATCHES_IN_FLIGHT_MAX: usize = 64;

/// Body bytes in flight over all participants. A full protobuf upload of 400 KB takes about five
/// times its size while it is worked on; 64 MiB keeps the gateway under 256 MiB.
pub const BYTES_IN_FLIGHT_MAX: usize = 64 << 20;

/// A participant may hold one part in this many of either bound, so that a flood of one leaves
/// room for the others.
pub const PARTICIPANT_SHARE_DIVISOR: usize = 4;

/// Longest wait of an upload before a download batch is cut.
pub const BUNDLE_MAX_DELAY: Duration = Duration::from_secs(2);

/// Keys in one download batch: the reference's `batching.doclimit`.
pub const BUNDLE_KEYS_MAX: u32 = 5000;

/// Memory for encoded bundles. The bundles of a planning day take 9 MB, of the peak day 208 MB.
pub const BUNDLE_CACHE_BYTES_MAX: usize = 256 << 20;

/// Days before today that can still be downloaded: the reference's `max-age-in-days`.
pub const DOWNLOAD_MAX_AGE_DAYS: u32 = 2;

/// A key can be uploaded until this many days after its rolling start (wire behaviour §8, row 3).
pub const KEY_AGE_DAYS_MAX: u32 = 15;

/// Nesting of a batch signature's BER. Real signatures nest about a dozen deep.
pub const CMS_DEPTH_MAX: usize = 32;

/// Size of a decoded batch signature, in bytes: 16 KB of header is the least to accept, chains
/// of 4096-bit certificates stay under 12 KB.
pub const CMS_BYTES_MAX: usize = 24 << 10;

/// Values (in the sense of ASN.1) in a batch signature: a certificate has 100 to 200 of them, so
/// this is a message full of certificates.
pub const CMS_ELEMENTS_MAX: usize = 4096;

const _: () = assert!(UPLOAD_BODY_BYTES_MAX * PARTICIPANT_SHARE_DIVISOR <= BYTES_IN_FLIGHT_MAX);
const _: () = assert!(BATCHES_IN_FLIGHT_MAX >= 2 * PARTICIPANT_SHARE_DIVISOR);
