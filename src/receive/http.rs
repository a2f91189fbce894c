//! The one handler that runs any row of [`RECEIVERS`](super::RECEIVERS) over HTTP.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::Response;

use super::failure::Failure;
use super::receiver::{Headers, Receiver};
use super::work::State;
use super::{import, receiver, reply};
use crate::model::batch::Appended;

/// Takes one push and answers it.
pub(super) async fn handle(receiver: &'static Receiver, state: State, request: Request) -> Response {
    let (request, body) = request.into_parts();
    let outcome = take(receiver, &state, &request, body).await;
    state.note(receiver, &request, &outcome);
    reply::http(receiver, &request.headers, &outcome)
}

async fn take(receiver: &'static Receiver, state: &State, request: &Parts, body: Body) -> Result<Appended, Failure> {
    let headers = &request.headers;
    let encoding = (receiver.encoding)(headers).ok_or_else(|| {
        let name = receiver::text(headers, &CONTENT_ENCODING).unwrap_or_default();
        Failure::UnsupportedEncoding(name.chars().take(100).collect())
    })?;
    if let Some(parser) = receiver.lines {
        let account = receiver::account(request);
        return import::take(receiver, state, encoding, parser(headers, state.now_ms()), body, account).await;
    }
    let body = state.read(request, body).await?;
    if let Some(typed) = typed(receiver, headers, &body.bytes) {
        let encoding = (receiver.encoding)(&typed).unwrap_or(encoding);
        return state.run(receiver, &typed, encoding, body).await;
    }
    state.run(receiver, headers, encoding, body).await
}

/// The headers with a content type, where they have none and the body itself says what it is.
fn typed(receiver: &Receiver, headers: &Headers, body: &[u8]) -> Option<Headers> {
    let says = receiver.untyped?;
    if !matches!(receiver::media_type(headers).as_str(), "" | "application/x-www-form-urlencoded") {
        return None;
    }
    let mut typed = headers.clone();
    typed.insert(CONTENT_TYPE, says(body)?);
    Some(typed)
}
