//! Loki's push: protobuf (`loki_protobuf.rs`) and JSON (`loki_json.rs`); both build streams by
//! `loki_streams.rs`. Spec: <https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs>.

pub use super::loki_json::decode_json;
pub use super::loki_protobuf::decode_protobuf;

#[cfg(test)]
#[path = "loki_tests.rs"]
mod tests;
