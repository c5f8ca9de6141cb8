//! Certificates, CMS, algorithms: pure functions over bytes that others sent.
//!
//! - *In*: the decoded batch signature, a certificate's PEM or DER.
//! - *Out*: [`Certificate`], [`SignedMessage`], public keys that verify.
//! - *Refuses*: what is not one well-formed structure, or is nested deeper, larger or made of more
//!   elements than `limits` allows; algorithms outside decision 8.
//! - *Assumes*: nothing. All work is bounded by the size of the input, which is bounded first.
//! - *Runs on*: a CPU job (batch signatures), the thread that loads the certificate list.
//!
//! Structures are read by `rasn` (CMS, in BER: every BouncyCastle client sends indefinite lengths)
//! and `x509-parser` (certificates); `ber` holds what no library does: the bounds before parsing
//! and the DER of what was signed. Verification is aws-lc's.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub(crate) mod algorithm;
mod ber;
mod certificate;
mod cms;

pub use certificate::{
    Certificate, CountryCountError, NotACertificate, SigningKeyError, SubjectKey,
};
pub(crate) use cms::SignedAttributes;
pub use cms::{CmsError, SignedMessage};
