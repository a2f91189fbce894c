//! The one handler that runs any row of [`RECEIVERS`](super::RECEIVERS) over HTTP.

use axum::extract::Request;
use axum::http::header::CONTENT_ENCODING;
use axum::response::Response;

use super::failure::Failure;
use super::receiver::{Headers, Receiver};
use super::work::State;
use super::{import, receiver, reply};
use crate::model::batch::Appended;

/// Takes one push and answers it.
pub(super) async fn handle(receiver: &'static Receiver, state: State, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let request_headers = parts.headers;
    let outcome = take(receiver, &state, &request_headers, body).await;
    state.note(receiver, &outcome);
    reply::http(receiver, &request_headers, &outcome)
}

async fn take(
    receiver: &'static Receiver,
    state: &State,
    request_headers: &Headers,
    body: axum::body::Body,
) -> Result<Appended, Failure> {
    let encoding = (receiver.encoding)(request_headers).ok_or_else(|| {
        let name = receiver::text(request_headers, &CONTENT_ENCODING).unwrap_or_default();
        Failure::UnsupportedEncoding(name.chars().take(100).collect())
    })?;
    if let Some(parser) = receiver.lines {
        return import::take(receiver, state, encoding, parser(request_headers, state.now_ms()), body).await;
    }
    let body = state.read(request_headers, body).await?;
    state.run(receiver, request_headers, encoding, body).await
}
