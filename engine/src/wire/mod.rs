//! Bodies in and out: protobuf and JSON.

mod error;
pub mod json;
pub mod protobuf;

pub use error::{BodyError, MalformedBatch};
