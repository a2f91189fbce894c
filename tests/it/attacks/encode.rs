//! Protobuf, packed bodies and nested texts, written by hand.

use std::io::Write as _;

use crate::bodies::{field, varint};

pub(super) const JSON: &str = "Content-Type: application/json\r\n";
pub(super) const PROTOBUF: &str = "Content-Type: application/x-protobuf\r\n";
pub(super) const SNAPPY: &str = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n";

/// A length-delimited field.
pub(super) fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    field(number, content, &mut out);
    out
}

/// A varint field.
pub(super) fn int(number: u8, value: u64) -> Vec<u8> {
    let mut out = vec![number << 3];
    varint(value, &mut out);
    out
}

/// A field of eight bytes.
pub(super) fn fixed64(number: u8, value: u64) -> Vec<u8> {
    let mut out = vec![number << 3 | 1];
    out.extend(value.to_le_bytes());
    out
}

/// `key` and a text, as OTLP's `KeyValue`.
pub(super) fn attribute(key: &str, value: &str) -> Vec<u8> {
    [bytes(1, key.as_bytes()), bytes(2, &bytes(1, value.as_bytes()))].concat()
}

/// An OTLP request of any signal around one item: resources, scopes and items lie alike in all three.
pub(super) fn otlp(service: &str, items: &[u8]) -> Vec<u8> {
    let resource = bytes(1, &bytes(1, &attribute("service.name", service)));
    bytes(1, &[resource, bytes(2, items)].concat())
}

/// A span as a field of its scope; `more` are further fields of it.
pub(super) fn span(trace: u128, id: u64, start_ns: u64, more: &[u8]) -> Vec<u8> {
    let span = [
        bytes(1, &trace.to_be_bytes()),
        bytes(2, &id.to_be_bytes()),
        bytes(5, b"GET /"),
        fixed64(7, start_ns),
        fixed64(8, start_ns.wrapping_add(5_000_000)),
    ];
    bytes(2, &[&span.concat(), more].concat())
}

/// A log record as a field of its scope.
pub(super) fn record(time_ns: u64, body: &[u8]) -> Vec<u8> {
    bytes(2, &[fixed64(1, time_ns), bytes(5, body)].concat())
}

/// A gauge with one data point of these further fields, as a field of its scope.
pub(super) fn gauge(name: &str, time_ns: u64, more: &[u8]) -> Vec<u8> {
    let point = [&fixed64(3, time_ns), &fixed64(4, 1.0f64.to_bits()), more].concat();
    bytes(2, &[bytes(1, name.as_bytes()), bytes(5, &bytes(1, &point))].concat())
}

/// An `AnyValue` that holds arrays in arrays (or lists of pairs in such), `depth` of them.
pub(super) fn nested_value(depth: usize, pairs: bool) -> Vec<u8> {
    // Written from the inside out: heads are put in front of what is there, backwards.
    let mut reversed: Vec<u8> = bytes(1, b"x").into_iter().rev().collect();
    let wrap = |number: u8, reversed: &mut Vec<u8>| {
        let mut head = vec![number << 3 | 2];
        varint(reversed.len() as u64, &mut head);
        reversed.extend(head.into_iter().rev());
    };
    for _ in 0..depth {
        if pairs {
            wrap(2, &mut reversed);
            wrap(1, &mut reversed);
            wrap(6, &mut reversed);
        } else {
            wrap(1, &mut reversed);
            wrap(5, &mut reversed);
        }
    }
    reversed.reverse();
    reversed
}

/// A message that nests in itself by field `number`, `depth` times.
pub(super) fn nested_message(number: u8, depth: usize) -> Vec<u8> {
    let mut reversed = Vec::new();
    for _ in 0..depth {
        let mut head = vec![number << 3 | 2];
        varint(reversed.len() as u64, &mut head);
        reversed.extend(head.into_iter().rev());
    }
    reversed.reverse();
    reversed
}

/// `mib` mebibytes of zeros, packed.
pub(super) fn gzip_bomb(mib: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    (0..mib).for_each(|_| encoder.write_all(&[0; 1 << 20]).unwrap());
    encoder.finish().unwrap()
}

pub(super) fn deflate_bomb(mib: usize) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    (0..mib).for_each(|_| encoder.write_all(&[0; 1 << 20]).unwrap());
    encoder.finish().unwrap()
}

pub(super) fn zstd_bomb(mib: usize) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    (0..mib).for_each(|_| encoder.write_all(&[0; 1 << 20]).unwrap());
    encoder.finish().unwrap()
}

/// A snappy block that says it holds `claimed` bytes, and one of copies that grow to `mib` mebibytes.
pub(super) fn snappy_lie(claimed: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(claimed, &mut out);
    out.extend([0; 64]);
    out
}

pub(super) fn snappy_bomb(mib: usize) -> Vec<u8> {
    let length = mib << 20;
    let mut out = Vec::with_capacity(length / 20);
    varint(length as u64, &mut out);
    // A literal of one byte, then copies of 64 bytes from one byte back.
    out.extend([0, 0]);
    let mut left = length - 1;
    while left > 0 {
        let size = left.min(64);
        out.extend([((size - 1) as u8) << 2 | 2, 1, 0]);
        left -= size;
    }
    out
}

/// `times` times `open`, `middle`, `times` times `close`.
pub(super) fn nest(open: &str, middle: &str, close: &str, times: usize) -> String {
    format!("{}{middle}{}", open.repeat(times), close.repeat(times))
}

/// `item(0)`, `item(1)`, … with `between` between them.
pub(super) fn list(times: usize, between: &str, item: impl Fn(usize) -> String) -> String {
    (0..times).map(item).collect::<Vec<_>>().join(between)
}
