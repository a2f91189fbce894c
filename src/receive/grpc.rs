//! OTLP over gRPC, unary calls only, on HTTP/2: one message in, one message and trailers out. The rows, caps and
//! decode functions are those of HTTP; frames and statuses are `wire::grpc`. A call ends when its caller's time is over.

use std::future::ready;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, Full};

use super::failure::Failure;
use super::receiver::{self, Headers, Receiver};
use super::work::{Arrived, State};
use super::{otlp, reply};
use crate::model::batch::Appended;
use crate::wire::decompress::Encoding;
use crate::wire::grpc::{self, Code};
use crate::wire::limits;
use crate::wire::otlp::{Format, response};

/// Takes one call and answers it.
pub(super) async fn handle(receiver: &'static Receiver, state: State, request: Request) -> Response {
    let (request, body) = request.into_parts();
    if !receiver::media_type(&request.headers).starts_with(grpc::CONTENT_TYPE) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let timeout = receiver::text(&request.headers, &HeaderName::from_static(grpc::TIMEOUT)).and_then(grpc::timeout);
    let take = take(receiver, &state, &request, body);
    let outcome = match timeout {
        Some(timeout) => tokio::time::timeout(timeout, take).await.unwrap_or(Err(Failure::CallersTime(timeout))),
        None => take.await,
    };
    state.note(receiver, &request, &outcome);
    match outcome {
        Ok(appended) => match reply::retry_after(&appended) {
            Some(after) => refusal(Code::ResourceExhausted, &reply::summary(&appended), Some(after)),
            None => success(receiver, &appended),
        },
        Err(failure) => refusal(failure.grpc_code(), &failure.text(), failure.retry_after()),
    }
}

async fn take(receiver: &'static Receiver, state: &State, request: &Parts, body: Body) -> Result<Appended, Failure> {
    let body = state.read(request, body).await?;
    let (encoding, message) = unframe(&request.headers, &body)?;
    let mut plain = Headers::new();
    plain.insert(CONTENT_TYPE, otlp::content_type(Format::Protobuf));
    state.run(receiver, &plain, encoding, message).await
}

/// The one message of a unary call, and how it is packed.
fn unframe(request: &Headers, body: &Arrived) -> Result<(Encoding, Arrived), Failure> {
    let frame = grpc::only_frame(&body.bytes, limits::DEFAULT.body_bytes_max)?;
    let name = receiver::text(request, &HeaderName::from_static(grpc::ENCODING)).unwrap_or_default();
    let encoding = frame.encoding(name);
    let encoding = encoding.ok_or_else(|| Failure::UnsupportedEncoding(name.chars().take(100).collect()))?;
    Ok((encoding, body.part(body.bytes.slice_ref(frame.message))))
}

fn success(receiver: &Receiver, appended: &Appended) -> Response {
    let rejected = appended.rejected.count();
    let message = response::export(receiver.signal, Format::Protobuf, rejected, &reply::summary(appended));
    let mut frame = Vec::with_capacity(grpc::HEADER_BYTES + message.len());
    grpc::put_frame(&mut frame, &message);
    let mut trailers = Headers::new();
    trailers.insert(HeaderName::from_static(grpc::STATUS), HeaderValue::from(0));
    let body = Full::new(Bytes::from(frame)).with_trailers(ready(Some(Ok(trailers))));
    answer(Body::new(body))
}

fn answer(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    headers.insert(HeaderName::from_static(grpc::ACCEPT_ENCODING), HeaderValue::from_static(grpc::ENCODINGS));
    response
}

/// An error is said in the headers alone, without a message.
fn refusal(code: Code, reason: &str, retry_after: Option<u32>) -> Response {
    let mut response = answer(Body::empty());
    for (name, value) in grpc::refusal(code, reason, retry_after) {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}
