//! Bundle and serve: uploads grouped into numbered download batches, and their bytes.
//!
//! - *In*: positions of the log, as the writer publishes them.
//! - *Out*: [`DownloadBatch`]es, and a [`Download`] per request.
//! - *Refuses*: requests for what does not exist ([`DownloadRefusal`]); cold reads beyond their limit.
//! - *Assumes*: the log is a total order without late arrivals, so a download batch is a range of
//!   it and a cutter never looks back.
//! - *Runs on*: the bundler thread (cutting, following), reader threads (cold bundles), and the
//!   caller's thread (warm bundles).
//!
//! Weighed against: a list of uploads per batch in the database (one more row per upload, and a
//! second source of truth), and a bundle per country (27 times the memory for the same
//! bytes; a reader's own segments are simply not written).

mod answers;
mod audit;
mod cache;
mod catalog;
mod cutter;
mod damage;
mod download;
mod download_batch;
mod feed;
mod fresh;
mod jobs;
mod pacing;
mod pieces;
mod refusal;
mod serve;

pub use answers::AnswerPermit;
pub use audit::Audit;
pub(crate) use cutter::{Bundler, BundlerStatus};
pub use download::{Download, DownloadHead, DownloadRequest};
pub use download_batch::{BatchRecord, Bundle, BundledUpload, DownloadBatch};
pub(crate) use feed::BundlerFeed;
pub(crate) use fresh::FreshSegments;
pub(crate) use jobs::{AuditRequest, DownloadReply};
pub use refusal::{DownloadError, DownloadRefusal};
pub(crate) use serve::Serve;
