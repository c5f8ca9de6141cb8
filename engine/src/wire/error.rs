//! Why a body cannot be read.

/// Why a body is no batch of diagnosis keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedBatch {
    /// The body ends inside a field, or a length reaches beyond its message.
    #[error("the body is truncated or a length is wrong")]
    Truncated,
    /// A field tag or a skipped field is not well formed.
    #[error("a field is not well formed")]
    Field,
    /// Text is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// The body is no JSON document of the expected shape.
    #[error("the body is not JSON of the expected shape")]
    Json,
    /// `keyData` in JSON is not standard base64 (legacy message `Invalid Base64 in JSON object`).
    #[error("keyData is not base64")]
    Base64,
    /// The body is JSON, and was sent as protobuf.
    #[error("the body is JSON, not protobuf")]
    JsonAsProtobuf,
    /// The body is protobuf, and was sent as JSON.
    #[error("the body is protobuf, not JSON")]
    ProtobufAsJson,
}

/// Why a body is refused while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body is no batch of diagnosis keys.
    #[error(transparent)]
    Malformed(#[from] MalformedBatch),
    /// More keys than allowed; how many more is unknown.
    #[error("more than {max} keys")]
    TooManyKeys {
        /// Most keys that an upload may have.
        max: u32,
    },
}
