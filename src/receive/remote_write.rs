//! Prometheus remote write, 1.0 and 2.0, told apart by the content type's `proto` parameter.

use super::receiver::{self, Batch, DecodeError, Decoded, Dialect, Headers, Receiver};
use crate::model::batch::Signal;
use crate::wire::decompress::Encoding;
use crate::wire::limits;
use crate::wire::prometheus::{decode_v1_raw, decode_v2_raw, parse_labels};

/// The row of [`RECEIVERS`](super::RECEIVERS).
pub(super) const WRITE: Receiver = Receiver {
    name: "remote_write",
    summary: "Prometheus remote write 1.0 and 2.0: samples, native histograms, exemplars, metadata",
    paths: &["/api/v1/write", "/api/v1/push"],
    grpc: None,
    signal: Signal::Metrics,
    spec: "https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/",
    dialect: Dialect::RemoteWrite,
    encoding,
    decode,
    growth: 3,
    lines: None,
    untyped: None,
};

/// Senders of 1.0 may leave the header out; the body is snappy all the same. Both specifications know snappy alone;
/// vmagent sends zstd where it is taken. Anything else is 415, upon which senders fall back.
fn encoding(headers: &Headers) -> Option<Encoding> {
    let encoding = receiver::encoding(headers, Encoding::Snappy)?;
    matches!(encoding, Encoding::Snappy | Encoding::Zstd).then_some(encoding)
}

fn decode<'a>(headers: &Headers, body: &'a [u8], limits: &limits::Options) -> Result<Decoded<'a>, DecodeError> {
    let unsupported = |got: &str| DecodeError::UnsupportedType {
        got: got.to_owned(),
        expected: "application/x-protobuf with proto=prometheus.WriteRequest or proto=io.prometheus.write.v2.Request",
    };
    match receiver::media_type(headers).as_str() {
        "" | "application/x-protobuf" | "application/protobuf" => {}
        other => return Err(unsupported(other)),
    }
    let decoded = match receiver::media_parameter(headers, "proto") {
        None | Some("prometheus.WriteRequest") => decode_v1_raw(body, limits)?,
        Some("io.prometheus.write.v2.Request") => decode_v2_raw(body, limits)?,
        Some(other) => return Err(unsupported(other)),
    };
    let batch = Batch::Raw { batch: decoded.batch, parse: |labels| parse_labels(labels, &limits::DEFAULT) };
    Ok(Decoded { batch, rejected: decoded.rejected })
}
