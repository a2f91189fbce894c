//! Loki's push, protobuf or JSON. What is not JSON is read as protobuf, as Loki does.

use axum::http::HeaderValue;

use super::receiver::{self, Batch, DecodeError, Decoded, Dialect, Headers, Receiver};
use crate::model::batch::Signal;
use crate::wire::decompress::Encoding;
use crate::wire::error::WireError;
use crate::wire::limits;
use crate::wire::loki::{decode_json, decode_protobuf};

/// The row of [`RECEIVERS`](super::RECEIVERS).
pub(super) const PUSH: Receiver = Receiver {
    name: "loki_push",
    summary: "Loki push, protobuf and JSON: lines with structured metadata",
    paths: &["/loki/api/v1/push", "/api/prom/push"],
    grpc: None,
    signal: Signal::Logs,
    spec: "https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs",
    dialect: Dialect::Loki,
    encoding,
    decode,
    growth: 5,
    lines: None,
    untyped: Some(untyped),
};

const JSON: &str = "application/json";

/// Promtail sends protobuf as raw snappy and no header that says so.
fn encoding(headers: &Headers) -> Option<Encoding> {
    let missing = if receiver::media_type(headers) == JSON { Encoding::Identity } else { Encoding::Snappy };
    receiver::encoding(headers, missing)
}

/// JSON of a sender who does not say so, as `curl -d` does not.
fn untyped(body: &[u8]) -> Option<HeaderValue> {
    // A block of snappy may begin with `{`, but what follows in JSON no block can have there: only a space could be, and
    // then the first byte of a protobuf push is a line feed.
    let is_json = match body {
        [b'{', b' ', b'\n', ..] => false,
        [b'{', ..] => true,
        _ => false,
    };
    is_json.then_some(HeaderValue::from_static(JSON))
}

fn decode(headers: &Headers, body: &[u8], limits: &limits::Options) -> Result<Decoded<'static>, DecodeError> {
    let malformed = |what: &str| WireError::malformed("push request", what);
    if body.is_empty() {
        return Err(malformed("the body is empty").into());
    }
    let decoded = match receiver::media_type(headers).as_str() {
        "" => return Err(malformed("no Content-Type header; send application/x-protobuf or application/json").into()),
        JSON => decode_json(body, limits)?,
        _ => decode_protobuf(body, limits)?,
    };
    Ok(Decoded { batch: Batch::Logs(decoded.batch), rejected: decoded.rejected })
}
