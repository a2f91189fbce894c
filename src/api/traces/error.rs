//! Why a request for traces has no answer. As a response it is what Tempo tells: a status and one line
//! of text, which Grafana shows as it is; Jaeger's envelopes are made of it in `jaeger/error.rs`.

use std::time::Duration;

use axum::response::{IntoResponse, Response};

use crate::api::error;
use crate::api::form::FormError;
use crate::base::error::{Classify, ErrorClass};
use crate::query::traceql::QueryError;
use crate::wire::decompress::DecompressError;
use crate::wire::grpc::FrameError;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::api) enum TraceError {
    /// A parameter is wrong.
    #[error("{0}")]
    Bad(String),
    /// The body is not one message of gRPC.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The message does not inflate.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// The caller of a gRPC call waits no longer.
    #[error("the query was not done within the {} s that its caller waits (grpc-timeout); narrow it", .0.as_secs_f64())]
    CallersTime(Duration),
    /// The form was not read.
    #[error(transparent)]
    Form(#[from] FormError),
    /// Nothing by that name.
    #[error("{0}")]
    NotFound(String),
    /// The query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl Classify for TraceError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Bad(_) => ErrorClass::BadData,
            Self::Frame(error) => error.class(),
            Self::Decompress(error) => error.class(),
            Self::CallersTime(_) => ErrorClass::Timeout,
            Self::Form(form) => form.class(),
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::Query(query) => query.class(),
        }
    }
}

/// Logs what is the server's fault, with its causes.
pub(in crate::api) fn log(problem: &TraceError) {
    if let ErrorClass::Internal | ErrorClass::Unavailable = problem.class() {
        let cause = std::error::Error::source(problem).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(error = %problem, cause, "trace query failed");
    }
}

impl IntoResponse for TraceError {
    fn into_response(self) -> Response {
        log(&self);
        let class = self.class();
        let mut response = error::text(error::status(class), self.to_string());
        error::retry_after(&mut response, class, "1");
        response
    }
}
