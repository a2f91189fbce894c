//! Loki's push, protobuf or JSON. What is not JSON is read as protobuf, as Loki does.

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
};

const JSON: &str = "application/json";

/// Promtail sends protobuf as raw snappy and no header that says so.
fn encoding(headers: &Headers) -> Option<Encoding> {
    let missing = if receiver::media_type(headers) == JSON { Encoding::Identity } else { Encoding::Snappy };
    receiver::encoding(headers, missing)
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
