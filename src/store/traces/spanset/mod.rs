//! Spans in bytes: the one encoding of write-ahead records, head chunks and blocks of parts.
//! Layout: what repeats is written once (resources, scopes, shapes of attribute lists, strings of one
//! attribute), and each field and each attribute is a column, so that equal things lie together.
//! Invariants: decoding gives back exactly what was encoded, doubles by their bits; bytes that no
//! encoder wrote are an error, never a panic; memory is charged before the spans are handed out.
//! Bytes: docs/format/traces.md.

mod decode;
mod encode;
mod format;
mod pack;
mod set;
mod value;
mod walk;

pub(super) use decode::Decoded;
pub(super) use encode::encode;
pub(super) use format::{DecodeError, Owner, Type};
pub(super) use pack::{pack, unpack};
pub(super) use set::{Column, SpanSet};
pub(super) use value::DEPTH_MAX;

#[cfg(test)]
mod tests;
