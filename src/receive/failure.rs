//! Why a push was not taken, and the one mapping of that to HTTP statuses.

use axum::http::StatusCode;

use super::receiver::DecodeError;
use crate::base::error::{Classify, ErrorClass, chain};
use crate::ingest::IngestError;
use crate::wire::decompress::DecompressError;

/// Why a whole push was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The encoding of the body is not known.
    #[error("content encoding {0:?} is not taken here; send gzip, deflate, zstd, snappy or none")]
    UnsupportedEncoding(String),
    /// The body is larger on the wire than is allowed.
    #[error("the body has more than {limit} bytes; send smaller batches")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The body did not arrive in time.
    #[error("the body did not arrive within {0} s")]
    Slow(u64),
    /// The connection broke, or the framing of the body is wrong.
    #[error("the body was cut short: {0}")]
    Cut(String),
    /// Too many bodies are being read or decoded.
    #[error("too much is being received at once; retry")]
    Busy,
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
            Self::TooLarge { .. } => ErrorClass::TooLarge,
            Self::Slow(_) => ErrorClass::Timeout,
            Self::Busy => ErrorClass::Unavailable,
            Self::Decompress(error) => error.class(),
            Self::Decode(error) => error.class(),
            Self::Ingest(error) => error.class(),
            Self::Partly { cause, .. } => cause.class(),
            Self::Defect => ErrorClass::Internal,
        }
    }
}

impl Failure {
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

    /// The gRPC status of it. OTLP senders retry on 8 only when told when, on 14 always.
    pub fn grpc_code(&self) -> u32 {
        if matches!(self, Self::UnsupportedEncoding(_) | Self::Decode(DecodeError::UnsupportedType { .. })) {
            return 12;
        }
        match self.class() {
            ErrorClass::Canceled => 1,
            ErrorClass::BadData | ErrorClass::Execution => 3,
            ErrorClass::Timeout => 4,
            ErrorClass::NotFound => 5,
            ErrorClass::TooLarge | ErrorClass::Throttled => 8,
            ErrorClass::Internal => 13,
            ErrorClass::Unavailable => 14,
        }
    }

    /// Seconds after which a sender should try again; `None` when it should not.
    pub fn retry_after(&self) -> Option<u32> {
        matches!(self.class(), ErrorClass::Throttled | ErrorClass::Timeout | ErrorClass::Unavailable).then_some(1)
    }

    /// The error with its causes, for the sender and the log.
    pub fn text(&self) -> String {
        chain(self)
    }
}
