//! The certificate list as an immutable snapshot; only what the trust anchor signed is trusted.
//!
//! - *In*: the rows of the certificate table, the trust anchor, the snapshot before.
//! - *Out*: [`Trust`], which requests read without a lock.
//! - *Refuses*: nothing. A broken row stays in the list as not intact, so that anyone who uses it is
//!   told why it is refused.
//! - *Assumes*: rows change seldom; a row's operator signature is checked when the row is loaded
//!   for the first time, never per request (decision 10).
//! - *Runs on*: the thread that loads the list.

mod anchor;
mod list_digest;
mod listed;

pub use anchor::{SignError, TRUST_ANCHORS_MAX, TrustAnchorError, TrustAnchors, sign};
pub use list_digest::ListFault;
pub(crate) use list_digest::{CertificateList, ListDigest, next_counter, row_digest};
pub use listed::{ListedCertificate, RowFault, Trust};

pub use crate::domain::CertificateRow;

#[cfg(test)]
mod tests;
