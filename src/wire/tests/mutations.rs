//! Damage to messages that keeps their lengths right: protobuf and JSON as trees, changed and written anew.

use serde_json::Value as Json;

use crate::base::mutate::Mutator;
use crate::wire::protobuf::{Reader, Value, put_bytes, put_fixed32, put_fixed64, put_uint};

#[derive(Clone, Debug)]
enum Field {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Vec<u8>),
    Message(Message),
}

type Message = Vec<(u32, Field)>;

/// The fields of a message, as far as bytes can be told from messages: what reads as one is one.
fn read(bytes: &[u8], depth: usize) -> Option<Message> {
    let mut message = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, value)) = reader.field().ok()? {
        let field = match value {
            Value::Varint(value) => Field::Varint(value),
            Value::Fixed64(value) => Field::Fixed64(value),
            Value::Fixed32(value) => Field::Fixed32(value),
            Value::Bytes(bytes) => match depth.checked_sub(1).and_then(|depth| read(bytes, depth)) {
                Some(inner) if !inner.is_empty() => Field::Message(inner),
                _ => Field::Bytes(bytes.to_vec()),
            },
        };
        message.push((number, field));
    }
    Some(message)
}

fn write(message: &Message, out: &mut Vec<u8>) {
    for (number, field) in message {
        match field {
            Field::Varint(value) => put_uint(out, *number, *value),
            Field::Fixed64(value) => put_fixed64(out, *number, *value),
            Field::Fixed32(value) => put_fixed32(out, *number, *value),
            Field::Bytes(bytes) => put_bytes(out, *number, bytes),
            Field::Message(inner) => {
                let mut bytes = Vec::new();
                write(inner, &mut bytes);
                put_bytes(out, *number, &bytes);
            }
        }
    }
}

/// All messages in a message, itself the first.
fn messages(message: &mut Message) -> usize {
    1 + message
        .iter_mut()
        .map(|(_, field)| if let Field::Message(inner) = field { messages(inner) } else { 0 })
        .sum::<usize>()
}

/// The message of a place in that order.
fn message_at<'m>(message: &'m mut Message, at: &mut usize) -> Option<&'m mut Message> {
    if *at == 0 {
        return Some(message);
    }
    *at -= 1;
    message
        .iter_mut()
        .find_map(|(_, field)| if let Field::Message(inner) = field { message_at(inner, at) } else { None })
}

fn change(own: &mut Message, other: &Field, mutator: &mut Mutator) {
    let at = mutator.below(own.len());
    let Some((number, field)) = own.get_mut(at) else {
        own.push((1 + mutator.below(20) as u32, other.clone()));
        return;
    };
    match mutator.below(9) {
        0 => drop(own.remove(at)),
        1 => {
            let copies = vec![own[at].clone(); 1 + mutator.below(40)];
            own.splice(at..at, copies);
        }
        2 => *number = 1 + mutator.below(20) as u32,
        3 => *field = Field::Varint(mutator.number()),
        4 => *field = Field::Fixed64(mutator.number()),
        5 => *field = other.clone(),
        6 => {
            // Nested in itself.
            for _ in 0..mutator.below(60) {
                let inner = vec![(*number, std::mem::replace(field, Field::Varint(0)))];
                *field = Field::Message(inner);
            }
        }
        7 => {
            let to = mutator.below(own.len());
            own.swap(at, to);
        }
        _ => {
            let bytes = match field {
                Field::Bytes(bytes) => mutator.bytes(bytes),
                Field::Message(inner) => {
                    let mut bytes = Vec::new();
                    write(inner, &mut bytes);
                    mutator.bytes(&bytes)
                }
                Field::Varint(_) | Field::Fixed64(_) | Field::Fixed32(_) => Vec::new(),
            };
            *field = Field::Bytes(bytes);
        }
    }
}

/// A protobuf message with one or two changes; nothing when it is none.
pub(super) fn protobuf(good: &[u8], seed: u64) -> Option<Vec<u8>> {
    let mut mutator = Mutator::new(seed);
    let mut message = read(good, 40)?;
    for _ in 0..=mutator.below(2) {
        let count = messages(&mut message);
        let (mut from, mut to) = (mutator.below(count), mutator.below(count));
        let other = message_at(&mut message, &mut from).filter(|own| !own.is_empty());
        let other = other.map_or(Field::Varint(1), |own| mutator.pick(own).1.clone());
        if let Some(own) = message_at(&mut message, &mut to) {
            change(own, &other, &mut mutator);
        }
    }
    let mut out = Vec::new();
    write(&message, &mut out);
    Some(if mutator.below(8) == 0 { mutator.bytes(&out) } else { out })
}

fn values(value: &mut Json) -> usize {
    1 + match value {
        Json::Array(list) => list.iter_mut().map(values).sum::<usize>(),
        Json::Object(map) => map.values_mut().map(values).sum(),
        _ => 0,
    }
}

fn value_at<'v>(value: &'v mut Json, at: &mut usize) -> Option<&'v mut Json> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        Json::Array(list) => list.iter_mut().find_map(|inner| value_at(inner, at)),
        Json::Object(map) => map.values_mut().find_map(|inner| value_at(inner, at)),
        _ => None,
    }
}

fn change_json(own: &mut Json, other: Json, mutator: &mut Mutator) {
    match (mutator.below(7), own) {
        (0, Json::Array(list)) if !list.is_empty() => drop(list.remove(mutator.below(list.len()))),
        (1, Json::Array(list)) if !list.is_empty() => {
            let copies = vec![mutator.pick(list).clone(); 1 + mutator.below(40)];
            list.extend(copies);
        }
        (0 | 1, Json::Object(map)) if !map.is_empty() => {
            let name = map.keys().nth(mutator.below(map.len())).cloned().unwrap_or_default();
            map.remove(&name);
        }
        (2, own) => (0..mutator.below(60)).for_each(|_| *own = Json::Array(vec![own.take()])),
        (3, own) => *own = Json::from(mutator.number()),
        (4, Json::String(text)) => *text = String::from_utf8_lossy(&mutator.bytes(text.as_bytes())).into_owned(),
        (5, own) => *own = mutator.pick(&[Json::Null, Json::Bool(true), Json::from(1.5), Json::from("")]).clone(),
        (_, own) => *own = other,
    }
}

/// JSON with one or two changes, and now and then its bytes are changed besides; nothing when it is none.
pub(super) fn json(good: &str, seed: u64) -> Option<Vec<u8>> {
    let mut mutator = Mutator::new(seed);
    let mut value: Json = serde_json::from_str(good).ok()?;
    for _ in 0..=mutator.below(2) {
        let count = values(&mut value);
        let (mut from, mut to) = (mutator.below(count), mutator.below(count));
        let other = value_at(&mut value, &mut from).cloned().unwrap_or_default();
        if let Some(own) = value_at(&mut value, &mut to) {
            change_json(own, other, &mut mutator);
        }
    }
    let text = value.to_string().into_bytes();
    Some(if mutator.below(4) == 0 { mutator.bytes(&text) } else { text })
}
