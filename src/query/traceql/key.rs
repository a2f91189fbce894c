//! Values as bytes: equal keys are equal values, and the order of keys is by type, then by value.

use super::value::Value;
use crate::model::span::AttrValue;

/// Adds a value to a key.
pub(super) fn push(key: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Bool(bool) => key.extend([1, u8::from(*bool)]),
        Value::Duration(ns) => push_int(key, 2, *ns),
        Value::Float(float) => push_float(key, *float),
        Value::Int(int) => push_int(key, 4, *int),
        Value::Kind(kind) => push_text(key, 5, kind.name()),
        Value::List(list) => {
            key.push(6);
            list.iter().for_each(|item| push_attr(key, item));
            key.push(END);
        }
        Value::Many(values) => {
            key.push(7);
            values.iter().for_each(|value| push(key, value));
            key.push(END);
        }
        Value::Nil => key.push(8),
        Value::Status(status) => push_text(key, 9, status.name()),
        Value::Str(text) => push_text(key, 10, text),
        Value::Unknown => key.push(11),
    }
}

/// The key of one value.
pub(super) fn of(value: &Value<'_>) -> Vec<u8> {
    let mut key = Vec::new();
    push(&mut key, value);
    key
}

/// Behind the items of a list; below every type of value, so that a list comes before a longer one.
const END: u8 = 0;

/// The store bounds how deep attributes nest.
fn push_attr(key: &mut Vec<u8>, attr: &AttrValue) {
    match attr {
        AttrValue::Bytes(bytes) => push_bytes(key, 12, bytes),
        AttrValue::Map(members) => {
            key.push(13);
            for (name, value) in members {
                push_text(key, 10, name);
                push_attr(key, value);
            }
            key.push(END);
        }
        other => push(key, &Value::of_attr(other)),
    }
}

fn push_int(key: &mut Vec<u8>, tag: u8, int: i64) {
    key.push(tag);
    key.extend((int.cast_unsigned() ^ (1 << 63)).to_be_bytes());
}

/// In the order of numbers, every NaN last.
fn push_float(key: &mut Vec<u8>, float: f64) {
    let bits = if float.is_nan() { f64::NAN.to_bits() } else { float.to_bits() };
    let ordered = if bits >> 63 == 0 { bits | 1 << 63 } else { !bits };
    key.push(3);
    key.extend(ordered.to_be_bytes());
}

fn push_text(key: &mut Vec<u8>, tag: u8, text: &str) {
    push_bytes(key, tag, text.as_bytes());
}

/// A zero within is written so that it does not look like the end.
fn push_bytes(key: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    key.push(tag);
    for (at, piece) in bytes.split(|byte| *byte == 0).enumerate() {
        if at > 0 {
            key.extend([0, 255]);
        }
        key.extend(piece);
    }
    key.extend([0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_as_values_do_and_are_in_their_order() {
        let text = |text: &str| Value::Str(text.to_owned().into());
        let list = [AttrValue::Int(1), AttrValue::Str("a".into())];
        let nested = [AttrValue::Array(list.to_vec())];
        let values = [
            Value::Bool(false),
            Value::Duration(-1),
            Value::Duration(1),
            Value::Float(f64::NEG_INFINITY),
            Value::Float(-1.5),
            Value::Float(0.5),
            Value::Float(f64::NAN),
            Value::Int(-9),
            Value::Int(9),
            Value::Int(10),
            Value::List(&list[..1]),
            Value::List(&list),
            Value::List(&nested),
            Value::Nil,
            text(""),
            text("a"),
            text("a\0b"),
            text("ab"),
        ];
        for (at, value) in values.iter().enumerate() {
            for later in &values[at + 1..] {
                assert!(of(value) < of(later), "{value:?} {later:?}");
            }
            assert_eq!(of(value), of(&value.clone()));
        }
    }
}
