//! Media types.

/// Media type of a body, on either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `application/protobuf`: `eu.interop.DiagnosisKeyBatch`.
    Protobuf,
    /// `application/json`: the same with the proto field names.
    Json,
}

/// The only version of both formats (wire §5: 1.0), as major * 256 + minor.
pub(crate) const FORMAT_VERSION: u64 = 0x100;
