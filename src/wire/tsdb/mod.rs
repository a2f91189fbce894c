//! Blocks of the Prometheus TSDB, read: index, chunks, tombstones, meta.json. Decoders of bytes alone;
//! whoever has the files says which bytes.
//! Spec: <https://github.com/prometheus/prometheus/tree/main/tsdb/docs/format>; the widths of its
//! variable bit encodings are those that all its releases share.

mod bits;
mod bytes;
pub mod chunk;
pub mod index;
pub mod meta;

#[cfg(test)]
mod tests;
