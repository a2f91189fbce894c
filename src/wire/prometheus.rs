//! Prometheus remote write, 1.0 and 2.0. Only bytes that are no protobuf, or too much of it, refuse the
//! whole body. Spec: <https://prometheus.io/docs/specs/prw/remote_write_spec/>.

pub use super::prometheus_raw::{decode_v1_raw, parse_labels};
pub use super::prometheus_v1::decode_v1;
pub use super::prometheus_v2::{decode_v2, decode_v2_raw};

#[cfg(test)]
#[path = "prometheus_tests.rs"]
mod tests;
