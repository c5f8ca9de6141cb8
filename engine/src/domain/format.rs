//! Media types.

/// Media type of a body, on either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `application/protobuf`: `eu.interop.DiagnosisKeyBatch`.
    Protobuf,
    /// `application/json`: the same with the proto field names.
    Json,
}
