//! How OTLP is written.

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Binary protobuf.
    Protobuf,
    /// JSON, as OTLP has it: ids in hex, keys in camel case.
    Json,
}

/// What a body is called in messages.
pub(super) const FORMAT: &str = "OTLP request";
