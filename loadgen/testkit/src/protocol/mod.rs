//! The protocol as a national backend implements it: reading diagnosis keys, and what is signed.
//!
//! Written only from `docs/protocol/wire.md`. It shares no code with the gateway, so that a mistake
//! there cannot cancel out: what loadgen signs and what its verifier checks is computed here.

mod canonical;
mod protobuf;

pub use canonical::{canonical_texts, signed_bytes};
pub use protobuf::{DiagnosisKey, Malformed, keys, messages};
