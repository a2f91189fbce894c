//! Errors as Tempo tells them: a status and one line of text, which Grafana shows as it is.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::api::form::FormError;
use crate::base::error::{Classify, ErrorClass, brief};
use crate::query::traceql::QueryError;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
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

impl Classify for Problem {
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

/// The HTTP status of a class.
pub fn status(class: ErrorClass) -> StatusCode {
    match class {
        ErrorClass::BadData => StatusCode::BAD_REQUEST,
        ErrorClass::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorClass::Execution => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorClass::NotFound => StatusCode::NOT_FOUND,
        ErrorClass::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorClass::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        ErrorClass::Throttled => StatusCode::TOO_MANY_REQUESTS,
        ErrorClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorClass::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Logs what is the server's fault, with its causes.
pub fn log(problem: &Problem) {
    if let ErrorClass::Internal | ErrorClass::Unavailable = problem.class() {
        let cause = std::error::Error::source(problem).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(error = %problem, cause, "trace query failed");
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        log(&self);
        let class = self.class();
        let mut response = (status(class), brief(self.to_string())).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let ErrorClass::Throttled | ErrorClass::Unavailable = class {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
