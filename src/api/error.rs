//! What the dialects' errors share: the HTTP status of a class, and answers that are one line of text.
//! A dialect whose own server answers otherwise says so in its `error.rs`, for those classes alone.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

use crate::base::error::{ErrorClass, brief};

/// The HTTP status of a class, where a dialect has no other.
pub(super) fn status(class: ErrorClass) -> StatusCode {
    match class {
        ErrorClass::BadData => StatusCode::BAD_REQUEST,
        ErrorClass::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorClass::Execution => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorClass::NotFound => StatusCode::NOT_FOUND,
        ErrorClass::Timeout => StatusCode::GATEWAY_TIMEOUT,
        // 499, nginx's "client closed request"; nobody is there to read it.
        ErrorClass::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        ErrorClass::Throttled => StatusCode::TOO_MANY_REQUESTS,
        ErrorClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorClass::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Says when to come again, after so many seconds, where that can help.
pub(super) fn retry_after(response: &mut Response, class: ErrorClass, seconds: &'static str) {
    if matches!(class, ErrorClass::Throttled | ErrorClass::Unavailable) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    }
}

/// An error as one line of text.
pub(super) fn text(status: StatusCode, message: String) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], brief(message)).into_response()
}
