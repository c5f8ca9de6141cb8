//! The certificate list as an immutable snapshot; only what the trust anchor signed is trusted.
//!
//! - *In*: the rows of the certificate table, the trust anchor, the snapshot before.
//! - *Out*: [`Trust`], which requests read without a lock.
//! - *Refuses*: nothing. A broken row stays in the list as not intact, so that whoever uses it is
//!   told why it is refused.
//! - *Assumes*: rows change seldom; a row's operator signature is checked when the row is loaded
//!   for the first time, never per request (decision 10).
//! - *Runs on*: the thread that loads the list.

mod anchor;
mod listed;

pub use anchor::{SignError, TrustAnchor, TrustAnchorError, sign};
pub use listed::{ListedCertificate, RowFault, Trust};

pub use crate::domain::CertificateRow;

#[cfg(test)]
mod tests;
