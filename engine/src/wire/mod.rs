//! Bodies in and out: protobuf, JSON, and the canonical text that is signed.

pub mod canonical;
pub mod json;
pub mod protobuf;
