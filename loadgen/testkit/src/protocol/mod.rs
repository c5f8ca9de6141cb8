//! The protocol as a national backend implements it: reading diagnosis keys, and what is signed.
//!
//! Written from `docs/protocol/wire.md` alone. It shares no code with the gateway, so that an error
//! there cannot sign and verify alike: what loadgen signs and what its verifier checks is made here.

mod canonical;
mod protobuf;

pub use canonical::signed_bytes;
pub use protobuf::{DiagnosisKey, Malformed, keys, messages};
