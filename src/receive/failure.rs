//! Why a push was not taken, and the one mapping of that to HTTP statuses.

use std::time::Duration;

use axum::http::StatusCode;

use super::receiver::DecodeError;
use crate::base::error::{Classify, ErrorClass, chain};
use crate::base::in_flight::BodyError;
use crate::base::memory::MemoryFull;
use crate::ingest::IngestError;
use crate::wire::decompress::DecompressError;
use crate::wire::grpc::{Code, FrameError};

/// What to send where an encoding is not taken.
const ENCODINGS: &str = "send snappy or zstd for remote write; gzip, deflate, zstd, snappy or none elsewhere";

/// Why a whole push was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The encoding of the body is not known.
    #[error("content encoding {0:?} is not taken here; {ENCODINGS}")]
    UnsupportedEncoding(String),
    /// The body is larger on the wire than is allowed.
    #[error("the body has more than {limit} bytes; send smaller batches")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The body did not arrive in time, or there was no room for it.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Inflated and decoded it is larger than bodies may be.
    #[error("the body needs more than the {limit} bytes that bodies may take in memory; send smaller batches")]
    TooLargeDecoded {
        /// The limit, in bytes, a share of --memory-limit.
        limit: u64,
    },
    /// The connection broke, or the framing of the body is wrong.
    #[error("the body was cut short: {0}")]
    Cut(String),
    /// The body is not one message of gRPC.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The caller of a gRPC call waits no longer.
    #[error("the call was not done within its {} s (grpc-timeout); it may be stored all the same", .0.as_secs_f64())]
    CallersTime(Duration),
    /// Too many bodies are being decoded.
    #[error("too much is being received at once; retry")]
    Busy,
    /// There is no memory to inflate and decode it.
    #[error(transparent)]
    Memory(#[from] MemoryFull),
    /// The body does not inflate.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// The body is not understood.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It was not stored.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// A body that is stored piece by piece was not stored to its end.
    #[error("stopped at line {lines} with {stored} samples stored; to send all again is harmless")]
    Partly {
        /// Samples stored.
        stored: u64,
        /// Lines read.
        lines: u64,
        /// Why.
        #[source]
        cause: Box<Failure>,
    },
    /// A defect of ours.
    #[error("internal error; the server's log says more")]
    Defect,
}

impl Classify for Failure {
    fn class(&self) -> ErrorClass {
        match self {
            Self::UnsupportedEncoding(_) | Self::Cut(_) => ErrorClass::BadData,
            Self::TooLarge { .. } | Self::TooLargeDecoded { .. } => ErrorClass::TooLarge,
            Self::Body(error) => error.class(),
            Self::Frame(error) => error.class(),
            Self::CallersTime(_) => ErrorClass::Timeout,
            Self::Busy | Self::Memory(_) => ErrorClass::Unavailable,
            Self::Decompress(error) => error.class(),
            Self::Decode(error) => error.class(),
            Self::Ingest(error) => error.class(),
            Self::Partly { cause, .. } => cause.class(),
            Self::Defect => ErrorClass::Internal,
        }
    }
}

impl Failure {
    /// Why a body could not be read to its end.
    pub(super) fn of_body(error: axum::Error) -> Self {
        BodyError::among(&error).cloned().map_or_else(|| Self::Cut(error.to_string()), Self::Body)
    }

    /// The HTTP status of it.
    pub fn status(&self) -> StatusCode {
        if matches!(self, Self::UnsupportedEncoding(_) | Self::Decode(DecodeError::UnsupportedType { .. })) {
            return StatusCode::UNSUPPORTED_MEDIA_TYPE;
        }
        match self.class() {
            ErrorClass::BadData | ErrorClass::Canceled => StatusCode::BAD_REQUEST,
            ErrorClass::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorClass::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorClass::NotFound => StatusCode::NOT_FOUND,
            ErrorClass::Throttled => StatusCode::TOO_MANY_REQUESTS,
            // Not 408: senders would take that for final and drop the batch.
            ErrorClass::Timeout | ErrorClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorClass::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The gRPC status of it.
    pub fn grpc_code(&self) -> Code {
        if matches!(self, Self::UnsupportedEncoding(_) | Self::Decode(DecodeError::UnsupportedType { .. })) {
            return Code::Unimplemented;
        }
        self.class().into()
    }

    /// Seconds after which a sender should try again; `None` when it should not.
    pub fn retry_after(&self) -> Option<u32> {
        matches!(self.class(), ErrorClass::Throttled | ErrorClass::Timeout | ErrorClass::Unavailable).then_some(1)
    }

    /// What it is, in a word that holds nothing of what was sent.
    pub fn word(&self) -> &'static str {
        const TOO_LARGE: &str = "body_too_large";
        const MALFORMED: &str = "malformed";
        const BUSY: &str = "busy";
        match self {
            Self::UnsupportedEncoding(_) => "encoding_not_taken",
            Self::TooLarge { .. } | Self::TooLargeDecoded { .. } => TOO_LARGE,
            Self::Body(BodyError::Slow(_) | BodyError::Trickle(_)) => "body_too_slow",
            Self::Body(BodyError::GivenUp | BodyError::Busy) | Self::Busy | Self::Memory(_) => BUSY,
            Self::Body(BodyError::TooLarge { .. }) => TOO_LARGE,
            Self::Cut(_) => "body_cut_short",
            Self::CallersTime(_) => "timeout",
            Self::Decode(DecodeError::UnsupportedType { .. }) => "content_type_not_taken",
            Self::Frame(_) | Self::Decompress(_) | Self::Decode(DecodeError::Wire(_)) => match self.class() {
                ErrorClass::TooLarge => TOO_LARGE,
                _ => MALFORMED,
            },
            Self::Ingest(IngestError::Closed(_)) => "not_ready",
            Self::Ingest(IngestError::Store(_)) => "not_stored",
            Self::Partly { cause, .. } => cause.word(),
            Self::Defect => "internal_error",
        }
    }

    /// What to send instead, where that is known; nothing of what was sent.
    pub fn advice(&self) -> String {
        match self {
            Self::UnsupportedEncoding(_) => ENCODINGS.to_owned(),
            Self::Decode(DecodeError::UnsupportedType { expected, .. }) => format!("send {expected}"),
            Self::Partly { cause, .. } => cause.advice(),
            _ if self.class() == ErrorClass::TooLarge => "send smaller batches".to_owned(),
            _ if self.retry_after().is_some() => "it may be sent again".to_owned(),
            _ => String::new(),
        }
    }

    /// The error with its causes, for the sender and the log.
    pub fn text(&self) -> String {
        chain(self)
    }
}
