//! Errors as Prometheus's API says them: a class becomes a status and an `errorType`.

use std::fmt;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use super::json;
use crate::api::error;
use crate::api::form::FormError;
use crate::api::stream::StreamError;
use crate::base::error::{Classify, ErrorClass, brief, chain};
use crate::base::limits::LimitError;
use crate::base::pattern::PatternError;
use crate::query::promql::PromqlError;
use crate::store::StoreError;
use crate::wire::decompress::DecompressError;
use crate::wire::error::WireError;

/// An error on its way to the client.
#[derive(Debug)]
pub(super) struct ApiError {
    class: ErrorClass,
    message: String,
}

impl ApiError {
    /// A wrong parameter.
    pub(super) fn bad_data(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::BadData, message: message.into() }
    }

    /// Nothing by that name.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::NotFound, message: message.into() }
    }

    /// The `errorType` that an error will have.
    pub(super) fn kind_of(error: &PromqlError) -> &'static str {
        Self { class: error.class(), message: String::new() }.kind()
    }

    /// Something that is off, or not there now.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::Unavailable, message: message.into() }
    }

    /// The `errorType`.
    pub(super) fn kind(&self) -> &'static str {
        match self.class {
            ErrorClass::BadData | ErrorClass::TooLarge => "bad_data",
            ErrorClass::Execution => "execution",
            ErrorClass::NotFound => "not_found",
            ErrorClass::Timeout => "timeout",
            ErrorClass::Canceled => "canceled",
            ErrorClass::Throttled | ErrorClass::Unavailable => "unavailable",
            ErrorClass::Internal => "internal",
        }
    }

    fn status(&self) -> StatusCode {
        match self.class {
            // As Prometheus answers a query that takes too long.
            ErrorClass::Timeout => StatusCode::SERVICE_UNAVAILABLE,
            class => error::status(class),
        }
    }
}

impl From<PromqlError> for ApiError {
    fn from(error: PromqlError) -> Self {
        let message = match &error {
            PromqlError::Parse { .. } => format!("invalid parameter \"query\": {error}"),
            error => chain(error),
        };
        Self { class: error.class(), message }
    }
}

impl From<PatternError> for ApiError {
    fn from(error: PatternError) -> Self {
        Self { class: error.class(), message: error.to_string() }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self { class: error.class(), message: chain(&error) }
    }
}

impl From<FormError> for ApiError {
    fn from(error: FormError) -> Self {
        Self { class: error.class(), message: error.to_string() }
    }
}

impl From<WireError> for ApiError {
    fn from(error: WireError) -> Self {
        Self { class: error.class(), message: chain(&error) }
    }
}

impl From<DecompressError> for ApiError {
    fn from(error: DecompressError) -> Self {
        Self { class: error.class(), message: chain(&error) }
    }
}

impl From<StreamError> for ApiError {
    fn from(error: StreamError) -> Self {
        Self { class: error.class(), message: chain(&error) }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<LimitError> for ApiError {
    fn from(error: LimitError) -> Self {
        Self { class: error.class(), message: error.to_string() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, kind) = (self.status(), self.kind());
        if self.class == ErrorClass::Internal {
            tracing::error!(error = self.message, "a query failed");
        }
        let mut body = format!("{{\"status\":\"error\",\"errorType\":\"{kind}\",\"error\":");
        json::string(&mut body, &brief(self.message));
        body.push('}');
        let mut response = (status, [(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response();
        error::retry_after(&mut response, self.class, "1");
        response
    }
}
