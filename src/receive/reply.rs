//! What a sender reads: the status and body of each dialect. What was refused is named with its
//! reason; a sender that gets 400 does not send the batch again, one that gets 429 does, and what was good is stored.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderName, Response, StatusCode};

use super::failure::Failure;
use super::otlp;
use super::receiver::{Dialect, Headers, Receiver};
use crate::model::batch::Appended;
use crate::wire::grpc::Code;
use crate::wire::otlp::{Format, response};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Longest text about refused items, in characters.
const SUMMARY_CHARS_MAX: usize = 2_000;

/// Reasons of refusal that pass: what has no room now may be taken when it is sent again, and sending again what is
/// stored does no harm. The limit of one metric's series is not among them: it would hold back all that its sender has.
const PASSING: &[&str] = &["series_limit", "stream_limit"];
/// Seconds after which there may be room: streams and series go when heads are flushed.
const ROOM_AFTER_SECONDS: u32 = 10;

/// Seconds after which a sender should send again what was refused; `None` when that would change nothing.
pub(super) fn retry_after(appended: &Appended) -> Option<u32> {
    appended.rejected.iter().any(|(reason, _)| PASSING.contains(&reason)).then_some(ROOM_AFTER_SECONDS)
}

/// The answer to a push over HTTP.
pub(super) fn http(receiver: &Receiver, request: &Headers, outcome: &Result<Appended, Failure>) -> Response<Body> {
    match (receiver.dialect, outcome) {
        (Dialect::RemoteWrite, Ok(appended)) => remote_write(appended),
        (Dialect::Loki | Dialect::Text, Ok(appended)) => taken(appended),
        (Dialect::Otlp, Ok(appended)) if retry_after(appended).is_some() => {
            let format = otlp::format(request).unwrap_or(Format::Protobuf);
            let code = Code::ResourceExhausted.number();
            let message = response::status(format, code, &summary(appended), retry_after(appended));
            with_retry(retry_after(appended), body(StatusCode::TOO_MANY_REQUESTS, otlp::content_type(format), message))
        }
        (Dialect::Otlp, Ok(appended)) => {
            let format = otlp::format(request).unwrap_or(Format::Protobuf);
            let message = response::export(receiver.signal, format, appended.rejected.count(), &summary(appended));
            body(StatusCode::OK, otlp::content_type(format), message)
        }
        (Dialect::Otlp, Err(failure)) => {
            let format = otlp::format(request).unwrap_or(Format::Protobuf);
            let message =
                response::status(format, failure.grpc_code().number(), &failure.text(), failure.retry_after());
            with_retry(failure.retry_after(), body(failure.status(), otlp::content_type(format), message))
        }
        (Dialect::RemoteWrite | Dialect::Loki | Dialect::Text, Err(failure)) => {
            with_retry(failure.retry_after(), text(failure.status(), failure.text()))
        }
    }
}

/// What was refused, for the sender.
pub(super) fn summary(appended: &Appended) -> String {
    appended.rejected.summary().chars().take(SUMMARY_CHARS_MAX).collect()
}

fn with_retry(after_seconds: Option<u32>, mut response: Response<Body>) -> Response<Body> {
    if let Some(seconds) = after_seconds {
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
        return empty(StatusCode::NO_CONTENT);
    }
    let retry_after = retry_after(appended);
    let status = if retry_after.is_some() { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::BAD_REQUEST };
    with_retry(retry_after, text(status, summary(appended)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::RECEIVERS;

    #[test]
    fn limits_that_pass_are_429_for_every_sender_and_others_are_not() {
        for receiver in RECEIVERS {
            let refused = |reason: &'static str| {
                let mut appended = Appended { accepted: 3, ..Appended::default() };
                appended.rejected.add(reason, 1, || "an example".to_owned());
                http(receiver, &Headers::new(), &Ok(appended))
            };
            for reason in PASSING {
                let answer = refused(reason);
                assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "{}", receiver.name);
                let after = answer.headers().get(RETRY_AFTER);
                assert_eq!(after, Some(&HeaderValue::from(ROOM_AFTER_SECONDS)), "{}", receiver.name);
            }
            for reason in ["too_old", "metric_series_limit"] {
                assert_ne!(refused(reason).status(), StatusCode::TOO_MANY_REQUESTS, "{}", receiver.name);
            }
        }
    }
}
