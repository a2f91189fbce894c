//! OTLP over gRPC, unary calls only, framed by hand on HTTP/2: one message of five bytes' header and
//! a body in, one message and trailers out. The rows, caps and decode functions are those of HTTP.
//! Spec: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::fmt::Write as _;
use std::future::ready;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http_body_util::{BodyExt as _, Full};

use super::failure::Failure;
use super::receiver::{self, Headers, Receiver};
use super::work::{Arrived, State};
use super::{otlp, reply};
use crate::model::batch::Appended;
use crate::wire::decompress::Encoding;
use crate::wire::otlp::{Format, response};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Longest `grpc-message`, in characters before encoding: clients limit their headers.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// Takes one call and answers it.
pub(super) async fn handle(receiver: &'static Receiver, state: State, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !receiver::media_type(&parts.headers).starts_with("application/grpc") {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let outcome = take(receiver, &state, &parts.headers, body).await;
    state.note(receiver, &outcome);
    match outcome {
        Ok(appended) => success(receiver, &appended),
        Err(failure) => refusal(&failure),
    }
}

async fn take(receiver: &'static Receiver, state: &State, request: &Headers, body: Body) -> Result<Appended, Failure> {
    let body = state.read(request, body).await?;
    let (encoding, message) = unframe(request, &body)?;
    let mut plain = Headers::new();
    plain.insert(CONTENT_TYPE, otlp::content_type(Format::Protobuf));
    state.run(receiver, &plain, encoding, message).await
}

/// The one message of a unary call, and how it is packed.
fn unframe(request: &Headers, body: &Arrived) -> Result<(Encoding, Arrived), Failure> {
    let cut = |what: &str| Failure::Cut(what.to_owned());
    let Some(([packed, length @ ..], message)) = body.bytes.split_first_chunk::<5>() else {
        return Err(cut("a gRPC message has a header of five bytes"));
    };
    if u64::from(u32::from_be_bytes(*length)) != message.len() as u64 {
        return Err(cut("the body is not one gRPC message of the length it says"));
    }
    let name = receiver::text(request, &GRPC_ENCODING).unwrap_or_default();
    let encoding = match packed {
        0 => Encoding::Identity,
        1 => {
            Encoding::from_header(name).ok_or_else(|| Failure::UnsupportedEncoding(name.chars().take(100).collect()))?
        }
        _ => return Err(cut("unknown flags in the header of a gRPC message")),
    };
    Ok((encoding, body.part(body.bytes.slice(5..))))
}

fn success(receiver: &Receiver, appended: &Appended) -> Response {
    let rejected = appended.rejected.count();
    let message = response::export(receiver.signal, Format::Protobuf, rejected, &reply::summary(appended));
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(&message);
    let mut trailers = Headers::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from(0));
    let body = Full::new(Bytes::from(frame)).with_trailers(ready(Some(Ok(trailers))));
    answer(Body::new(body))
}

fn answer(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response.headers_mut().insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("identity,gzip,zstd"));
    response
}

/// An error is said in the headers alone, without a message.
fn refusal(failure: &Failure) -> Response {
    let mut response = answer(Body::empty());
    let headers = response.headers_mut();
    let (code, text) = (failure.grpc_code(), failure.text());
    headers.insert(GRPC_STATUS, HeaderValue::from(code));
    let text: String = text.chars().take(MESSAGE_CHARS_MAX).collect();
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&text)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    if let Some(seconds) = failure.retry_after() {
        let details = response::status(Format::Protobuf, code, &text, Some(seconds));
        if let Ok(details) = HeaderValue::from_str(&STANDARD_NO_PAD.encode(details)) {
            headers.insert(GRPC_DETAILS, details);
        }
    }
    response
}

/// A `grpc-message`: what is not printable ASCII, and `%`, in hex.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encoded("a 5% ü\n"), "a 5%25 %C3%BC%0A");
    }
}
