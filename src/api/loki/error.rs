//! Errors as Loki's API says them: plain text, one line, with a status by class. The word "timeout"
//! stands in retriable messages only, because Grafana looks for it.

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::api::error;
use crate::api::form::FormError;
use crate::base::error::{Classify, ErrorClass, chain};
use crate::base::limits::LimitError;
use crate::query::logql::{LogqlError, ParseError};
use crate::store::StoreError;

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

    /// Too much of something at once.
    pub(super) fn throttled(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::Throttled, message: message.into() }
    }

    /// The text for the client.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The outcome, as counters name it.
    pub(super) fn outcome(&self) -> &'static str {
        match self.class {
            ErrorClass::BadData => "bad_data",
            ErrorClass::TooLarge => "too_large",
            ErrorClass::Execution => "execution",
            ErrorClass::NotFound => "not_found",
            ErrorClass::Timeout => "timeout",
            ErrorClass::Canceled => "canceled",
            ErrorClass::Throttled => "throttled",
            ErrorClass::Unavailable => "unavailable",
            ErrorClass::Internal => "internal",
        }
    }

    fn status(&self) -> StatusCode {
        match self.class {
            // Loki has one status for all that is wrong with a query.
            ErrorClass::Execution => StatusCode::BAD_REQUEST,
            class => error::status(class),
        }
    }
}

impl From<LogqlError> for ApiError {
    fn from(error: LogqlError) -> Self {
        Self { class: error.class(), message: chain(&error) }
    }
}

impl From<ParseError> for ApiError {
    fn from(error: ParseError) -> Self {
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

impl From<LimitError> for ApiError {
    fn from(error: LimitError) -> Self {
        Self { class: error.class(), message: error.to_string() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = error::text(self.status(), self.message);
        error::retry_after(&mut response, self.class, "5");
        response
    }
}
