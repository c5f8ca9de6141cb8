//! Bodies in and out: protobuf and JSON.

mod error;
pub mod json;
mod mix_up;
pub mod protobuf;

pub use error::{BodyError, MalformedBatch};
pub(crate) use mix_up::name_mix_up;
