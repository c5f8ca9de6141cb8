//! A national backend's client, for our gateway and for the reference server; loadgen, benches and
//! tests use it, too.
//!
//! | | |
//! | --- | --- |
//! | [`DiagnosisKey`], [`encode`], [`decode`] | keys in JSON and protobuf, and the rules that they obey |
//! | [`BatchSigner`] | batch signatures, with a key in a file or by a command |
//! | [`Uploader`], [`Journal`], [`Pending`] | uploads that lose no key and store none twice |
//! | [`Downloader`], [`Cursor`] | downloads from where it stopped, across days and restarts |
//! | [`Auditor`] | who uploaded what, proven by signatures and the trust anchor |
//! | [`Connection`], [`Caller`] | HTTP: keep-alive, mutual TLS, identity headers, names in the protocol's letter case |
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use efgs_client::{BatchSigner, Caller, Connection, Protocol, RsaScheme, Target, Uploader};
//!
//! # fn example() -> Result<Uploader, Box<dyn std::error::Error>> {
//! let caller = Caller::from_files(
//!     "DE",
//!     Path::new("authentication.pem"),
//!     Path::new("authentication.key"),
//!     Path::new("server-ca.pem"),
//!     Protocol::Http1,
//! )?;
//! let gateway = Target::parse("https://gateway.example:8443")?;
//! let timeout = Duration::from_secs(60);
//! let connection = Connection::new(Arc::new(caller), Arc::from([gateway]), 0, timeout);
//! let (certificate, key) = (Path::new("signing.pem"), Path::new("signing.key"));
//! let signer = BatchSigner::from_files(certificate, key, RsaScheme::Pkcs1)?;
//! # Ok(
//! Uploader::new(connection, signer, "DE")
//! # )
//! # }
//! ```

mod answer;
mod audit;
mod caller;
mod connection;
mod diagnosis_key;
mod downloads;
mod error;
mod get;
mod header_case;
mod open;
pub mod signature;
mod signing;
mod throttle;
mod uploads;
mod verdict;

pub use testkit::protocol::{canonical_texts, signed_bytes};
pub use testkit::target::{Target, TargetError};

pub use self::answer::Answer;
pub use self::audit::{AuditedBatch, AuditedUpload, Auditor, Role, Unproven, UnreadableAudit};
pub use self::caller::{Caller, Protocol};
pub use self::connection::Connection;
pub use self::diagnosis_key::{DiagnosisKey, KeyFault, Malformed, decode, encode};
pub use self::downloads::{Cursor, DownloadError, DownloadedBatch, Downloader, Read};
pub use self::error::{ClientError, SetupError};
pub use self::get::get;
pub use self::signing::{BatchSigner, RsaScheme, SigningError};
pub use self::uploads::{
    Journal, KeyOutcome, MemoryJournal, Next, Pending, Resolution, UPLOAD_KEYS_MAX, UploadError,
    Uploader, backoff, resolve,
};
pub use self::verdict::{Verdict, classify_answer};
