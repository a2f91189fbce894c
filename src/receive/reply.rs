//! What a sender reads: the status and body of each dialect. What was refused is named with its
//! reason; a sender that gets 400 does not send the batch again, and what was good is stored.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderName, Response, StatusCode};

use super::failure::Failure;
use super::otlp;
use super::receiver::{Dialect, Headers, Receiver};
use crate::model::batch::Appended;
use crate::wire::otlp::{Format, response};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Longest text about refused items, in characters.
const SUMMARY_CHARS_MAX: usize = 2_000;

/// The answer to a push over HTTP.
pub(super) fn http(receiver: &Receiver, request: &Headers, outcome: &Result<Appended, Failure>) -> Response<Body> {
    match (receiver.dialect, outcome) {
        (Dialect::RemoteWrite, Ok(appended)) => remote_write(appended),
        (Dialect::Loki | Dialect::Text, Ok(appended)) => taken(appended),
        (Dialect::Otlp, Ok(appended)) => {
            let format = otlp::format(request).unwrap_or(Format::Protobuf);
            let message = response::export(receiver.signal, format, appended.rejected.count(), &summary(appended));
            body(StatusCode::OK, otlp::content_type(format), message)
        }
        (Dialect::Otlp, Err(failure)) => {
            let format = otlp::format(request).unwrap_or(Format::Protobuf);
            let message = response::status(format, failure.grpc_code(), &failure.text(), failure.retry_after());
            with_retry(failure, body(failure.status(), otlp::content_type(format), message))
        }
        (Dialect::RemoteWrite | Dialect::Loki | Dialect::Text, Err(failure)) => {
            with_retry(failure, text(failure.status(), failure.text()))
        }
    }
}

/// What was refused, for the sender.
pub(super) fn summary(appended: &Appended) -> String {
    appended.rejected.summary().chars().take(SUMMARY_CHARS_MAX).collect()
}

fn with_retry(failure: &Failure, mut response: Response<Body>) -> Response<Body> {
    if let Some(seconds) = failure.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn body(status: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn text(status: StatusCode, mut message: String) -> Response<Body> {
    message.push('\n');
    body(status, TEXT, message)
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn taken(appended: &Appended) -> Response<Body> {
    if appended.rejected.is_empty() {
        empty(StatusCode::NO_CONTENT)
    } else {
        text(StatusCode::BAD_REQUEST, summary(appended))
    }
}

/// With the counts that 2.0 asks for; senders of 1.0 do not look at them.
fn remote_write(appended: &Appended) -> Response<Body> {
    let mut response = taken(appended);
    let counts = [
        ("x-prometheus-remote-write-samples-written", appended.accepted.saturating_sub(appended.histograms)),
        ("x-prometheus-remote-write-histograms-written", appended.histograms),
        ("x-prometheus-remote-write-exemplars-written", appended.exemplars),
    ];
    for (name, count) in counts {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(count));
    }
    response
}
