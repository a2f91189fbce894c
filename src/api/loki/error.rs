//! Errors as Loki's API says them: plain text, one line, with a status by class. The word "timeout"
//! stands in retriable messages only, because Grafana looks for it.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use crate::api::form::FormError;
use crate::base::error::{Classify, ErrorClass, brief, chain};
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
        self.status().1
    }

    fn status(&self) -> (StatusCode, &'static str) {
        match self.class {
            ErrorClass::BadData => (StatusCode::BAD_REQUEST, "bad_data"),
            ErrorClass::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            ErrorClass::Execution => (StatusCode::BAD_REQUEST, "execution"),
            ErrorClass::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            ErrorClass::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
            // 499, nginx's "client closed request"; nobody is there to read it.
            ErrorClass::Canceled => (StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST), "canceled"),
            ErrorClass::Throttled => (StatusCode::TOO_MANY_REQUESTS, "throttled"),
            ErrorClass::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            ErrorClass::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
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
        Self::bad_data(error.to_string())
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
        let mut response = (self.status().0, Body::from(brief(self.message))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
        if matches!(self.class, ErrorClass::Throttled | ErrorClass::Unavailable) {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
        }
        response
    }
}
