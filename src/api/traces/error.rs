//! Why a request for traces has no answer. As a response it is what Tempo tells: a status and one line
//! of text, which Grafana shows as it is; Jaeger's envelopes are made of it in `jaeger/error.rs`.

use axum::response::{IntoResponse, Response};

use crate::api::error;
use crate::api::form::FormError;
use crate::base::error::{Classify, ErrorClass};
use crate::query::traceql::QueryError;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::api) enum TraceError {
    /// A parameter is wrong.
    #[error("{0}")]
    Bad(String),
    /// The message is too large.
    #[error("the message is longer than {0} bytes; ask for less at once")]
    TooLarge(usize),
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
            Self::TooLarge(_) => ErrorClass::TooLarge,
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
