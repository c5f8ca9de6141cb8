//! Certificates, CMS, algorithms: pure functions over bytes that others sent.
//!
//! - *In*: the decoded batch signature, a certificate's PEM or DER.
//! - *Out*: [`Certificate`], [`SignedMessage`], public keys that verify.
//! - *Refuses*: what is not one well-formed structure, or is nested deeper, larger or made of more
//!   elements than `limits` allows; algorithms outside decision 8.
//! - *Assumes*: nothing. All work is bounded by the size of the input, which is bounded first.
//! - *Runs on*: a CPU job (batch signatures), the thread that loads the certificate list.
//!
//! CMS is read by `ber`, `structure` and `cms`: in BER (every BouncyCastle client sends indefinite
//! lengths), within bounds that are checked first, and by every identifier octet. The certificate of
//! the signer is read by `x509-parser`. Verification is aws-lc's.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub(crate) mod algorithm;
mod ber;
mod certificate;
mod cms;
mod structure;

pub use certificate::{
    Certificate, CountryCountError, DEVELOPMENT_ORGANIZATION, NotACertificate, SigningKeyError,
    SubjectKey,
};
pub(crate) use cms::SignedAttributes;
pub use cms::{CmsError, SignedMessage};
